-- Whose view a result is: a test's own (client), or, of spans that a test's requests left behind, the service's.
-- remap: 0 as it was imported; n when the n-th remapping of its run gave it its route.
ALTER TABLE ${database}.synthetic_results ${on_cluster}
    ADD COLUMN IF NOT EXISTS vantage Enum8('server' = 0, 'client' = 1) DEFAULT 'client',
    ADD COLUMN IF NOT EXISTS remap UInt32 DEFAULT 0;

-- What a remapping is to change, written before its first correction, as synthetic_imports is for an import: of two at
-- once one row stays, and both carry out what it says.
CREATE TABLE IF NOT EXISTS ${database}.synthetic_remaps ${on_cluster} (
    digest FixedString(64),
    number UInt32,
    writer String,
    plan String CODEC(ZSTD(3)),
    at DateTime64(3, 'UTC') DEFAULT now64(3)
) ENGINE = ${replicated}MergeTree
ORDER BY (digest, number, at)
SETTINGS ${deduplication_window};

-- As before (0005), but for the vantage; a request that was remapped is in the rollup already, by correction rows.
ALTER TABLE ${database}.synthetic_results_to_latency_minute ${on_cluster} MODIFY QUERY
SELECT
    toStartOfMinute(start) AS minute,
    region, service, release AS version, environment, method, route,
    multiIf(status >= 100, concat(toString(intDiv(status, 100)), 'xx'), duration_ms IS NULL, 'none', failed, 'error', 'ok') AS status_class,
    CAST('synthetic', 'Enum8(\'real\' = 0, \'synthetic\' = 1, \'suspected\' = 2)') AS source,
    vantage,
    run AS test_run,
    sum(r.requests) AS requests,
    sumIf(r.requests, failed) AS errors,
    toFloat64(sum(r.requests)) AS weight,
    toFloat64(sum(r.requests)) AS weight_squared,
    toFloat64(sumIf(r.requests, failed)) AS error_weight,
    sumMapIf(map(bucket, toFloat64(r.requests)), duration_ms IS NOT NULL) AS buckets,
    sumMapIf(map(bucket, toFloat64(0)), 0) AS buckets_squared
FROM (
    SELECT *, toInt16(ceil(log2(greatest(coalesce(duration_ms, 0), 1e-6) / 1e3) * 32) - 1) AS bucket
    FROM ${database}.synthetic_results
    WHERE remap = 0
) AS r
GROUP BY minute, region, service, version, environment, method, route, status_class, source, vantage, test_run;

-- One row a run of a test tool; a file's content digest makes the same file recognisable.
CREATE TABLE IF NOT EXISTS ${database}.synthetic_runs ${on_cluster} (
    run String,
    digest FixedString(64),
    test LowCardinality(String),
    tool LowCardinality(String),
    format LowCardinality(String),
    region LowCardinality(String),
    service LowCardinality(String),
    release LowCardinality(String),
    environment LowCardinality(String),
    start DateTime64(6, 'UTC'),
    end DateTime64(6, 'UTC'),
    requests UInt64,
    failed UInt64,
    generated Bool,
    summary String CODEC(ZSTD(3)),
    imported_at DateTime64(3, 'UTC') DEFAULT now64(3)
) ENGINE = ${replicated}ReplacingMergeTree(imported_at)
ORDER BY (digest)
SETTINGS ${deduplication_window};

-- Requests as the load tool saw them. requests > 1: a tool that gives only a histogram; duration_ms is NULL
-- where no answer came (a refused connection has no latency).
CREATE TABLE IF NOT EXISTS ${database}.synthetic_results ${on_cluster} (
    run String,
    start DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    duration_ms Nullable(Float64) CODEC(ZSTD(1)),
    requests UInt64 CODEC(ZSTD(1)),
    region LowCardinality(String),
    service LowCardinality(String),
    release LowCardinality(String),
    environment LowCardinality(String),
    method LowCardinality(String),
    route LowCardinality(String),
    name LowCardinality(String),
    status UInt16,
    failed Bool,
    error LowCardinality(String),
    trace_id String CODEC(ZSTD(1))
) ENGINE = ${replicated}MergeTree
PARTITION BY toYYYYMM(start)
ORDER BY (run, service, route, start)
SETTINGS ${deduplication_window};

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.synthetic_results_to_latency_minute ${on_cluster} TO ${database}.latency_minute AS
SELECT
    toStartOfMinute(start) AS minute,
    region, service, release AS version, environment, method, route,
    multiIf(status >= 100, concat(toString(intDiv(status, 100)), 'xx'), duration_ms IS NULL, 'none', failed, 'error', 'ok') AS status_class,
    CAST('synthetic', 'Enum8(\'real\' = 0, \'synthetic\' = 1, \'suspected\' = 2)') AS source,
    CAST('client', 'Enum8(\'server\' = 0, \'client\' = 1)') AS vantage,
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
) AS r
GROUP BY minute, region, service, version, environment, method, route, status_class, source, vantage, test_run;

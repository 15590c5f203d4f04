-- The rollup, the one currency of all analysis: per minute and endpoint an OpenTelemetry base-2
-- exponential histogram of latency in seconds, scale 5 (base 2^(1/32), relative error <= 1.1 %).
-- Bucket i holds 2^(i/32) < x <= 2^((i+1)/32). buckets: sum of sampling weights; buckets_squared: sum of
-- squared weights, written only where a weight is not 1 (else it equals buckets).
CREATE TABLE IF NOT EXISTS ${database}.latency_minute ${on_cluster} (
    minute DateTime('UTC') CODEC(Delta, ZSTD(1)),
    region LowCardinality(String),
    service LowCardinality(String),
    version LowCardinality(String),
    environment LowCardinality(String),
    method LowCardinality(String),
    route LowCardinality(String),
    status_class LowCardinality(String),
    source Enum8('real' = 0, 'synthetic' = 1, 'suspected' = 2),
    vantage Enum8('server' = 0, 'client' = 1),
    test_run LowCardinality(String),
    requests SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    errors SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    weight SimpleAggregateFunction(sum, Float64) CODEC(ZSTD(1)),
    weight_squared SimpleAggregateFunction(sum, Float64) CODEC(ZSTD(1)),
    error_weight SimpleAggregateFunction(sum, Float64) CODEC(ZSTD(1)),
    buckets SimpleAggregateFunction(sumMap, Map(Int16, Float64)) CODEC(ZSTD(1)),
    buckets_squared SimpleAggregateFunction(sumMap, Map(Int16, Float64)) CODEC(ZSTD(1))
) ENGINE = ${replicated}AggregatingMergeTree
PARTITION BY toYYYYMM(minute)
ORDER BY (service, route, method, region, minute, source, vantage, status_class, version, environment, test_run)
SETTINGS ${deduplication_window};

-- One server (or consumer) span is one request. status_class 'error' is a failure that answered with
-- no HTTP status of its own (gRPC, messaging, an exception): like 5xx it is no latency of an answer.
CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.span_rows_to_latency_minute ${on_cluster} TO ${database}.latency_minute AS
SELECT
    toStartOfMinute(start) AS minute,
    region, service, version, environment, method, route,
    multiIf(http_status >= 100, concat(toString(intDiv(http_status, 100)), 'xx'), status_code = 'Error', 'error', 'ok') AS status_class,
    source,
    CAST('server', 'Enum8(\'server\' = 0, \'client\' = 1)') AS vantage,
    test_run,
    count() AS requests,
    countIf(http_status >= 500 OR status_code = 'Error') AS errors,
    sum(r.weight) AS weight,
    sum(r.weight * r.weight) AS weight_squared,
    sumIf(r.weight, http_status >= 500 OR status_code = 'Error') AS error_weight,
    sumMap(map(bucket, r.weight)) AS buckets,
    sumMapIf(map(bucket, r.weight * r.weight), r.weight != 1) AS buckets_squared
FROM (
    SELECT *, toInt16(ceil(log2(greatest(duration_ns, 1) / 1e9) * 32) - 1) AS bucket
    FROM ${database}.span_rows
    WHERE problem = '' AND kind IN ('Server', 'Consumer')
) AS r
GROUP BY minute, region, service, version, environment, method, route, status_class, source, vantage, test_run;

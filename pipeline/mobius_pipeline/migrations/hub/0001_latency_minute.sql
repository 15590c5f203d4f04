-- What may leave the zones: rollup cells with enough distinct subjects, never rows, never exemplars.
-- The shape is that of a zone's latency_minute, with the zone in front.
CREATE TABLE IF NOT EXISTS ${database}.latency_minute ${on_cluster} (
    zone LowCardinality(String),
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
    requests SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    errors SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    weight SimpleAggregateFunction(sum, Float64) CODEC(ZSTD(1)),
    weight_squared SimpleAggregateFunction(sum, Float64) CODEC(ZSTD(1)),
    error_weight SimpleAggregateFunction(sum, Float64) CODEC(ZSTD(1)),
    buckets SimpleAggregateFunction(sumMap, Map(Int16, Float64)) CODEC(ZSTD(1)),
    buckets_squared SimpleAggregateFunction(sumMap, Map(Int16, Float64)) CODEC(ZSTD(1))
) ENGINE = ${replicated}AggregatingMergeTree
PARTITION BY toYYYYMM(minute)
ORDER BY (service, route, method, zone, region, minute, source, vantage, status_class, version, environment)
SETTINGS ${deduplication_window};

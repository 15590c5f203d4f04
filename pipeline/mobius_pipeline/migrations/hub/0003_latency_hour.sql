-- dangerous: latency_minute was never written; cells cross hour by hour, with their totals, into the table below
DROP TABLE IF EXISTS ${database}.latency_minute ${on_cluster};

-- What left the zones. A cell has its histogram (as in a zone's latency_minute, of all its requests, ends merged); a
-- total a number of requests alone. Null in a column: all of it, added up. One hour of a zone is one insert with one
-- deduplication token, so it stands here once, as it was first read.
CREATE TABLE IF NOT EXISTS ${database}.latency_hour ${on_cluster} (
    zone LowCardinality(String),
    hour DateTime('UTC') CODEC(Delta, ZSTD(1)),
    kind Enum8('cell' = 1, 'total' = 2),
    region LowCardinality(Nullable(String)),
    service LowCardinality(Nullable(String)),
    version LowCardinality(Nullable(String)),
    environment LowCardinality(Nullable(String)),
    method LowCardinality(Nullable(String)),
    route LowCardinality(Nullable(String)),
    status_class LowCardinality(Nullable(String)),
    source LowCardinality(Nullable(String)),
    vantage LowCardinality(Nullable(String)),
    requests UInt64 CODEC(ZSTD(1)),
    errors Nullable(UInt64) CODEC(ZSTD(1)),
    buckets Map(Int16, Float64) CODEC(ZSTD(1))
) ENGINE = ${replicated}MergeTree
PARTITION BY toYYYYMM(hour)
ORDER BY (zone, hour, kind)
SETTINGS ${deduplication_window};

-- Hours that were exported, also those of which nothing could be. How much was held back is told in the zone alone.
CREATE TABLE IF NOT EXISTS ${database}.exports ${on_cluster} (
    zone LowCardinality(String),
    hour DateTime('UTC'),
    exported_at DateTime64(3, 'UTC'),
    columns Array(LowCardinality(String)),
    least_subjects UInt32,
    counted_by Enum8('subjects' = 1, 'requests' = 2),
    cells UInt64,
    totals UInt64
) ENGINE = ${replicated}ReplacingMergeTree
ORDER BY (zone, hour)
SETTINGS ${deduplication_window};

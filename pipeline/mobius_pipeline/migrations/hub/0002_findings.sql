-- Findings of cells that may leave their zone; evidence without links to exemplar traces.
CREATE TABLE IF NOT EXISTS ${database}.findings ${on_cluster} (
    zone LowCardinality(String),
    id String,
    kind LowCardinality(String),
    region LowCardinality(String),
    service LowCardinality(String),
    method LowCardinality(String),
    route LowCardinality(String),
    severity Enum8('info' = 1, 'warning' = 2, 'critical' = 3),
    since DateTime64(3, 'UTC'),
    title String,
    evidence String CODEC(ZSTD(3)),
    status Enum8('open' = 1, 'closed' = 2),
    updated_at DateTime64(3, 'UTC') DEFAULT now64(3)
) ENGINE = ${replicated}ReplacingMergeTree(updated_at)
ORDER BY (zone, id)
SETTINGS ${deduplication_window};

-- What the jobs found: every row has evidence (numbers with intervals, links to exemplar traces).
CREATE TABLE IF NOT EXISTS ${database}.findings ${on_cluster} (
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
ORDER BY (id)
SETTINGS ${deduplication_window};

-- Every correlate job's cells, as the JSON document that `correlate --json` prints for them.
CREATE TABLE IF NOT EXISTS ${database}.correlations ${on_cluster} (
    job String,
    computed_at DateTime64(3, 'UTC'),
    window_start DateTime('UTC'),
    window_end DateTime('UTC'),
    region LowCardinality(String),
    service LowCardinality(String),
    method LowCardinality(String),
    route LowCardinality(String),
    verdict LowCardinality(String),
    cell String CODEC(ZSTD(3))
) ENGINE = ${replicated}MergeTree
ORDER BY (computed_at, service, route, region)
SETTINGS ${deduplication_window};

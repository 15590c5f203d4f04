-- What the gate predicted of production from a test run, a row an endpoint and quantile, written before anybody could
-- know. Rows are never changed: how a prediction fared is computed from what production shows since. low_ms and high_ms
-- are NULL where the test had no interval, budget_ms where no budget applied. unseen: production had not yet met the
-- release then.
CREATE TABLE IF NOT EXISTS ${database}.predictions ${on_cluster} (
    predicted_at DateTime64(3, 'UTC'),
    run String,
    test LowCardinality(String),
    release LowCardinality(String),
    region LowCardinality(String),
    service LowCardinality(String),
    method LowCardinality(String),
    route LowCardinality(String),
    vantage LowCardinality(String),
    quantile Float64,
    value_ms Float64,
    low_ms Nullable(Float64),
    high_ms Nullable(Float64),
    budget_ms Nullable(Float64),
    verdict LowCardinality(String),
    pairs UInt32,
    unseen Bool
) ENGINE = ${replicated}MergeTree
ORDER BY (test, run, predicted_at)
SETTINGS ${deduplication_window};

-- Who read single requests, which, and why: a row a read, written before anything is shown. Nothing of ours changes or
-- removes a row, and no retention applies; give whoever writes here INSERT and SELECT alone. at is the store's clock.
-- rows is what was asked for, as JSON. id keeps two equal reads apart where a replica drops equal inserts.
CREATE TABLE IF NOT EXISTS ${database}.audit_log ${on_cluster} (
    at DateTime64(3, 'UTC') DEFAULT now64(3),
    id UUID,
    viewer String,
    subject String,
    action LowCardinality(String),
    rows String,
    reason String
) ENGINE = ${replicated}MergeTree
ORDER BY (at, id)
SETTINGS ${deduplication_window};

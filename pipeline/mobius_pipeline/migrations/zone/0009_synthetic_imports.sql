-- How a run sent its requests: by the clock (open), each after the answer before it (closed), closed and corrected by
-- the tool itself (corrected), or the file does not tell (unknown).
ALTER TABLE ${database}.synthetic_runs ${on_cluster} ADD COLUMN IF NOT EXISTS load_model LowCardinality(String) DEFAULT 'unknown';

-- As what a content is imported, written before its first request. The row carries a deduplication token that names
-- the content, so of two imports at once one row stays, and both go on as it says: their batches are the same and are
-- stored once. Where the token is forgotten, the earliest row counts.
CREATE TABLE IF NOT EXISTS ${database}.synthetic_imports ${on_cluster} (
    digest FixedString(64),
    writer String,
    settings String CODEC(ZSTD(3)),
    at DateTime64(3, 'UTC') DEFAULT now64(3)
) ENGINE = ${replicated}MergeTree
ORDER BY (digest, at)
SETTINGS ${deduplication_window};

-- Hours that were exported to the hub, and what was held back of each. An hour in here is never exported again: a second
-- export, with data that came late, could be subtracted from the first.
CREATE TABLE IF NOT EXISTS ${database}.hub_exports ${on_cluster} (
    hour DateTime('UTC'),
    exported_at DateTime64(3, 'UTC'),
    least_subjects UInt32,
    counted_by Enum8('subjects' = 1, 'requests' = 2),
    sent_cells UInt64,
    sent_totals UInt64,
    cells UInt64,
    small_cells UInt64,
    totals UInt64,
    small_totals UInt64,
    hidden_beside UInt64
) ENGINE = ${replicated}ReplacingMergeTree
ORDER BY hour
SETTINGS ${deduplication_window};

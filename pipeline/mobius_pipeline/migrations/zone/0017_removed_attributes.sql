-- Attributes that services took out of their spans before they sent them (the allow-list, and limits of the SDK), by the
-- hour in which they arrived: what was kept from ever arriving is part of the account of a zone's borders. spans are those that
-- lack any.
CREATE TABLE IF NOT EXISTS ${database}.removed_attributes ${on_cluster} (
    hour DateTime('UTC') DEFAULT toStartOfHour(now('UTC')),
    region LowCardinality(String),
    service LowCardinality(String),
    spans UInt64,
    attributes UInt64
) ENGINE = ${replicated}SummingMergeTree((spans, attributes))
ORDER BY (hour, region, service)
SETTINGS ${deduplication_window};

-- Where the worker stands. An 'intent' is written before its offset range is inserted, a 'done' after it.
-- topic_id is the broker's own id of the topic, so that a topic made anew starts anew. The intent's
-- deduplication token names its first offset, which makes writing it a compare-and-swap: of two writers
-- that want to go on from the same offset one row stays, and the other writer reads that it is not its own.
CREATE TABLE IF NOT EXISTS ${database}.ingest_ledger ${on_cluster} (
    topic LowCardinality(String),
    topic_id UUID,
    partition UInt32,
    first_offset UInt64,
    last_offset UInt64,
    state Enum8('intent' = 1, 'done' = 2),
    writer LowCardinality(String),
    spans UInt64,
    at DateTime64(3, 'UTC') DEFAULT now64(3)
) ENGINE = ${replicated}MergeTree
ORDER BY (topic, topic_id, partition, first_offset, state)
SETTINGS ${deduplication_window};

-- Where the messages of the zone's dead-letter topic came from, and why; the topic has the bytes. A message
-- that is written twice (a repeated batch) stays one row.
CREATE TABLE IF NOT EXISTS ${database}.dead_letters ${on_cluster} (
    topic LowCardinality(String),
    topic_id UUID,
    partition UInt32,
    offset UInt64,
    reason String,
    bytes UInt64,
    at DateTime64(3, 'UTC') DEFAULT now64(3)
) ENGINE = ${replicated}ReplacingMergeTree
ORDER BY (topic, topic_id, partition, offset)
SETTINGS ${deduplication_window};

-- Data that arrived in this zone and may not or cannot count: never forwarded, kept for review.
CREATE TABLE IF NOT EXISTS ${database}.quarantine ${on_cluster} (
    reason LowCardinality(String),
    region LowCardinality(String),
    service LowCardinality(String),
    spans UInt64,
    topic LowCardinality(String),
    partition UInt32,
    offset UInt64,
    payload String CODEC(ZSTD(3)),
    at DateTime64(3, 'UTC') DEFAULT now64(3)
) ENGINE = ${replicated}MergeTree
ORDER BY (reason, region, at)
SETTINGS ${deduplication_window};

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.span_rows_to_quarantine ${on_cluster} TO ${database}.quarantine AS
SELECT
    problem AS reason, region, service, toUInt64(1) AS spans,
    '' AS topic, kafka_partition AS partition, kafka_offset AS offset,
    toJSONString(map('trace_id', lower(hex(trace_id)), 'span_id', lower(hex(span_id)), 'name', toString(name))) AS payload
FROM ${database}.span_rows WHERE problem != '';

-- Files of spans that went through import: the digest of a file's decompressed content names it.
-- positions, a partition's offset: 'started', where the topic ended before; 'published', behind the last message.
CREATE TABLE IF NOT EXISTS ${database}.span_imports ${on_cluster} (
    digest FixedString(64),
    file String,
    state Enum8('started' = 1, 'published' = 2),
    spans UInt64,
    messages UInt64,
    region LowCardinality(String),
    topic_id UUID,
    positions Map(UInt32, UInt64),
    at DateTime64(3, 'UTC') DEFAULT now64(3)
) ENGINE = ${replicated}MergeTree
ORDER BY (digest, at);

-- Raw spans: for traces and short windows only (the rollup answers everything that aggregates),
-- hence an order that keeps a trace together inside five minutes.
CREATE TABLE IF NOT EXISTS ${database}.spans ${on_cluster} (
    start DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    duration_ns UInt64 CODEC(ZSTD(1)),
    trace_id FixedString(16) CODEC(ZSTD(1)),
    span_id FixedString(8) CODEC(NONE),
    parent_span_id FixedString(8) CODEC(ZSTD(1)),
    trace_state String CODEC(ZSTD(1)),
    name LowCardinality(String),
    kind Enum8('Unspecified' = 0, 'Internal' = 1, 'Server' = 2, 'Client' = 3, 'Producer' = 4, 'Consumer' = 5),
    status_code Enum8('Unset' = 0, 'Ok' = 1, 'Error' = 2),
    status_message String CODEC(ZSTD(1)),
    region LowCardinality(String),
    service LowCardinality(String),
    version LowCardinality(String),
    environment LowCardinality(String),
    instance LowCardinality(String),
    method LowCardinality(String),
    route LowCardinality(String),
    http_status UInt16 CODEC(ZSTD(1)),
    source Enum8('real' = 0, 'synthetic' = 1, 'suspected' = 2),
    test_run LowCardinality(String),
    weight Float64 CODEC(ZSTD(1)),
    attributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    resource_attributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    scope_name LowCardinality(String),
    scope_version LowCardinality(String),
    `events.time` Array(DateTime64(9, 'UTC')) CODEC(ZSTD(1)),
    `events.name` Array(LowCardinality(String)) CODEC(ZSTD(1)),
    `events.attributes` Array(Map(LowCardinality(String), String)) CODEC(ZSTD(1)),
    `links.trace_id` Array(String) CODEC(ZSTD(1)),
    `links.span_id` Array(String) CODEC(ZSTD(1)),
    `links.attributes` Array(Map(LowCardinality(String), String)) CODEC(ZSTD(1)),
    kafka_partition UInt32 CODEC(ZSTD(1)),
    kafka_offset UInt64 CODEC(Delta, ZSTD(1)),
    INDEX by_trace trace_id TYPE bloom_filter(0.01) GRANULARITY 4
) ENGINE = ${replicated}MergeTree
PARTITION BY toDate(start)
ORDER BY (toStartOfFiveMinutes(start), trace_id, start)
SETTINGS ${deduplication_window};

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.span_rows_to_spans ${on_cluster} TO ${database}.spans AS
SELECT * EXCEPT (problem) FROM ${database}.span_rows WHERE problem = '';

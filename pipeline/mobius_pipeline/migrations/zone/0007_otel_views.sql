-- The spans as the OpenTelemetry Collector's ClickHouse exporter names them, for Grafana, HyperDX and whoever
-- knows its tables. A later form of that table becomes a later migration's views; these two keep their columns.

-- Readers ask for a trace by its text, which the index on the bytes cannot answer.
ALTER TABLE ${database}.spans ${on_cluster} ADD INDEX IF NOT EXISTS by_trace_text lower(hex(trace_id)) TYPE bloom_filter(0.01) GRANULARITY 1;
ALTER TABLE ${database}.spans ${on_cluster} MATERIALIZE INDEX by_trace_text;

-- When a trace began and when its last span began, found by the primary key. Least and greatest stay the same
-- when a batch is repeated, whatever the window of remembered blocks still knows.
CREATE TABLE IF NOT EXISTS ${database}.trace_times ${on_cluster} (
    trace_id String CODEC(ZSTD(1)),
    day Date CODEC(ZSTD(1)),
    first SimpleAggregateFunction(min, DateTime('UTC')) CODEC(ZSTD(1)),
    last SimpleAggregateFunction(max, DateTime('UTC')) CODEC(ZSTD(1))
) ENGINE = ${replicated}AggregatingMergeTree
PARTITION BY day
ORDER BY (trace_id, day)
SETTINGS ${deduplication_window};

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.span_rows_to_trace_times ${on_cluster} TO ${database}.trace_times AS
SELECT
    lower(hex(r.trace_id)) AS trace_id,
    r.day AS day,
    toDateTime(min(r.start), 'UTC') AS first,
    toDateTime(max(r.start), 'UTC') AS last
FROM (SELECT trace_id, start, toDate(start) AS day FROM ${database}.span_rows WHERE problem = '') AS r
GROUP BY r.trace_id, r.day;

-- What was stored before this migration. Without grouping: a store of any size passes through a block at a time.
INSERT INTO ${database}.trace_times
SELECT lower(hex(trace_id)), toDate(start), toDateTime(start, 'UTC'), toDateTime(start, 'UTC')
FROM ${database}.spans
SETTINGS max_partitions_per_insert_block = 0;

-- One row a trace and day (the Collector's: one a trace and insert); the readers take the least and the greatest.
CREATE VIEW IF NOT EXISTS ${database}.otel_traces_trace_id_ts ${on_cluster} AS
SELECT
    trace_id AS TraceId,
    CAST(first, 'DateTime(\'UTC\')') AS Start,
    CAST(last, 'DateTime(\'UTC\')') AS End
FROM ${database}.trace_times;

-- Attributes that have a column of their own in spans are put back into the maps.
CREATE VIEW IF NOT EXISTS ${database}.otel_traces ${on_cluster} AS
SELECT
    start AS Timestamp,
    lower(hex(trace_id)) AS TraceId,
    lower(hex(span_id)) AS SpanId,
    if(parent_span_id = unhex('0000000000000000'), '', lower(hex(parent_span_id))) AS ParentSpanId,
    trace_state AS TraceState,
    name AS SpanName,
    CAST(kind, 'LowCardinality(String)') AS SpanKind,
    service AS ServiceName,
    mapConcat(resource_attributes, mapFilter((k, v) -> v != '', CAST(map(
        'service.name', toString(service),
        'service.version', toString(version),
        'service.instance.id', toString(instance),
        'deployment.environment.name', toString(environment),
        'cloud.region', toString(region)), 'Map(LowCardinality(String), String)'))) AS ResourceAttributes,
    CAST(scope_name, 'String') AS ScopeName,
    CAST(scope_version, 'String') AS ScopeVersion,
    -- method and route also stand for RPC, messaging and spans of no protocol: those came from attributes that are
    -- still in the map, or from the span's name, and are no HTTP attributes.
    mapConcat(attributes, mapFilter((k, v) -> v != '', CAST(map(
        'http.request.method', if(method IN (attributes['rpc.system'], attributes['messaging.system']), '', toString(method)),
        'http.route', if(route = concat(attributes['rpc.service'], '/', attributes['rpc.method'])
                         OR (route = name AND NOT startsWith(name, '/')), '', toString(route)),
        'http.response.status_code', if(http_status = 0, '', toString(http_status)),
        'mobius.test.run', toString(test_run)), 'Map(LowCardinality(String), String)'))) AS SpanAttributes,
    duration_ns AS Duration,
    CAST(status_code, 'LowCardinality(String)') AS StatusCode,
    status_message AS StatusMessage,
    `events.time` AS `Events.Timestamp`,
    `events.name` AS `Events.Name`,
    `events.attributes` AS `Events.Attributes`,
    arrayMap(id -> lower(hex(id)), `links.trace_id`) AS `Links.TraceId`,
    arrayMap(id -> lower(hex(id)), `links.span_id`) AS `Links.SpanId`,
    arrayMap(id -> '', `links.trace_id`) AS `Links.TraceState`,
    `links.attributes` AS `Links.Attributes`,
    toUInt64(greatest(round(weight), 1)) AS SampleRate
FROM ${database}.spans;

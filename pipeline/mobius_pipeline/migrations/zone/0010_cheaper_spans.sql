-- dangerous: the view otel_traces is replaced by one that answers the same; it holds no data.

-- What storing a span costs. Values of attributes mostly repeat (a service's name, a method, a table), so they are kept
-- as numbers into a dictionary of each part, as their keys are: it takes a tenth of the bytes, and sorting and merging
-- move numbers instead of text. A part with more than 8,192 distinct values keeps the rest as text, granule by granule.
ALTER TABLE ${database}.span_rows ${on_cluster}
    MODIFY COLUMN attributes Map(LowCardinality(String), LowCardinality(String)),
    MODIFY COLUMN resource_attributes Map(LowCardinality(String), LowCardinality(String));

-- Rewrites both columns of what is stored already. Where that takes longer than a migration waits, it goes on by itself,
-- and the migration is simply run again. LZ4 packs the runs of equal numbers better here than ZSTD(1), and is cheaper;
-- T64 leaves out the high bits that no latency has. Other codecs take effect with the next merge.
ALTER TABLE ${database}.spans ${on_cluster}
    MODIFY COLUMN attributes Map(LowCardinality(String), LowCardinality(String)) CODEC(LZ4),
    MODIFY COLUMN resource_attributes Map(LowCardinality(String), LowCardinality(String)) CODEC(LZ4),
    MODIFY COLUMN duration_ns UInt64 CODEC(T64, ZSTD(1)),
    MODIFY COLUMN kafka_offset UInt64 CODEC(T64, ZSTD(1)),
    MODIFY COLUMN kind Enum8('Unspecified' = 0, 'Internal' = 1, 'Server' = 2, 'Client' = 3, 'Producer' = 4, 'Consumer' = 5) CODEC(ZSTD(1)),
    MODIFY COLUMN name LowCardinality(String) CODEC(ZSTD(1)),
    MODIFY COLUMN route LowCardinality(String) CODEC(ZSTD(1)),
    MODIFY COLUMN service LowCardinality(String) CODEC(ZSTD(1));

-- An insert writes one file for all columns instead of several for each: making files was a fifth of an
-- insert's CPU time. What is merged has a file a column, as before.
ALTER TABLE ${database}.spans ${on_cluster} MODIFY SETTING min_level_for_wide_part = 1;

-- The same columns of the same types as before (0007): the maps' values are text again.
CREATE OR REPLACE VIEW ${database}.otel_traces ${on_cluster} AS
SELECT
    start AS Timestamp,
    lower(hex(trace_id)) AS TraceId,
    lower(hex(span_id)) AS SpanId,
    if(parent_span_id = unhex('0000000000000000'), '', lower(hex(parent_span_id))) AS ParentSpanId,
    trace_state AS TraceState,
    name AS SpanName,
    CAST(kind, 'LowCardinality(String)') AS SpanKind,
    service AS ServiceName,
    mapConcat(CAST(resource_attributes, 'Map(LowCardinality(String), String)'), mapFilter((k, v) -> v != '', CAST(map(
        'service.name', toString(service),
        'service.version', toString(version),
        'service.instance.id', toString(instance),
        'deployment.environment.name', toString(environment),
        'cloud.region', toString(region)), 'Map(LowCardinality(String), String)'))) AS ResourceAttributes,
    CAST(scope_name, 'String') AS ScopeName,
    CAST(scope_version, 'String') AS ScopeVersion,
    -- method and route also stand for RPC, messaging and spans of no protocol: those came from attributes that are
    -- still in the map, or from the span's name, and are no HTTP attributes.
    mapConcat(CAST(attributes, 'Map(LowCardinality(String), String)'), mapFilter((k, v) -> v != '', CAST(map(
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

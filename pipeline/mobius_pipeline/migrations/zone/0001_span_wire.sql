-- The entrance of the bytes path: OTLP ExportTraceServiceRequest messages, exactly as the services
-- wrote them, each with its Kafka partition and offset appended as two extra protobuf fields.
-- Both tables are Null tables: they hold nothing and only feed the materialized views behind them.

CREATE TABLE IF NOT EXISTS ${database}.span_wire ${on_cluster} (
    resource_spans Array(Tuple(
        resource Tuple(attributes ${key_values}),
        scope_spans Array(Tuple(
            scope Tuple(name String, version String),
            spans Array(Tuple(
                trace_id String,
                span_id String,
                trace_state String,
                parent_span_id String,
                name String,
                kind Int32,
                start_time_unix_nano UInt64,
                end_time_unix_nano UInt64,
                attributes ${key_values},
                events Array(Tuple(time_unix_nano UInt64, name String, attributes ${key_values})),
                links Array(Tuple(trace_id String, span_id String, trace_state String, attributes ${key_values})),
                status Tuple(message String, code Int32)
            ))
        ))
    )),
    kafka_partition UInt32,
    kafka_offset UInt64
) ENGINE = Null;

-- One row a span, typed, with the reason why it cannot be data ('' when it can).
CREATE TABLE IF NOT EXISTS ${database}.span_rows ${on_cluster} (
    problem LowCardinality(String),
    start DateTime64(9, 'UTC'),
    duration_ns UInt64,
    trace_id FixedString(16),
    span_id FixedString(8),
    parent_span_id FixedString(8),
    trace_state String,
    name LowCardinality(String),
    kind Enum8('Unspecified' = 0, 'Internal' = 1, 'Server' = 2, 'Client' = 3, 'Producer' = 4, 'Consumer' = 5),
    status_code Enum8('Unset' = 0, 'Ok' = 1, 'Error' = 2),
    status_message String,
    region LowCardinality(String),
    service LowCardinality(String),
    version LowCardinality(String),
    environment LowCardinality(String),
    instance LowCardinality(String),
    method LowCardinality(String),
    route LowCardinality(String),
    http_status UInt16,
    source Enum8('real' = 0, 'synthetic' = 1, 'suspected' = 2),
    test_run LowCardinality(String),
    weight Float64,
    attributes Map(LowCardinality(String), String),
    resource_attributes Map(LowCardinality(String), String),
    scope_name LowCardinality(String),
    scope_version LowCardinality(String),
    `events.time` Array(DateTime64(9, 'UTC')),
    `events.name` Array(LowCardinality(String)),
    `events.attributes` Array(Map(LowCardinality(String), String)),
    `links.trace_id` Array(String),
    `links.span_id` Array(String),
    `links.attributes` Array(Map(LowCardinality(String), String)),
    kafka_partition UInt32,
    kafka_offset UInt64
) ENGINE = Null;

-- Explodes messages into spans. Text of an attribute value: strings as they are, numbers and booleans as
-- the Collector's ClickHouse exporter writes them. Attributes that have a column of their own leave the map.
CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.span_wire_to_span_rows ${on_cluster} TO ${database}.span_rows AS
WITH
    (pairs) -> mapFromArrays(
        arrayMap(p -> toLowCardinality(p.1), pairs),
        arrayMap(p -> multiIf(
            p.2.value = 'string_value', p.2.string_value,
            p.2.value = 'int_value', toString(p.2.int_value),
            p.2.value = 'bool_value', if(p.2.bool_value, 'true', 'false'),
            p.2.value = 'double_value', toString(p.2.double_value),
            p.2.value = 'bytes_value', base64Encode(p.2.bytes_value),
            ''), pairs)) AS text_map
SELECT
    multiIf(
        length(span.trace_id) != 16 OR span.trace_id = unhex('00000000000000000000000000000000'), 'trace id is not 16 bytes',
        length(span.span_id) != 8 OR span.span_id = unhex('0000000000000000'), 'span id is not 8 bytes',
        length(span.parent_span_id) NOT IN (0, 8), 'parent span id is not 8 bytes',
        span.end_time_unix_nano < span.start_time_unix_nano, 'negative duration',
        span.start_time_unix_nano < 946684800000000000, 'starts before the year 2000',
        span.end_time_unix_nano > toUnixTimestamp64Nano(now64(9)) + 172800000000000, 'ends more than two days ahead',
        '') AS problem,
    fromUnixTimestamp64Nano(toInt64(least(span.start_time_unix_nano, 9223372036000000000)), 'UTC') AS start,
    if(span.end_time_unix_nano < span.start_time_unix_nano, 0, span.end_time_unix_nano - span.start_time_unix_nano) AS duration_ns,
    toFixedString(substring(span.trace_id, 1, 16), 16) AS trace_id,
    toFixedString(substring(span.span_id, 1, 8), 8) AS span_id,
    toFixedString(substring(span.parent_span_id, 1, 8), 8) AS parent_span_id,
    span.trace_state AS trace_state,
    span.name AS name,
    CAST(if(span.kind BETWEEN 0 AND 5, span.kind, 0), 'Enum8(\'Unspecified\' = 0, \'Internal\' = 1, \'Server\' = 2, \'Client\' = 3, \'Producer\' = 4, \'Consumer\' = 5)') AS kind,
    CAST(if(span.status.code BETWEEN 0 AND 2, span.status.code, 0), 'Enum8(\'Unset\' = 0, \'Ok\' = 1, \'Error\' = 2)') AS status_code,
    span.status.message AS status_message,
    resource_map['cloud.region'] AS region,
    resource_map['service.name'] AS service,
    resource_map['service.version'] AS version,
    if(resource_map['deployment.environment.name'] != '', resource_map['deployment.environment.name'], resource_map['deployment.environment']) AS environment,
    resource_map['service.instance.id'] AS instance,
    multiIf(span_map['http.request.method'] != '', span_map['http.request.method'],
            span_map['http.method'] != '', span_map['http.method'],
            span_map['rpc.system'] != '', span_map['rpc.system'],
            span_map['messaging.system']) AS method,
    multiIf(span_map['http.route'] != '', span_map['http.route'],
            span_map['rpc.service'] != '' AND span_map['rpc.method'] != '', concat(span_map['rpc.service'], '/', span_map['rpc.method']),
            span.name) AS route,
    toUInt16OrZero(if(span_map['http.response.status_code'] != '', span_map['http.response.status_code'], span_map['http.status_code'])) AS http_status,
    CAST(multiIf(span_map['mobius.test.run'] != '', 1, span_map['user_agent.synthetic.type'] != '', 2, 0), 'Enum8(\'real\' = 0, \'synthetic\' = 1, \'suspected\' = 2)') AS source,
    span_map['mobius.test.run'] AS test_run,
    -- OpenTelemetry consistent sampling: tracestate "ot=th:<hex>" is the rejection threshold in units of
    -- 2^-56 (trailing zeros left out); the span stands for 2^56 / (2^56 - th) spans.
    -- Subtracted as integers, so that the greatest threshold gives a finite weight.
    if(position(span.trace_state, 'th:') = 0, 1.,
       72057594037927936 / (72057594037927936 - reinterpretAsUInt64(reverse(unhex(rightPad(extract(span.trace_state, '(?:^|,)[ ]*ot=(?:[^,;]*;)*th:([0-9a-f]{1,14})(?:[;, ]|$$)'), 14, '0')))))) AS weight,
    mapFilter((k, v) -> k NOT IN ('http.request.method', 'http.route', 'http.response.status_code', 'mobius.test.run'), span_map) AS attributes,
    mapFilter((k, v) -> k NOT IN ('cloud.region', 'service.name', 'service.version', 'deployment.environment.name', 'service.instance.id'), resource_map) AS resource_attributes,
    scope_name,
    scope_version,
    arrayMap(e -> fromUnixTimestamp64Nano(toInt64(least(e.time_unix_nano, 9223372036000000000)), 'UTC'), span.events) AS `events.time`,
    arrayMap(e -> toLowCardinality(e.name), span.events) AS `events.name`,
    arrayMap(e -> text_map(e.attributes), span.events) AS `events.attributes`,
    arrayMap(l -> l.trace_id, span.links) AS `links.trace_id`,
    arrayMap(l -> l.span_id, span.links) AS `links.span_id`,
    arrayMap(l -> text_map(l.attributes), span.links) AS `links.attributes`,
    kafka_partition,
    kafka_offset
FROM (
    SELECT
        kafka_partition, kafka_offset, resource_map,
        scope_span.scope.name AS scope_name, scope_span.scope.version AS scope_version,
        arrayJoin(scope_span.spans) AS span,
        text_map(span.attributes) AS span_map
    FROM (
        SELECT
            kafka_partition, kafka_offset,
            text_map(resource_span.resource.attributes) AS resource_map,
            arrayJoin(resource_span.scope_spans) AS scope_span
        FROM (
            SELECT kafka_partition, kafka_offset, arrayJoin(resource_spans) AS resource_span
            FROM ${database}.span_wire
        )
    )
);

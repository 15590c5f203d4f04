-- Our rollup (`latency_minute`, made beside the Collector's tables by our own migration) fed from the Collector's table,
-- so that both pipelines end with the same answers: one server or consumer span is one request.
CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.otel_traces_to_latency_minute TO ${database}.latency_minute AS
SELECT
    toStartOfMinute(start) AS minute,
    region, service, version, environment, method, route,
    multiIf(http_status >= 100, concat(toString(intDiv(http_status, 100)), 'xx'), failed, 'error', 'ok') AS status_class,
    source,
    CAST('server', 'Enum8(\'server\' = 0, \'client\' = 1)') AS vantage,
    test_run,
    count() AS requests,
    countIf(http_status >= 500 OR failed) AS errors,
    toFloat64(count()) AS weight,
    toFloat64(count()) AS weight_squared,
    toFloat64(countIf(http_status >= 500 OR failed)) AS error_weight,
    sumMap(map(bucket, toFloat64(1))) AS buckets,
    sumMapIf(map(bucket, toFloat64(0)), 0) AS buckets_squared
FROM (
    SELECT
        Timestamp AS start,
        ResourceAttributes['cloud.region'] AS region,
        ServiceName AS service,
        ResourceAttributes['service.version'] AS version,
        ResourceAttributes['deployment.environment.name'] AS environment,
        multiIf(SpanAttributes['http.request.method'] != '', SpanAttributes['http.request.method'],
                SpanAttributes['rpc.system'] != '', SpanAttributes['rpc.system'],
                SpanAttributes['messaging.system']) AS method,
        multiIf(SpanAttributes['http.route'] != '', SpanAttributes['http.route'],
                SpanAttributes['rpc.service'] != '' AND SpanAttributes['rpc.method'] != '',
                concat(SpanAttributes['rpc.service'], '/', SpanAttributes['rpc.method']),
                SpanName) AS route,
        toUInt16OrZero(SpanAttributes['http.response.status_code']) AS http_status,
        StatusCode = 'Error' AS failed,
        CAST(multiIf(SpanAttributes['mobius.test.run'] != '', 1, SpanAttributes['user_agent.synthetic.type'] != '', 2, 0),
             'Enum8(\'real\' = 0, \'synthetic\' = 1, \'suspected\' = 2)') AS source,
        SpanAttributes['mobius.test.run'] AS test_run,
        toInt16(ceil(log2(greatest(Duration, 1) / 1e9) * 32) - 1) AS bucket
    FROM ${database}.otel_traces
    WHERE SpanKind IN ('Server', 'Consumer')
)
GROUP BY minute, region, service, version, environment, method, route, status_class, source, vantage, test_run

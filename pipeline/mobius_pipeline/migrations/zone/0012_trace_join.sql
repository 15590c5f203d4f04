-- What the results of tests name by trace id is test traffic, marked or not (docs/trace-join.md, ADR 14).

-- Corrections take away as well as add. What a correction wrote has the number of its batch, 0 is what was measured:
-- so it can be told whether a batch is in, and what the worker alone wrote.
ALTER TABLE ${database}.latency_minute ${on_cluster}
    MODIFY COLUMN requests SimpleAggregateFunction(sum, Int64) CODEC(ZSTD(1)),
    MODIFY COLUMN errors SimpleAggregateFunction(sum, Int64) CODEC(ZSTD(1));

ALTER TABLE ${database}.latency_minute ${on_cluster}
    ADD COLUMN IF NOT EXISTS correction UInt64 CODEC(ZSTD(1)),
    MODIFY ORDER BY (service, route, method, region, minute, source, vantage, status_class, version, environment, test_run, correction);

ALTER TABLE ${database}.latency_minute ${on_cluster} ADD INDEX IF NOT EXISTS by_correction correction TYPE minmax GRANULARITY 1;

-- A trace id that a file carries on several rows says of none of them which trace it is, yet it names test traffic.
ALTER TABLE ${database}.synthetic_results ${on_cluster} ADD COLUMN IF NOT EXISTS named_trace_id String CODEC(ZSTD(1));

-- Server spans as requests, with the columns of the rollup: the very expressions of span_rows_to_latency_minute. What is
-- moved is told from what is not yet by all of these columns, so they must stay as they are.
CREATE VIEW IF NOT EXISTS ${database}.server_requests ${on_cluster} AS
SELECT
    s.trace_id AS trace_id, s.span_id AS span_id, s.kafka_partition AS kafka_partition, s.kafka_offset AS kafka_offset,
    s.start AS start,
    toStartOfMinute(s.start) AS minute,
    s.region AS region, s.service AS service, s.version AS version, s.environment AS environment,
    s.method AS method, s.route AS route,
    multiIf(s.http_status >= 100, concat(toString(intDiv(s.http_status, 100)), 'xx'), s.status_code = 'Error', 'error', 'ok') AS status_class,
    s.source AS source,
    s.test_run AS test_run,
    toUInt8(s.http_status >= 500 OR s.status_code = 'Error') AS failed,
    s.weight AS weight,
    toInt16(ceil(log2(greatest(s.duration_ns, 1) / 1e9) * 32) - 1) AS bucket
FROM ${database}.spans AS s
WHERE s.kind IN ('Server', 'Consumer');

-- Which server spans were moved to which test run, batch after batch. The rows of a batch are one block under a token
-- that names the batch's number only: of two writers that want the same number one block stays. sign -1 takes back.
-- adds is 0 where the run's own results are what the servers saw: the rollup has its requests by them already.
CREATE TABLE IF NOT EXISTS ${database}.joined_spans ${on_cluster} (
    batch UInt64 CODEC(ZSTD(1)),
    writer LowCardinality(String),
    sign Int8,
    adds UInt8,
    run LowCardinality(String),
    trace_id FixedString(16) CODEC(ZSTD(1)),
    span_id FixedString(8) CODEC(NONE),
    kafka_partition UInt32 CODEC(ZSTD(1)),
    kafka_offset UInt64 CODEC(ZSTD(1)),
    minute DateTime('UTC') CODEC(ZSTD(1)),
    region LowCardinality(String),
    service LowCardinality(String),
    version LowCardinality(String),
    environment LowCardinality(String),
    method LowCardinality(String),
    route LowCardinality(String),
    status_class LowCardinality(String),
    source Enum8('real' = 0, 'synthetic' = 1, 'suspected' = 2),
    test_run LowCardinality(String),
    failed UInt8,
    weight Float64 CODEC(ZSTD(1)),
    bucket Int16,
    at DateTime64(3, 'UTC') DEFAULT now64(3),
    not_after UInt64 CODEC(ZSTD(1)),
    INDEX by_batch batch TYPE minmax GRANULARITY 1,
    CONSTRAINT lease CHECK not_after = 0 OR not_after >= toUnixTimestamp64Milli(nowInBlock64(3))
) ENGINE = ${replicated}MergeTree
ORDER BY (trace_id, span_id, kafka_partition, kafka_offset)
SETTINGS ${deduplication_window};

-- The rows of a batch on their way into the rollup: out of production, into the test run. Behind the fence, too.
CREATE TABLE IF NOT EXISTS ${database}.span_corrections ${on_cluster} (
    batch UInt64,
    sign Int8,
    adds UInt8,
    run LowCardinality(String),
    minute DateTime('UTC'),
    region LowCardinality(String),
    service LowCardinality(String),
    version LowCardinality(String),
    environment LowCardinality(String),
    method LowCardinality(String),
    route LowCardinality(String),
    status_class LowCardinality(String),
    source Enum8('real' = 0, 'synthetic' = 1, 'suspected' = 2),
    test_run LowCardinality(String),
    failed UInt8,
    weight Float64,
    bucket Int16,
    not_after UInt64,
    CONSTRAINT lease CHECK not_after = 0 OR not_after >= toUnixTimestamp64Milli(nowInBlock64(3))
) ENGINE = Null;

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.span_corrections_to_latency_minute ${on_cluster} TO ${database}.latency_minute AS
SELECT
    minute, region, service, version, environment, method, route, status_class,
    source, CAST('server', 'Enum8(\'server\' = 0, \'client\' = 1)') AS vantage, test_run, batch AS correction,
    sum(toInt64(c.part)) AS requests,
    sumIf(toInt64(c.part), c.failed = 1) AS errors,
    sum(c.part * c.weight) AS weight,
    sum(c.part * c.weight * c.weight) AS weight_squared,
    sumIf(c.part * c.weight, c.failed = 1) AS error_weight,
    sumMap(map(c.bucket, c.part * c.weight)) AS buckets,
    sumMapIf(map(c.bucket, c.part * c.weight * c.weight), c.weight != 1) AS buckets_squared
FROM (
    SELECT
        batch, minute, region, service, version, environment, method, route, status_class, failed, weight, bucket,
        side.1 AS part, side.2 AS source, side.3 AS test_run
    FROM (
        SELECT
            * EXCEPT (source, test_run),
            arrayJoin([
                (toInt8(-sign), source, toString(test_run)),
                (toInt8(sign * adds), CAST('synthetic', 'Enum8(\'real\' = 0, \'synthetic\' = 1, \'suspected\' = 2)'), toString(run))
            ]) AS side
        FROM ${database}.span_corrections
    )
    WHERE part != 0
) AS c
GROUP BY minute, region, service, version, environment, method, route, status_class, source, vantage, test_run, correction;

-- Runs whose results must not decide what production is.
CREATE TABLE IF NOT EXISTS ${database}.join_refusals ${on_cluster} (
    run String,
    refused Bool,
    at DateTime64(3, 'UTC') DEFAULT now64(3)
) ENGINE = ${replicated}ReplacingMergeTree(at)
ORDER BY (run)
SETTINGS ${deduplication_window};

-- dangerous: latency_minute is made anew with other partitions, and takes the place of the old one when all rows are in.

-- A window of a day read the rows of its whole month, since a series' days lie beside each other. With a partition a day
-- it reads its own: comparing a day of a week costs the engine half, and a day that is too old is dropped, not rewritten.

-- The new table does not remember which blocks were inserted, so a repetition would count twice: nothing that may be
-- repeated is left behind. Who was cut off finishes first, with the version before this one.
SELECT throwIf(count() > 0, 'workers are running: stop them (SIGTERM lets them finish), then migrate again')
FROM (
    SELECT argMax((state, seconds, at), at) AS last
    FROM ${database}.ingest_workers GROUP BY topic_id, writer
    HAVING last.1 = 'here' AND last.3 + toIntervalMillisecond(last.2 * 1000) > now64(3)
);

SELECT throwIf(count() > 0, 'a worker was cut off within a range of offsets: run a worker of the version before until it has caught up, stop it, then migrate again')
FROM (
    SELECT topic_id, partition, first_offset, countIf(state = 'done') AS done
    FROM ${database}.ingest_ledger GROUP BY topic_id, partition, first_offset
    ORDER BY first_offset DESC LIMIT 1 BY topic_id, partition
)
WHERE done = 0;

SELECT throwIf(count() > 0, 'a remapping of test results was cut off: repeat it (mobius-rum import remap) with the version before, then migrate again')
FROM (
    SELECT m.number AS number, r.done AS done
    FROM (SELECT digest, max(number) AS number FROM ${database}.synthetic_remaps GROUP BY digest) AS m
    INNER JOIN (
        SELECT digest, max(JSONExtractUInt(summary, 'remap')) AS done FROM ${database}.synthetic_runs GROUP BY digest
    ) AS r ON toString(m.digest) = toString(r.digest)
)
WHERE number > done;

-- Rows of the servers' view cannot be told from those of marked spans.
SELECT throwIf(count() > 0, 'an import of spans that a test left behind was cut off: repeat it (mobius-rum import synthetic) with the version before, then migrate again')
FROM ${database}.synthetic_imports
WHERE toString(digest) NOT IN (SELECT toString(digest) FROM ${database}.synthetic_runs)
  AND JSONExtractString(settings, 'run') IN (SELECT run FROM ${database}.synthetic_results WHERE vantage = 'server');

-- What an attempt before left must hold nothing that the rollup lacks, or it would go with the next statement but one: two
-- migrations at once, or a writer that came between the last look and the exchange.
CREATE TABLE IF NOT EXISTS ${database}.latency_minute_by_day ${on_cluster} AS ${database}.latency_minute;

SELECT throwIf(
    (SELECT sum(requests) FROM ${database}.latency_minute_by_day WHERE NOT (correction = 0 AND source = 'synthetic' AND vantage = 'client' AND toString(test_run) IN (
    SELECT JSONExtractString(settings, 'run') FROM ${database}.synthetic_imports
    WHERE toString(digest) NOT IN (SELECT toString(digest) FROM ${database}.synthetic_runs)
      AND JSONExtractString(settings, 'run') NOT IN (SELECT toString(run) FROM ${database}.synthetic_runs)
)))
    > (SELECT sum(requests) FROM ${database}.latency_minute),
    'latency_minute_by_day holds requests that latency_minute lacks: stop all writers and other migrations, EXCHANGE TABLES latency_minute AND latency_minute_by_day, then migrate again'
);

DROP TABLE IF EXISTS ${database}.latency_minute_by_day ${on_cluster} SYNC;

CREATE TABLE ${database}.latency_minute_by_day ${on_cluster} (
    minute DateTime('UTC') CODEC(Delta, ZSTD(1)),
    region LowCardinality(String),
    service LowCardinality(String),
    version LowCardinality(String),
    environment LowCardinality(String),
    method LowCardinality(String),
    route LowCardinality(String),
    status_class LowCardinality(String),
    source Enum8('real' = 0, 'synthetic' = 1, 'suspected' = 2),
    vantage Enum8('server' = 0, 'client' = 1),
    test_run LowCardinality(String),
    requests SimpleAggregateFunction(sum, Int64) CODEC(ZSTD(1)),
    errors SimpleAggregateFunction(sum, Int64) CODEC(ZSTD(1)),
    weight SimpleAggregateFunction(sum, Float64) CODEC(ZSTD(1)),
    weight_squared SimpleAggregateFunction(sum, Float64) CODEC(ZSTD(1)),
    error_weight SimpleAggregateFunction(sum, Float64) CODEC(ZSTD(1)),
    buckets SimpleAggregateFunction(sumMap, Map(Int16, Float64)) CODEC(ZSTD(1)),
    buckets_squared SimpleAggregateFunction(sumMap, Map(Int16, Float64)) CODEC(ZSTD(1)),
    correction UInt64 CODEC(ZSTD(1)),
    INDEX by_correction correction TYPE minmax GRANULARITY 1
) ENGINE = ${replicated}AggregatingMergeTree
PARTITION BY toYYYYMMDD(minute)
PRIMARY KEY (service, route, method, region, minute, source, vantage, status_class, version, environment, test_run)
ORDER BY (service, route, method, region, minute, source, vantage, status_class, version, environment, test_run, correction)
SETTINGS ${deduplication_window};

-- Not the rows of an import that was cut off: when it is repeated, its batches come again, all of them.
INSERT INTO ${database}.latency_minute_by_day
    (minute, region, service, version, environment, method, route, status_class, source, vantage, test_run, requests,
     errors, weight, weight_squared, error_weight, buckets, buckets_squared, correction)
SELECT
    minute, region, service, version, environment, method, route, status_class, source, vantage, test_run, requests,
    errors, weight, weight_squared, error_weight, buckets, buckets_squared, correction
FROM ${database}.latency_minute
WHERE NOT (correction = 0 AND source = 'synthetic' AND vantage = 'client' AND toString(test_run) IN (
    SELECT JSONExtractString(settings, 'run') FROM ${database}.synthetic_imports
    WHERE toString(digest) NOT IN (SELECT toString(digest) FROM ${database}.synthetic_runs)
      AND JSONExtractString(settings, 'run') NOT IN (SELECT toString(run) FROM ${database}.synthetic_runs)
))
SETTINGS max_partitions_per_insert_block = 0;

-- Copying takes a while: did a writer come, or another migration?
SELECT throwIf(count() > 0, 'workers are running: stop them (SIGTERM lets them finish), then migrate again')
FROM (
    SELECT argMax((state, seconds, at), at) AS last
    FROM ${database}.ingest_workers GROUP BY topic_id, writer
    HAVING last.1 = 'here' AND last.3 + toIntervalMillisecond(last.2 * 1000) > now64(3)
);

SELECT throwIf(
    (SELECT sum(requests) FROM ${database}.latency_minute WHERE NOT (correction = 0 AND source = 'synthetic' AND vantage = 'client' AND toString(test_run) IN (
    SELECT JSONExtractString(settings, 'run') FROM ${database}.synthetic_imports
    WHERE toString(digest) NOT IN (SELECT toString(digest) FROM ${database}.synthetic_runs)
      AND JSONExtractString(settings, 'run') NOT IN (SELECT toString(run) FROM ${database}.synthetic_runs)
)))
    != (SELECT sum(requests) FROM ${database}.latency_minute_by_day),
    'the rollup changed while it was copied: stop all workers, imports and other migrations, then migrate again'
);

EXCHANGE TABLES ${database}.latency_minute AND ${database}.latency_minute_by_day ${on_cluster};

-- As long as the old one has more, it stays.
SELECT throwIf(
    (SELECT sum(requests) FROM ${database}.latency_minute_by_day WHERE NOT (correction = 0 AND source = 'synthetic' AND vantage = 'client' AND toString(test_run) IN (
    SELECT JSONExtractString(settings, 'run') FROM ${database}.synthetic_imports
    WHERE toString(digest) NOT IN (SELECT toString(digest) FROM ${database}.synthetic_runs)
      AND JSONExtractString(settings, 'run') NOT IN (SELECT toString(run) FROM ${database}.synthetic_runs)
)))
    > (SELECT sum(requests) FROM ${database}.latency_minute),
    'latency_minute_by_day holds requests that latency_minute lacks: stop all writers and other migrations, EXCHANGE TABLES latency_minute AND latency_minute_by_day, then migrate again'
);

DROP TABLE ${database}.latency_minute_by_day ${on_cluster} SYNC;

-- dangerous: span_wire is made anew to get its constraint; a Null table holds nothing, its view stays, and an insert
-- that falls between is tried again.

-- The fence. Whatever a worker writes carries the end of its lease (milliseconds since 1970, 0 for none), and the
-- engine refuses by its own clock what comes later, before any of it is stored: a worker that stood still, or a
-- request that did, cannot write when another worker may have gone on.
CREATE OR REPLACE TABLE ${database}.span_wire ${on_cluster} (
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
    kafka_offset UInt64,
    not_after UInt64,
    CONSTRAINT lease CHECK not_after = 0 OR not_after >= toUnixTimestamp64Milli(nowInBlock64(3))
) ENGINE = Null;

ALTER TABLE ${database}.ingest_ledger ${on_cluster} ADD COLUMN IF NOT EXISTS not_after UInt64;

ALTER TABLE ${database}.ingest_ledger ${on_cluster} ADD CONSTRAINT IF NOT EXISTS lease
    CHECK not_after = 0 OR not_after >= toUnixTimestamp64Milli(nowInBlock64(3));

-- Who may work on a partition. A lease ends `seconds` after `at` unless it is renewed; the next owner takes the next
-- epoch. The row that takes an epoch carries a deduplication token that names it, so of two that take it one stays;
-- `taken_ms` is when that was, and the earliest counts where the token is forgotten. A row that renews carries the end
-- that it moves, so that a lease which has ended stays ended.
CREATE TABLE IF NOT EXISTS ${database}.ingest_leases ${on_cluster} (
    topic_id UUID,
    partition UInt32,
    epoch UInt64,
    state Enum8('held' = 1, 'released' = 2),
    writer String,
    name String,
    seconds Float64,
    taken_ms UInt64 DEFAULT toUnixTimestamp64Milli(now64(3)),
    at DateTime64(3, 'UTC') DEFAULT now64(3),
    not_after UInt64,
    CONSTRAINT lease CHECK not_after = 0 OR not_after >= toUnixTimestamp64Milli(nowInBlock64(3))
) ENGINE = ${replicated}ReplacingMergeTree(at)
ORDER BY (topic_id, partition, epoch, writer, state)
SETTINGS ${deduplication_window};

-- Which workers there are: they share the partitions among them.
CREATE TABLE IF NOT EXISTS ${database}.ingest_workers ${on_cluster} (
    topic_id UUID,
    writer String,
    name String,
    state Enum8('here' = 1, 'gone' = 2),
    seconds Float64,
    at DateTime64(3, 'UTC') DEFAULT now64(3)
) ENGINE = ${replicated}ReplacingMergeTree(at)
ORDER BY (topic_id, writer)
SETTINGS ${deduplication_window};

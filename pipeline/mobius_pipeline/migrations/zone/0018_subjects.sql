-- dangerous: states are dropped 90 days after they arrived, long after their hour was exported; they serve nothing else
-- How many people are behind a cell of the rollup: distinct pseudonyms (enduser.pseudo.id) by the hour. The states never
-- leave the zone; the export to the hub asks them whether a cell has enough people.
--
-- uniq is exact up to 65,536 distinct values, far beyond any least size, and then holds a sample of that many: a state is
-- bounded. A hash is kept, not the pseudonym. Requests that turn out to be a test's are taken out of the rollup, not out
-- of a state, so a cell has at most as many people as requests.
CREATE TABLE IF NOT EXISTS ${database}.latency_subjects ${on_cluster} (
    hour DateTime('UTC') CODEC(Delta, ZSTD(1)),
    region LowCardinality(String),
    service LowCardinality(String),
    version LowCardinality(String),
    environment LowCardinality(String),
    method LowCardinality(String),
    route LowCardinality(String),
    status_class LowCardinality(String),
    source Enum8('real' = 0, 'synthetic' = 1, 'suspected' = 2),
    vantage Enum8('server' = 0, 'client' = 1),
    subjects AggregateFunction(uniq, UInt64),
    arrived SimpleAggregateFunction(max, DateTime('UTC')) DEFAULT now('UTC')
) ENGINE = ${replicated}AggregatingMergeTree
PARTITION BY toYYYYMMDD(hour)
ORDER BY (service, route, method, region, hour, source, vantage, status_class, version, environment)
TTL arrived + toIntervalDay(90)
SETTINGS ${deduplication_window};

-- The same requests as in the rollup (0003), those that name somebody. A test's customers are no people.
CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.span_rows_to_latency_subjects ${on_cluster} TO ${database}.latency_subjects AS
SELECT
    toStartOfHour(start) AS hour,
    region, service, version, environment, method, route,
    multiIf(http_status >= 100, concat(toString(intDiv(http_status, 100)), 'xx'), status_code = 'Error', 'error', 'ok') AS status_class,
    source,
    CAST('server', 'Enum8(\'server\' = 0, \'client\' = 1)') AS vantage,
    uniqState(sipHash64(toString(attributes['enduser.pseudo.id']))) AS subjects
FROM ${database}.span_rows
WHERE problem = '' AND kind IN ('Server', 'Consumer') AND source != 'synthetic' AND attributes['enduser.pseudo.id'] != ''
GROUP BY hour, region, service, version, environment, method, route, status_class, source, vantage;

-- An hour in which some cells have people and others only requests.
ALTER TABLE ${database}.hub_exports ${on_cluster}
    MODIFY COLUMN counted_by Enum8('subjects' = 1, 'requests' = 2, 'both' = 3);

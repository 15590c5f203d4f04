"""Loads what the parity of a test is judged by: counts from the rollup, attributes from spans of a short window."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mobius_analysis import parity
from mobius_analysis.histogram import midpoint
from mobius_analysis.pair_history import TestRun, load_test
from mobius_analysis.parity import Dimension
from mobius_analysis.rollup import Window, query

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["Comparison", "compare"]

Array = NDArray[np.float64]

_SPANS_AROUND: Final = timedelta(minutes=30)
_MOST_SPANS: Final = 20_000
_MOST_SECONDS: Final = 1_800

_USERS: Final = """
SELECT
    toUInt32(intDiv(toUnixTimestamp(r.minute), 60)) AS minute,
    toString(r.region) AS region, toString(r.service) AS service, toString(r.method) AS method,
    toString(r.route) AS route, toString(r.version) AS version, toString(r.environment) AS environment,
    sum(r.requests) AS requests, sum(r.weight) AS weight, sum(r.weight_squared) AS squared,
    mapFilter((b, w) -> w > 0.5, sumMap(r.buckets)) AS histogram,
    mapKeys(histogram) AS buckets, mapValues(histogram) AS weights
FROM latency_minute AS r
WHERE r.minute >= {since:DateTime('UTC')} AND r.minute < {until:DateTime('UTC')}
  AND r.service IN {services:Array(String)}
  AND r.source = 'real' AND r.vantage = 'server'
GROUP BY minute, region, service, method, route, version, environment
HAVING requests > 0
"""

# A trace that a test's results name is the test's, marked or not.
_SPANS: Final = """
WITH joined AS (SELECT trace_id FROM joined_spans WHERE run IN {runs:Array(String)} GROUP BY trace_id HAVING sum(sign) > 0),
     any_run AS (SELECT trace_id FROM joined_spans GROUP BY trace_id HAVING sum(sign) > 0)
SELECT
    toUInt8((s.source = 'synthetic' AND s.test_run IN {runs:Array(String)}) OR s.trace_id IN joined) AS test,
    toUnixTimestamp64Milli(toDateTime64(s.start, 3, 'UTC')) AS start_ms,
    s.service IN {services:Array(String)} AND s.kind IN ('Server', 'Consumer') AS entry,
    s.weight AS weight,
    toFloat64OrNull(toString(s.attributes['http.request.body.size'])) AS request_size,
    toFloat64OrNull(toString(s.attributes['http.response.body.size'])) AS response_size,
    toFloat64OrNull(toString(s.attributes['db.response.returned_rows'])) AS returned_rows,
    toString(s.attributes[arrayFirst(k -> match(k, '(^|[._])cache[._]hit$'), mapKeys(s.attributes))]) AS cache_hit
FROM spans AS s
WHERE s.start >= {since:DateTime('UTC')} AND s.start < {until:DateTime('UTC')}
  AND s.region IN {regions:Array(String)}
  AND (((s.source = 'synthetic' AND s.test_run IN {runs:Array(String)}) OR s.trace_id IN joined) = {test:UInt8})
  AND ({test:UInt8} = 1 OR (s.source = 'real' AND s.trace_id NOT IN any_run))
  AND (s.kind IN ('Server', 'Consumer') OR mapContains(s.attributes, 'db.response.returned_rows'))
ORDER BY cityHash64(s.trace_id), s.span_id
LIMIT {most:UInt32}
"""

_RESULT_SECONDS: Final = """
SELECT toUnixTimestamp(r.start) AS second, sum(r.requests) AS requests
FROM synthetic_results AS r
WHERE r.run = {run:String} AND r.start >= {since:DateTime64(6, 'UTC')} AND r.start <= {until:DateTime64(6, 'UTC')}
GROUP BY second ORDER BY second
"""

_SPAN_SECONDS: Final = """
SELECT toUnixTimestamp(s.start) AS second, count() AS requests, max(s.weight) AS heaviest
FROM spans AS s
WHERE s.start >= {since:DateTime('UTC')} AND s.start < {until:DateTime('UTC')}
  AND s.region = {region:String} AND s.service IN {services:Array(String)}
  AND s.kind IN ('Server', 'Consumer') AND s.source = 'real'
GROUP BY second ORDER BY second
"""

_LOAD_MODELS: Final = """
SELECT r.run AS run, any(toString(r.load_model)) AS load_model FROM synthetic_runs AS r FINAL
WHERE r.run IN {runs:Array(String)} GROUP BY run
"""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A test's traffic beside production's, in one zone."""

    zone: str
    test: str
    runs: tuple[TestRun, ...]
    services: tuple[str, ...]
    window: Window
    requests: tuple[int, int]
    dimensions: tuple[Dimension, ...]


def compare(client: Client, zone: str, runs: Sequence[TestRun], window: Window) -> Comparison:
    """Compare the runs of one test with users' traffic in ``window``.

    Raises
    ------
    DependencyError
        The store does not answer.
    TerminalError
        The store refused a query.
    """
    tests = _one_vantage(load_test(client, runs))
    services = tuple(sorted(tests["service"].unique())) if tests.height else ()
    users = query(
        client,
        _USERS,
        {"since": window.start, "until": window.end, "services": list(services)},
    )
    regions = sorted({run.region for run in runs})
    inside = users.filter(pl.col("region").is_in(regions))
    found = [*_of_rollup(tests, users, inside, runs), *_of_spans(client, runs, services)]
    by_name = {dimension.name: dimension for dimension in found}
    return Comparison(
        zone=zone,
        test=runs[-1].test,
        runs=tuple(runs),
        services=services,
        window=window,
        requests=(
            int(tests["requests"].sum()) if tests.height else 0,
            int(inside["requests"].sum()) if inside.height else 0,
        ),
        dimensions=tuple(by_name[name] for name in parity.DIMENSIONS),
    )


def _one_vantage(tests: pl.DataFrame) -> pl.DataFrame:
    """Count each request of the test once: as its own file does, or by its spans where there is no file."""
    if tests.is_empty():
        return tests
    both = tests.group_by("vantage").agg(pl.col("requests").sum()).sort("requests")
    return tests.filter(pl.col("vantage") == both["vantage"][-1])


# ---------------------------------------------------------------------------- from the rollup


def _of_rollup(
    tests: pl.DataFrame, users: pl.DataFrame, inside: pl.DataFrame, runs: Sequence[TestRun]
) -> list[Dimension]:
    names = ("endpoints", "concurrency", "time_of_day", "versions", "regions", "environment")
    if tests.is_empty() or users.is_empty():
        who = "the test's" if tests.is_empty() else "users'"
        return [parity.unknown(name, f"no {who} requests in this time") for name in names]
    n, m = float(tests["requests"].sum()), _effective(inside)
    regions = {run.region for run in runs}
    if inside.is_empty():
        return [parity.unknown(name, f"no users in {', '.join(sorted(regions))}") for name in names]
    return [
        parity.mix("endpoints", _endpoints(tests), _endpoints(inside), requests=(n, m)),
        parity.concurrency(_in_flight(tests, runs), _users_in_flight(inside)),
        parity.hours(_by_hour(tests), _by_hour(inside), runs=len(runs)),
        _versions(inside, runs, m),
        parity.share(
            "regions",
            float(inside["weight"].sum()),
            float(users["weight"].sum()),
            requests=_effective(users),
            noun=f"in the tested {'region' if len(regions) == 1 else 'regions'} {', '.join(sorted(regions))}",
        ),
        _environment(inside, runs, m),
    ]


def _effective(users: pl.DataFrame) -> float:
    squared = float(users["squared"].sum())
    return float(users["weight"].sum()) ** 2 / squared if squared > 0 else 0.0


def _endpoints(rows: pl.DataFrame) -> dict[str, float]:
    counts: dict[str, float] = defaultdict(float)
    for service, method, route, weight in rows.select(
        "service", "method", "route", "weight"
    ).iter_rows():
        counts[" ".join(part for part in (service, method, route) if part)] += weight
    return counts


def _seconds(rows: pl.DataFrame) -> Array:
    """Time that the requests of each row took together."""
    return np.array(
        [
            float(midpoint(buckets) @ np.asarray(weights)) if len(buckets) else 0.0
            for buckets, weights in rows.select("buckets", "weights").iter_rows()
        ]
    )


def _in_flight(tests: pl.DataFrame, runs: Sequence[TestRun]) -> float | None:
    length = sum((run.end - run.start).total_seconds() for run in runs)
    return float(_seconds(tests).sum()) / length if length > 0 else None


def _users_in_flight(users: pl.DataFrame) -> Array:
    """Requests in flight in the tested regions, one region's minute each."""
    summed = (
        users.select("region", "minute")
        .with_columns(seconds=pl.Series(_seconds(users)))
        .group_by("region", "minute")
        .agg(pl.col("seconds").sum())
    )
    return summed["seconds"].to_numpy() / 60


def _by_hour(rows: pl.DataFrame) -> list[float]:
    hours = [0.0] * 24
    for minute, weight in rows.select("minute", "weight").iter_rows():
        hours[minute // 60 % 24] += weight
    return hours


def _versions(users: pl.DataFrame, runs: Sequence[TestRun], requests: float) -> Dimension:
    tested = {run.release for run in runs if run.release}
    if not tested:
        return parity.unknown("versions", "no run names its release: import with --release")
    met = users.filter(pl.col("version") != "")
    other = met.filter(~pl.col("version").is_in(sorted(tested)))
    missing = ""
    if other.height:
        most = other.group_by("version").agg(pl.col("weight").sum()).sort("weight", "version")
        missing = f"most of the others run {most['version'][-1]}"
    return parity.share(
        "versions",
        float(met["weight"].sum()) - float(other["weight"].sum()),
        float(met["weight"].sum()),
        requests=requests,
        noun=f"answered by a tested release ({', '.join(sorted(tested))})",
        missing=missing,
    )


def _environment(users: pl.DataFrame, runs: Sequence[TestRun], requests: float) -> Dimension:
    tested = {run.environment for run in runs if run.environment}
    if not tested:
        return parity.unknown(
            "environment", "no run names its environment: import with --environment"
        )
    named = users.filter(pl.col("environment") != "")
    same = named.filter(pl.col("environment").is_in(sorted(tested)))
    return parity.share(
        "environment",
        float(same["weight"].sum()),
        float(named["weight"].sum()),
        requests=requests,
        noun=f"in the tested environment ({', '.join(sorted(tested))})",
    )


# ---------------------------------------------------------------------------- from spans


def _of_spans(client: Client, runs: Sequence[TestRun], services: Sequence[str]) -> list[Dimension]:
    newest = runs[-1]
    test = _spans(client, runs, services, newest, test=True)
    users = _spans(client, runs, services, newest, test=False)
    return [
        _arrivals(client, runs, services),
        _payloads(test, users),
        parity.ratio_of_hits(_hits(test), _hits(users)),
        parity.sizes(
            "data_volume",
            _values(test, "returned_rows"),
            _values(users, "returned_rows"),
            what="rows a query returned (db.response.returned_rows)",
        ),
    ]


def _spans(
    client: Client,
    runs: Sequence[TestRun],
    services: Sequence[str],
    newest: TestRun,
    *,
    test: bool,
) -> pl.DataFrame:
    around = timedelta(0) if test else _SPANS_AROUND
    parameters: dict[str, Any] = {
        "since": _whole(newest.start - around),
        "until": _whole(newest.end + around) + timedelta(seconds=2),
        "runs": [run.run for run in runs],
        "services": list(services),
        "regions": [newest.region],
        "test": int(test),
        "most": _MOST_SPANS,
    }
    return query(client, _SPANS, parameters)


def _whole(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)


def _values(spans: pl.DataFrame, column: str) -> Array:
    return spans[column].drop_nulls().to_numpy().astype(float)


def _payloads(test: pl.DataFrame, users: pl.DataFrame) -> Dimension:
    """Compare bodies of responses, or of requests where those differ more."""
    found = [
        parity.sizes(
            "payloads", _values(test, column), _values(users, column), what=f"bytes of a {noun}"
        )
        for column, noun in (("request_size", "request"), ("response_size", "response"))
    ]
    known = [one for one in found if one.score is not None]
    return min(known, key=lambda d: d.score.value if d.score else 1.0, default=found[-1])


def _hits(spans: pl.DataFrame) -> tuple[int, int]:
    told = spans.filter(pl.col("cache_hit") != "")["cache_hit"].str.to_lowercase()
    return int(told.is_in(["true", "1", "hit", "yes"]).sum()), len(told)


def _arrivals(client: Client, runs: Sequence[TestRun], services: Sequence[str]) -> Dimension:
    newest = runs[-1]
    models = query(client, _LOAD_MODELS, {"runs": [newest.run]})
    model = str(models["load_model"][0]) if models.height else "unknown"
    own = query(
        client,
        _RESULT_SECONDS,
        {"run": newest.run, "since": newest.start, "until": newest.end + timedelta(seconds=1)},
    )
    middle = newest.start + (newest.end - newest.start) / 2
    half = timedelta(seconds=_MOST_SECONDS / 2)
    since, until = _whole(middle - half), _whole(middle + half)
    theirs = query(
        client,
        _SPAN_SECONDS,
        {"since": since, "until": until, "region": newest.region, "services": list(services)},
    )
    reason = ""
    if theirs.is_empty():
        reason = "no spans of users around the run"
    elif float(theirs["heaviest"].max() or 0) > 1:  # type: ignore[arg-type]  # a number
        reason = "users' spans are sampled: single arrivals are not known"
    elif own.is_empty():
        reason = "the run's requests are not known one by one"
    return parity.arrivals(
        None if reason else _counts(own, newest.start, newest.end),
        None if reason else _counts(theirs, since, until),
        load_model=model,
        reason=reason,
    )


def _counts(rows: pl.DataFrame, since: datetime, until: datetime) -> Array:
    """Requests in each whole second, those without one too; the first and last second are not whole."""
    first, end = int(since.timestamp()) + 1, int(until.timestamp())
    counts = np.zeros(max(0, min(end - first, _MOST_SECONDS)))
    for second, requests in rows.select("second", "requests").iter_rows():
        if 0 <= second - first < len(counts):
            counts[second - first] = requests
    return counts

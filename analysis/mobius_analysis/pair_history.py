"""Loads the history that predictions stand on: test runs, and what users got around or after each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import polars as pl

from mobius_analysis.clusters import Clusters
from mobius_analysis.correlate import Vantage
from mobius_analysis.histogram import HALF_BUCKET
from mobius_analysis.intervals import CONFIDENCE, Bounds, estimate, order_statistic_levels
from mobius_analysis.pairs import LEVELS, Measured, Pair
from mobius_analysis.prediction import Subject
from mobius_analysis.rollup import ANSWERED, CELL, Window, clusters_of, query

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = [
    "TestRun",
    "load_pairs",
    "load_runs",
    "load_test",
    "load_users",
    "measure",
    "measure_clusters",
]

_AROUND: Final = timedelta(hours=1)
_AFTER: Final = timedelta(hours=24)
_ENOUGH: Final = 72  # answered requests: the least that give p95 an interval
_FEW_MINUTES: Final = 20
_MOST_RUNS: Final = 60  # of a test in a region, the latest

_RUNS: Final = """
SELECT
    r.run AS run, toString(r.region) AS region, toString(any(r.test)) AS test,
    toString(any(r.release)) AS release, toString(any(r.environment)) AS environment,
    toUnixTimestamp64Micro(min(r.start)) AS start, toUnixTimestamp64Micro(max(r.end)) AS end,
    sum(r.requests) AS requests, sum(r.failed) AS failed,
    max(JSONExtractString(r.summary, 'percentiles') = 'as_reported') AS reported
FROM synthetic_runs AS r FINAL
WHERE r.start >= {since:DateTime('UTC')} AND r.start < {until:DateTime('UTC')}
  AND ({test:String} = '' OR r.test = {test:String})
  AND ({run:String} = '' OR r.run = {run:String})
GROUP BY run, region
ORDER BY start, run, region
"""

_SUMS: Final = f"""
    sum(r.requests) AS requests,
    sum(r.errors) AS errors,
    sum(r.weight) AS weight,
    sumIf(r.requests, {ANSWERED}) AS answered,
    sumIf(r.weight_squared, {ANSWERED}) AS squared,
    -- What corrections leave of a bucket that they emptied is rounding.
    mapFilter((b, w) -> w > 0.5, sumMapIf(r.buckets, {ANSWERED})) AS histogram,
    mapKeys(histogram) AS buckets,
    mapValues(histogram) AS weights
"""

_TESTS: Final = f"""
SELECT
    toUInt32(intDiv(toUnixTimestamp(r.minute), 60)) AS minute,
    toString(r.region) AS region, toString(r.service) AS service, toString(r.method) AS method,
    toString(r.route) AS route, toString(r.vantage) AS vantage, toString(r.test_run) AS test_run,
    {_SUMS}
FROM latency_minute AS r
WHERE r.minute >= {{since:DateTime('UTC')}} AND r.minute < {{until:DateTime('UTC')}}
  AND r.source = 'synthetic' AND r.test_run IN {{runs:Array(String)}}
GROUP BY minute, region, service, method, route, vantage, test_run
HAVING requests > 0
ORDER BY region, service, method, route, vantage, test_run, minute
"""  # noqa: S608  # constants of this module

_USERS: Final = f"""
SELECT
    toUInt32(intDiv(toUnixTimestamp(r.minute), 60)) AS minute,
    toString(r.region) AS region, toString(r.service) AS service, toString(r.method) AS method,
    toString(r.route) AS route, toString(r.version) AS version,
    {_SUMS}
FROM latency_minute AS r
WHERE r.minute >= {{since:DateTime('UTC')}} AND r.minute < {{until:DateTime('UTC')}}
  AND r.service IN {{services:Array(String)}} AND r.route IN {{routes:Array(String)}}
  AND r.region = {{region:String}}
  AND r.source = 'real' AND r.vantage = 'server'
  AND ({{environment:String}} = '' OR r.environment = {{environment:String}})
GROUP BY minute, region, service, method, route, version
HAVING requests > 0
ORDER BY region, service, method, route, version, minute
"""  # noqa: S608  # as above

_FIRST_SEEN: Final = """
SELECT toString(r.service) AS service, toString(r.version) AS version,
    toUInt32(intDiv(toUnixTimestamp(min(r.minute)), 60)) AS first
FROM latency_minute AS r
WHERE r.minute >= {since:DateTime('UTC')} AND r.minute < {until:DateTime('UTC')}
  AND r.source = 'real' AND r.vantage = 'server' AND r.region = {region:String}
  AND r.version IN {versions:Array(String)} AND r.service IN {services:Array(String)}
GROUP BY service, version
"""


@dataclass(frozen=True, slots=True)
class TestRun:
    """A stored run; empty texts are unknown. ``reported``: its file held percentiles only."""

    run: str
    test: str
    region: str
    release: str
    environment: str
    start: datetime
    end: datetime
    requests: int
    failed: int
    reported: bool


def load_runs(
    client: Client, since: datetime, until: datetime, *, test: str = "", run: str = ""
) -> tuple[TestRun, ...]:
    """Load the runs that began in this time, the earliest first; of one test, or one run, where named.

    Raises
    ------
    DependencyError
        The store does not answer.
    TerminalError
        The store refused the query.
    """
    rows = query(client, _RUNS, {"since": since, "until": until, "test": test, "run": run})
    return tuple(
        TestRun(
            run=row["run"],
            test=row["test"],
            region=row["region"],
            release=row["release"],
            environment=row["environment"],
            start=_moment(row["start"]),
            end=_moment(row["end"]),
            requests=int(row["requests"]),
            failed=int(row["failed"]),
            reported=bool(row["reported"]),
        )
        for row in rows.iter_rows(named=True)
    )


def _moment(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1e6, UTC)


def load_test(client: Client, runs: Sequence[TestRun]) -> pl.DataFrame:
    """Load the minute histograms of runs, both vantages, with the column ``test_run``."""
    parameters = {
        "since": _floor(min(run.start for run in runs)),
        "until": _floor(max(run.end for run in runs)) + timedelta(minutes=2),
        "runs": [run.run for run in runs],
    }
    return query(client, _TESTS, parameters).drop("histogram")


def load_users(
    client: Client, region: str, environment: str, window: Window, subjects: Sequence[Subject]
) -> pl.DataFrame:
    """Load users' minute histograms of some endpoints of one region, with the column ``version``."""
    parameters = {
        "since": window.start,
        "until": window.end,
        "region": region,
        "environment": environment,
        "services": sorted({subject[1] for subject in subjects}),
        "routes": sorted({subject[3] for subject in subjects}),
    }
    return query(client, _USERS, parameters).drop("histogram")


def _floor(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(second=0, microsecond=0)


def measure(rows: pl.DataFrame, *, run: bool = False) -> Measured | None:
    """Quantiles and histogram of rows of one cell; None where no request was answered. ``run``: of a test run."""
    clusters = clusters_of(rows)
    return None if clusters is None else measure_clusters(clusters, run=run)


def measure_clusters(clusters: Clusters, *, run: bool = False) -> Measured:
    """Quantiles and histogram of one side.

    A test run (``run``) of under 20 minutes gets the exact order-statistic interval, as if its requests were independent:
    minutes so few tell little of how they depend on each other, and what that adds is part of how runs and
    releases differ, which the history shows.
    """
    quantiles = {q: estimate(clusters, q).bounds for q in LEVELS}
    if run and len(clusters.minutes) < _FEW_MINUTES:
        quantiles = {q: _independent(clusters, q) for q in LEVELS}
    return Measured(quantiles, clusters.requests, clusters.buckets, clusters.counts.sum(axis=0))


def _independent(clusters: Clusters, q: float) -> Bounds:
    value = clusters.quantile(q)
    levels = order_statistic_levels(int(clusters.effective), q, CONFIDENCE)
    if levels is None:
        return Bounds(value)
    low, high = (clusters.at_level(level) for level in levels)
    return Bounds(value, min(low, value) / HALF_BUCKET, max(high, value) * HALF_BUCKET)


def load_pairs(
    client: Client,
    runs: Sequence[TestRun],
    until: datetime,
    *,
    advance: Callable[[int], None] = lambda _: None,
) -> dict[Vantage, tuple[Pair, ...]]:
    """Pair every run with users' traffic, seen from the server and from the client.

    Users count from an hour before the run to an hour after it, with the run's release where it names one;
    where they are too few (under 72 answered), in the first 24 h in which they met that release.
    Runs of which only percentiles are known have no intervals, and are left out. At most the latest 60 runs
    a region count.

    Raises
    ------
    DependencyError
        The store does not answer.
    TerminalError
        The store refused a query.
    """
    made: dict[Vantage, list[Pair]] = {"server": [], "client": []}
    groups: dict[tuple[str, str], list[TestRun]] = {}
    for run in runs:
        if not run.reported:
            groups.setdefault((run.region, run.environment), []).append(run)
    for all_runs in groups.values():
        many = all_runs[-_MOST_RUNS:]
        tests = load_test(client, many)
        if tests.is_empty():
            continue
        users = _Users(client, many, tests, until)
        parts = tests.partition_by("test_run", "vantage", *CELL, as_dict=True)
        by_run = {run.run: run for run in many}
        for (name, vantage, *cell), rows in parts.items():
            run = by_run[name]
            subject: Subject = (cell[0], cell[1], cell[2], cell[3])
            test, production = measure(rows, run=True), users.of(run, subject)
            if test is not None and production is not None:
                at = run.start.timestamp()
                made["server" if vantage == "server" else "client"].append(
                    Pair(subject, run.run, run.release, at, test, production)
                )
        advance(len(many))
    return {vantage: tuple(pairs) for vantage, pairs in made.items()}


class _Users:
    """Users' side of the runs of one region and environment."""

    def __init__(
        self, client: Client, runs: Sequence[TestRun], tests: pl.DataFrame, until: datetime
    ) -> None:
        region, environment = runs[0].region, runs[0].environment
        self._subjects: list[Subject] = sorted(tests.select(CELL).unique().iter_rows())
        self._until = until
        self._first = self._first_seen(client, region, runs)
        frames = [
            load_users(client, region, environment, window, self._subjects)
            for window in self._windows(runs)
        ]
        frame = pl.concat(frames) if frames else pl.DataFrame()
        self._parts: Mapping[tuple[object, ...], pl.DataFrame] = (
            frame.partition_by(CELL, as_dict=True) if frame.height else {}
        )

    def of(self, run: TestRun, subject: Subject) -> Measured | None:
        """What users got with the run's release; None where they did not meet it yet."""
        rows = self._parts.get(subject)
        if rows is None:
            return None
        if run.release:
            rows = rows.filter(pl.col("version") == run.release)
        for window in self._choices(run, subject[1]):
            first, end = window.minutes
            inside = rows.filter(pl.col("minute").is_between(first, end, closed="left"))
            if int(inside["answered"].sum()) >= _ENOUGH:
                return measure(inside)
        return None

    def _first_seen(
        self, client: Client, region: str, runs: Sequence[TestRun]
    ) -> dict[tuple[str, str], datetime]:
        versions = sorted({run.release for run in runs if run.release})
        if not versions:
            return {}
        rows = query(
            client,
            _FIRST_SEEN,
            {
                "since": _floor(min(run.start for run in runs) - _AROUND),
                "until": _floor(self._until),
                "region": region,
                "versions": versions,
                "services": sorted({subject[1] for subject in self._subjects}),
            },
        )
        return {
            (row["service"], row["version"]): datetime.fromtimestamp(row["first"] * 60, UTC)
            for row in rows.iter_rows(named=True)
        }

    def _choices(self, run: TestRun, service: str) -> Iterator[Window]:
        yield self._window(run.start - _AROUND, run.end + _AROUND)
        first = self._first.get((service, run.release))
        if first is not None:
            yield self._window(first, first + _AFTER)

    def _window(self, start: datetime, end: datetime) -> Window:
        return Window.of(start, min(end, self._until))

    def _windows(self, runs: Sequence[TestRun]) -> list[Window]:
        """Windows of all runs, those that touch made one: each minute is loaded once."""
        services = {subject[1] for subject in self._subjects}
        wanted = sorted(
            {w for run in runs for name in services for w in self._choices(run, name)},
            key=lambda w: w.start,
        )
        made: list[Window] = []
        for window in wanted:
            if window.end <= window.start:
                continue
            if made and window.start <= made[-1].end:
                made[-1] = Window(made[-1].start, max(made[-1].end, window.end))
            else:
                made.append(window)
        return made

"""Distributions, series, releases and test runs of one endpoint in one region."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

import polars as pl

from mobius_analysis.releases import find_releases, load_versions
from mobius_analysis.rollup import Only, load_rollup
from mobius_analysis.rollup import Window as AnalysisWindow
from mobius_analysis.series import bin_minutes, distribution, quantile_series
from mobius_dashboards.clients import client_for
from mobius_dashboards.const import SOURCE_WORDS
from mobius_dashboards.queries.cache import cached
from mobius_dashboards.queries.correlation import require_shown
from mobius_dashboards.queries.people import CellKey, is_small
from mobius_dashboards.view import View
from mobius_dashboards.viewer import Viewer
from mobius_instrumentation.zones import Zone
from mobius_pipeline.options import format_time

__all__ = ["Run", "Shapes", "Subject", "runs", "shapes"]


# More points than these have too few requests each for an interval of p95.
_MOST_BINS: Final = 48


@dataclass(frozen=True, slots=True)
class Subject:
    """One endpoint in one region: what the endpoint page is about, and where the tests were measured."""

    region: str
    service: str
    method: str
    route: str
    environment: str
    vantage: str

    @property
    def cell(self) -> CellKey:
        """Region, service, method and route."""
        return self.region, self.service, self.method, self.route

    @property
    def only(self) -> Only:
        """The rows of the rollup that belong to it."""
        return Only(self.region, self.service, self.method, self.route, self.environment)


@dataclass(frozen=True, slots=True)
class Shapes:
    """What the endpoint page draws.

    Attributes
    ----------
    curve
        Quantile curve: ``source``, ``share``, ``value_ms``, ``low_ms``, ``high_ms``.
    series
        Per bin of time: ``source``, ``at``, ``quantile``, ``value_ms``, ``low_ms``, ``high_ms``.
    bin_minutes
        Length of such a bin.
    releases
        ``at`` (ISO 8601) and ``label`` of each release that users met inside the window.
    """

    curve: list[dict[str, Any]]
    series: list[dict[str, Any]]
    bin_minutes: int
    releases: list[dict[str, Any]]


def shapes(view: View, zone: Zone, subject: Subject) -> Shapes:
    """Return distributions and series of an endpoint.

    Who sees aggregates alone gets no point of the series that fewer requests of users are behind than people have to be.
    """
    require_shown(view, zone, subject.cell)
    return _shapes(
        view.viewer.policy, zone, view.window.since, view.window.until, subject, view.viewer
    )


@cached
def _shapes(
    policy: tuple[str, ...],  # noqa: ARG001 - part of the cache's key
    zone: Zone,
    since: datetime,
    until: datetime,
    subject: Subject,
    _viewer: Viewer,
) -> Shapes:
    window = AnalysisWindow.of(since, until)
    length = bin_minutes(window, _MOST_BINS)
    least = _viewer.least_people(zone.name)
    with client_for(_viewer, zone) as client:
        frame = load_rollup(client, window, subject.only)
        releases = find_releases(load_versions(client, window))
    frame = frame.filter(
        ((pl.col("source") == "real") & (pl.col("vantage") == "server"))
        | ((pl.col("source") == "synthetic") & (pl.col("vantage") == subject.vantage))
    )
    return Shapes(
        curve=[
            _named(row, share=row["level"]) for row in distribution(frame).iter_rows(named=True)
        ],
        series=[
            _named(row, at=format_time(row["time"]), quantile=row["quantile"])
            for row in quantile_series(frame, length, (0.5, 0.95)).iter_rows(named=True)
            if row["value_ms"] is not None
            and not (row["source"] == "real" and is_small(row["requests"], least))
        ],
        bin_minutes=length,
        releases=[
            {"at": format_time(release.first_seen), "label": release.version}
            for release in releases
            if (release.service, release.region) == (subject.service, subject.region)
            and subject.environment in ("", release.environment)
        ],
    )


def _named(row: dict[str, Any], **more: Any) -> dict[str, Any]:
    side = "production" if row["source"] == "real" else "synthetic"
    numbers = {key: row[key] for key in ("value_ms", "low_ms", "high_ms")}
    return {"source": SOURCE_WORDS[side], **numbers, **more}


@dataclass(frozen=True, slots=True)
class Run:
    """A test run that requested an endpoint. ``tool`` is empty where only its marked spans are known."""

    run: str
    test: str
    tool: str
    release: str
    start: datetime
    requests: int
    failed: int
    generated: bool


_RUNS: Final = """
SELECT toString(r.test_run) AS run, min(r.minute) AS first, sum(r.requests) AS requests, sum(r.errors) AS failed,
    arrayStringConcat(arraySort(groupUniqArrayIf(toString(r.version), r.version != '')), ', ') AS versions
FROM latency_minute AS r
WHERE r.minute >= {since:DateTime('UTC')} AND r.minute < {until:DateTime('UTC')}
  AND r.source = 'synthetic' AND r.vantage = {vantage:String}
  AND r.service = {service:String} AND r.method = {method:String} AND r.route = {route:String}
  AND r.region = {region:String} AND ({environment:String} = '' OR r.environment = {environment:String})
GROUP BY run
ORDER BY first DESC
LIMIT 500
"""


def runs(view: View, zone: Zone, subject: Subject) -> list[Run]:
    """Return the test runs that requested an endpoint in the window, newest first."""
    require_shown(view, zone, subject.cell)
    return _runs(
        view.viewer.policy, zone, view.window.since, view.window.until, subject, view.viewer
    )


@cached
def _runs(
    policy: tuple[str, ...],  # noqa: ARG001 - part of the cache's key
    zone: Zone,
    since: datetime,
    until: datetime,
    subject: Subject,
    _viewer: Viewer,
) -> list[Run]:
    with client_for(_viewer, zone) as client:
        seen = client.query(
            _RUNS, parameters={**asdict(subject), "since": since, "until": until}
        ).result_rows
        known = {
            row[0]: row[1:]
            for row in client.query(
                "SELECT run, toString(test), toString(tool), toString(release), generated"
                " FROM synthetic_runs FINAL WHERE run IN {runs:Array(String)}",
                parameters={"runs": [row[0] for row in seen]},
            ).result_rows
        }
    found = []
    for name, first, requests, failed, versions in seen:
        test, tool, release, generated = known.get(name, ("", "", "", False))
        found.append(
            Run(
                run=name,
                test=test,
                tool=tool,
                release=release or versions,
                start=first.replace(tzinfo=UTC),
                requests=int(requests),
                failed=int(failed),
                generated=bool(generated),
            )
        )
    return found

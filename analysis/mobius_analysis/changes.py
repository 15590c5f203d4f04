"""What each release changed for users, and whether the tests saw it.

Production and tests are each compared with themselves, before against after, with the interval of the
ratio; the verdict compares the two movements.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal

import polars as pl

from mobius_analysis.correlate import SideSummary, Vantage, pick_vantage, summarise
from mobius_analysis.ratio import MARGIN, Ratio, ratio
from mobius_analysis.releases import Release, find_releases, load_versions
from mobius_analysis.rollup import Only, Window, load_rollup
from mobius_analysis.verdicts import HEADLINE, discoveries

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = [
    "SPAN",
    "Change",
    "ChangeKind",
    "Direction",
    "Movement",
    "compare_release",
    "judge_changes",
    "load_changes",
]

ChangeKind = Literal["blind_spot", "false_alarm", "confirmed", "early_warning", "unseen_change"]
"""blind_spot: users got it, tests were precise enough and did not. false_alarm: the other way round.
confirmed: both. early_warning: tests of that version moved before users had it. unseen_change: users
got it, and the tests could not have seen it (none ran, or too few requests)."""

SPAN: Final = timedelta(hours=6)
"""How far before and after a release is looked at."""

_LEAST_MINUTES: Final = 10
_LEAST_TEST_MINUTES: Final = 4
"""Minutes before and after below which a side's movement is not judged: a release is watched by everyone,
so "too early to tell" must not look like an alarm, and below these the intervals undercover
(docs/statistics.md). Tests come in short runs; theirs is the least that clusters need."""

Direction = Literal["slower", "faster"]


@dataclass(frozen=True, slots=True)
class Movement:
    """One side before and after a release: ratio after / before per headline quantile."""

    before: SideSummary = field(default_factory=SideSummary)
    after: SideSummary = field(default_factory=SideSummary)
    ratios: Mapping[float, Ratio] = field(default_factory=dict)
    kept: Mapping[float, bool] = field(default_factory=dict)

    @property
    def stood_still(self) -> bool:
        """Whether every headline quantile is known to have stayed within the margin."""
        return all(q in self.ratios and self.ratios[q].equivalent() for q in HEADLINE)

    def moved(self, direction: Direction) -> tuple[float, ...]:
        """Quantiles that moved beyond the margin, after correction."""
        return tuple(
            q
            for q, r in self.ratios.items()
            if self.kept.get(q, False) and (r.above() if direction == "slower" else r.below())
        )


@dataclass(frozen=True, slots=True)
class Change:
    """One endpoint at one release. ``kind`` is None where nobody moved; ``early`` are tests before users."""

    release: Release
    method: str
    route: str
    vantage: Vantage
    production: Movement
    tests: Movement
    early: Movement
    lead: timedelta | None = None
    kind: ChangeKind | None = None
    direction: Direction | None = None
    quantiles: tuple[float, ...] = ()


def load_changes(client: Client, window: Window, *, span: timedelta = SPAN) -> tuple[Change, ...]:
    """Compare every endpoint at every release that came within ``window``.

    Raises
    ------
    DependencyError
        The store does not answer.
    TerminalError
        The store refused the query.
    """
    wide = Window(window.start - span, window.end)
    releases = [
        r for r in find_releases(load_versions(client, wide)) if r.first_seen >= window.start
    ]
    changes: list[Change] = []
    for release in releases:
        around = Window(release.first_seen - span, min(release.first_seen + span, window.end))
        only = Only(region=release.region, service=release.service, environment=release.environment)
        changes += compare_release(release, load_rollup(client, around, only, ("version",)))
    return judge_changes(changes)


def compare_release(release: Release, frame: pl.DataFrame) -> list[Change]:
    """Measure the movements of every endpoint of one release.

    ``frame`` holds rows of ``load_rollup`` with versions, for the release's service and region only.
    """
    groups = frame.partition_by("method", "route", as_dict=True, maintain_order=True)
    return [
        _compare_endpoint(release, str(method), str(route), rows)
        for (method, route), rows in groups.items()
    ]


def _compare_endpoint(release: Release, method: str, route: str, rows: pl.DataFrame) -> Change:
    first, whole = release.minutes
    minute, own = pl.col("minute"), pl.col("version") == release.version
    real = rows.filter((pl.col("source") == "real") & (pl.col("vantage") == "server"))
    test = rows.filter(pl.col("source") == "synthetic")
    vantage = pick_vantage(test)
    test = test.filter(pl.col("vantage") == vantage)
    # While versions overlap a row's own version says to which side it belongs; a test's file may name none.
    unnamed = (pl.col("version") == "") & (minute >= whole)
    base = test.filter(~own & (minute < first))
    early = test.filter(own & (minute < first))
    early_movement = _movement(base, early, _LEAST_TEST_MINUTES)
    lead = None
    if early_movement.ratios:
        lead = timedelta(minutes=first - int(early["minute"].min()))  # type: ignore[arg-type]  # integers, not empty
    return Change(
        release=release,
        method=method,
        route=route,
        vantage=vantage,
        production=_movement(
            real.filter(~own & (minute < first)),
            real.filter(own & (minute >= first)),
            _LEAST_MINUTES,
        ),
        tests=_movement(
            base, test.filter((own & (minute >= first)) | unnamed), _LEAST_TEST_MINUTES
        ),
        early=early_movement,
        lead=lead,
    )


def _movement(before: pl.DataFrame, after: pl.DataFrame, least_minutes: int) -> Movement:
    old, new = summarise(before, HEADLINE)[0], summarise(after, HEADLINE)[0]
    if min(old.minutes, new.minutes) < least_minutes:
        return Movement(old, new)
    ratios = {}
    for q in HEADLINE:
        x, y = old.estimate(q), new.estimate(q)
        if x is not None and y is not None:
            ratios[q] = ratio(y, x)
    return Movement(old, new, ratios)


def judge_changes(changes: Sequence[Change], margin: float = MARGIN) -> tuple[Change, ...]:
    """Judge all changes as one family: every movement of either side is one claim among them."""
    movements = [m for change in changes for m in (change.production, change.tests, change.early)]
    members = [
        (i, q)
        for i, movement in enumerate(movements)
        for q, r in movement.ratios.items()
        if r.known
    ]
    survived = discoveries([movements[i].ratios[q].p_beyond(margin) for i, q in members])
    kept: list[dict[float, bool]] = [{} for _ in movements]
    for (i, q), survives in zip(members, survived, strict=True):
        kept[i][q] = survives
    corrected = iter([replace(m, kept=k) for m, k in zip(movements, kept, strict=True)])
    return tuple(
        _judge(
            replace(
                change, production=next(corrected), tests=next(corrected), early=next(corrected)
            )
        )
        for change in changes
    )


def _judge(change: Change) -> Change:
    for kind, direction, quantiles in _claims(change):
        return replace(change, kind=kind, direction=direction, quantiles=quantiles)
    return change


def _claims(change: Change) -> Iterator[tuple[ChangeKind, Direction, tuple[float, ...]]]:
    """What can be said of a change, the strongest first; slower before faster."""
    directions: tuple[Direction, Direction] = ("slower", "faster")
    for direction in directions:
        moved = change.production.moved(direction)
        if not moved:
            continue
        if early := tuple(q for q in moved if q in change.early.moved(direction)):
            yield "early_warning", direction, early
        if both := tuple(q for q in moved if q in change.tests.moved(direction)):
            yield "confirmed", direction, both
        if missed := tuple(q for q in moved if _stood_still(change.tests, change.production, q)):
            yield "blind_spot", direction, missed
        yield "unseen_change", direction, moved
    for direction in directions:
        moved = change.tests.moved(direction)
        if false := tuple(q for q in moved if _stood_still(change.production, change.tests, q)):
            yield "false_alarm", direction, false


def _stood_still(side: Movement, mover: Movement, q: float) -> bool:
    """Whether ``side`` is precise enough to have seen the other's move of quantile ``q``, and did not."""
    still, moved = side.ratios.get(q), mover.ratios[q].bounds
    if still is None or still.bounds.low is None or still.bounds.high is None:
        return False
    apart = (moved.low is not None and still.bounds.high < moved.low) or (
        moved.high is not None and still.bounds.low > moved.high
    )
    return still.equivalent() or apart

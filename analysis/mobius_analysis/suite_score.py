"""The score of a test suite: a small vector, for all tests together and for each, in which nothing is averaged away.

How much of production tests exercise, which of its changes they saw and when, which of their alarms were
false, and whether they tell the truth. Unknown is None, never 0 (docs/suite.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mobius_analysis.correlate import Cell
from mobius_analysis.intervals import Bounds
from mobius_analysis.lead_lag import LeadLag, lead_lag
from mobius_analysis.rollup import Window
from mobius_analysis.seasons import without_season
from mobius_analysis.suite_pairs import Alarm, Sight, SightKind, UserChange
from mobius_analysis.suite_shares import clustered_share, share_of_total
from mobius_analysis.suite_tracks import Subject, Track
from mobius_analysis.verdicts import VERDICTS, Verdict, discoveries

__all__ = ["Coverage", "Score", "Together", "ZoneSuite", "move_together", "score"]

_SEEN: frozenset[SightKind] = frozenset({"early_warning", "confirmed", "late"})
_SAME_EVENT_MINUTES = 60

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Together:
    """How one test and users move together at one endpoint, at p50."""

    subject: Subject
    test: str
    found: LeadLag
    kept: bool


@dataclass(frozen=True, slots=True)
class ZoneSuite:
    """What one zone's tests and users did in a window, ready to be scored."""

    zone: str
    window: Window
    length: int
    tracks: tuple[Track, ...]
    cells: tuple[Cell, ...]
    changes: tuple[UserChange, ...] = ()
    alarms: tuple[Alarm, ...] = ()
    together: tuple[Together, ...] = ()

    @property
    def tests(self) -> tuple[str, ...]:
        """Names of the tests, sorted."""
        return tuple(sorted({t.test for t in self.tracks if t.test is not None}))

    def touched(self, test: str | None = None) -> frozenset[Subject]:
        """Endpoints that a test exercised, or that any did."""
        return frozenset(
            t.subject for t in self.tracks if t.test is not None and test in {None, t.test}
        )


@dataclass(frozen=True, slots=True)
class Coverage:
    """Shares of production in endpoints x regions that tests exercise; None without production (or failures)."""

    requests: Bounds | None
    time: Bounds | None
    errors: Bounds | None
    used: int
    tested: int


@dataclass(frozen=True, slots=True)
class Score:
    """The vector of one test, or of all (``test`` None).

    Attributes
    ----------
    slower
        Users' changes for the worse at the endpoints that it touches (all: everywhere), by what was seen of them.
    seen
        Share seen (early, at once or late) of those that could be seen.
    noticed
        Share seen of all of them.
    leads
        Minutes by which seen changes were seen before users had them, below 0: after.
    alarms
        Moves of the tests: true, false, undecided.
    false_alarms
        Share of false ones among the true and the false.
    verdicts
        Cells by verdict.
    truthful
        Share of representative ones among the representative, optimistic and pessimistic.
    """

    test: str | None
    coverage: Coverage
    slower: Mapping[SightKind, int] = field(default_factory=dict)
    seen: Bounds | None = None
    noticed: Bounds | None = None
    leads: tuple[float, ...] = ()
    alarms: Mapping[str, int] = field(default_factory=dict)
    false_alarms: Bounds | None = None
    verdicts: Mapping[Verdict, int] = field(default_factory=dict)
    truthful: Bounds | None = None


def score(zones: Sequence[ZoneSuite], test: str | None = None) -> Score:
    """Score one test, or the whole suite, over some zones of one window."""
    touched = {zone.zone: zone.touched(test) for zone in zones}
    cells = [
        cell
        for zone in zones
        for cell in zone.cells
        if test is None or cell.subject in touched[zone.zone]
    ]
    sights = [
        (_event(zone, change), _sight(change, test))
        for zone in zones
        for change in zone.changes
        if change.direction == "slower" and (test is None or change.subject in touched[zone.zone])
    ]
    alarms = [a for zone in zones for a in zone.alarms if test in {None, a.move.test}]
    judged = [(cell.subject[1:], cell.verdict) for cell in cells]
    counts = Counter(cell.verdict for cell in cells)
    return Score(
        test=test,
        coverage=_coverage(zones, touched),
        slower=Counter(kind for _, (kind, _) in sights),
        seen=clustered_share(
            [(e, k in _SEEN) for e, (k, _) in sights if k in _SEEN or k == "blind_spot"]
        ),
        noticed=clustered_share([(e, k in _SEEN) for e, (k, _) in sights]),
        leads=tuple(sorted(s.lead.value for _, (k, s) in sights if k in _SEEN and s and s.lead)),
        alarms=Counter(alarm.kind for alarm in alarms),
        false_alarms=clustered_share(
            [(_alarm_event(a), a.kind == "false") for a in alarms if a.kind != "undecided"]
        ),
        verdicts={verdict: counts[verdict] for verdict in VERDICTS},
        truthful=clustered_share(
            [
                (endpoint, verdict == "representative")
                for endpoint, verdict in judged
                if verdict in {"representative", "optimistic", "pessimistic"}
            ]
        ),
    )


def _sight(change: UserChange, test: str | None) -> tuple[SightKind, Sight | None]:
    """What one test saw of a change, or the best that any did."""
    sights = [s for s in change.sights if test in {None, s.test}]
    if test is not None:
        return (sights[0].kind, sights[0]) if sights else ("unseen_change", None)
    return change.kind, next((s for s in sights if s.kind == change.kind), None)


def _event(zone: ZoneSuite, change: UserChange) -> tuple[str, str, str | int]:
    """Changes of one service at one time are one event, however many endpoints have it."""
    place = round(change.when.moment / _SAME_EVENT_MINUTES)
    return zone.zone, change.subject[1], change.release or place


def _alarm_event(alarm: Alarm) -> tuple[str | None, str, int]:
    move = alarm.move
    return move.test, move.subject[1], round(move.when.moment / _SAME_EVENT_MINUTES)


def _coverage(zones: Sequence[ZoneSuite], touched: Mapping[str, frozenset[Subject]]) -> Coverage:
    users = [(zone.zone, t) for zone in zones for t in zone.tracks if t.test is None]
    tested = [(zone, t) for zone, t in users if t.subject in touched[zone]]
    minutes = np.unique(np.concatenate([t.minutes for _, t in users])) if users else np.zeros(0)

    def over_time(tracks: Iterable[tuple[str, Track]], name: str) -> Floats:
        total = np.zeros(len(minutes))
        for _, track in tracks:
            np.add.at(total, np.searchsorted(minutes, track.minutes), getattr(track, name))
        return total

    shares = {
        name: share_of_total(over_time(tested, name), over_time(users, name))
        for name in ("weight", "seconds", "failed")
    }
    return Coverage(
        shares["weight"], shares["seconds"], shares["failed"], used=len(users), tested=len(tested)
    )


def move_together(tracks: Sequence[Track], length: int) -> tuple[Together, ...]:
    """Find out at every tested endpoint whether test or users move first, corrected over all that could tell."""
    users = {t.subject: t for t in tracks if t.test is None}
    found = [
        (t, lead_lag(*_on_one_grid(t, users[t.subject], length)))
        for t in tracks
        if t.test is not None and t.subject in users
    ]
    told = [one for _, one in found if one.p is not None]
    kept = iter(discoveries([one.p for one in told if one.p is not None]))
    return tuple(
        Together(
            t.subject, t.test or "", one, one.p is not None and next(kept) and one.lead is not None
        )
        for t, one in found
    )


def _on_one_grid(first: Track, second: Track, length: int) -> tuple[Floats, Floats]:
    sides = []
    for track in (first, second):
        minutes, logs = track.series(0.5)
        sides.append((minutes, without_season(minutes, logs)))
    begin = min((int(m[0]) for m, _ in sides if len(m)), default=0)
    end = max((int(m[-1]) for m, _ in sides if len(m)), default=0)
    grids = []
    for minutes, values in sides:
        grid = np.full((end - begin) // length + 1, np.nan)
        grid[(minutes - begin) // length] = values
        grids.append(grid)
    return grids[0], grids[1]

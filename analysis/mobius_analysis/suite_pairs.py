"""Which of users' changes each test saw, and when; which of the tests' alarms were false; and what chance alone pairs.

A test that often moves is near to a change of users' by luck. So a pair counts only where few shifts of the
test's own moves, turned around the window as on a circle, would come as near (docs/suite.md, "Pairs").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from mobius_analysis.change_votes import Comparison
from mobius_analysis.changes import Change, Direction
from mobius_analysis.intervals import Bounds
from mobius_analysis.ratio import MARGIN
from mobius_analysis.suite_moves import Move, Span, compare_around
from mobius_analysis.suite_tracks import Subject, Track
from mobius_analysis.verdicts import discoveries

__all__ = [
    "Alarm",
    "Sight",
    "SightKind",
    "UserChange",
    "chance_of",
    "pair_moves",
    "release_changes",
]

SightKind = Literal[
    "early_warning",  # the test moved before users, beyond chance
    "confirmed",  # both moved at one time, beyond chance, as far as the bins tell
    "late",  # the test moved after users, beyond chance
    "coincidence",  # both moved near each other, but a test that moves as often does so by chance
    "blind_spot",  # users moved; the test was precise enough to see it, and did not move
    "unseen_change",  # users moved; no test could have seen it: none ran there, or too few requests
]
AlarmKind = Literal["true", "false", "undecided"]

_LONGEST: Final = 24 * 60

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sight:
    """What one test saw of one change of users'.

    ``lead`` is in minutes, above 0 where the test was first; ``chance`` the share of shifts that come as near;
    ``ratio`` the test's own after / before.
    """

    test: str
    kind: SightKind
    lead: Bounds | None = None
    chance: float | None = None
    ratio: Bounds | None = None


@dataclass(frozen=True, slots=True)
class UserChange:
    """A change that users got, with what each test saw of it; ``release`` is the version that brought it, if one did."""

    subject: Subject
    direction: Direction
    when: Span
    ratios: Mapping[float, Bounds]
    release: str | None = None
    sights: tuple[Sight, ...] = ()
    judged: SightKind | None = None

    @property
    def kind(self) -> SightKind:
        """What the suite as a whole saw: the best that one of its tests did."""
        if self.judged is not None:
            return self.judged
        kinds = {sight.kind for sight in self.sights}
        order: tuple[SightKind, ...] = (
            "early_warning", "confirmed", "late", "coincidence", "blind_spot",
        )  # fmt: skip
        return next((kind for kind in order if kind in kinds), "unseen_change")

    @property
    def quantile(self) -> float:
        """The quantile that moved farthest."""
        return max(self.ratios, key=lambda q: abs(np.log(self.ratios[q].value)))


@dataclass(frozen=True, slots=True)
class Alarm:
    """A move of a test: true where users moved with it, false where they are known to have stood still."""

    move: Move
    kind: AlarmKind


def release_changes(changes: Sequence[Change]) -> Iterator[UserChange]:
    """Yield the changes of users' that a release brought, as they were judged there."""
    kinds: dict[str, SightKind] = {
        kind: kind for kind in ("early_warning", "confirmed", "blind_spot", "unseen_change")
    }
    for change in changes:
        if change.kind not in kinds or change.direction is None:
            continue
        first, whole = change.release.minutes
        moved = change.production.moved(change.direction)
        yield UserChange(
            subject=(change.release.region, change.release.service, change.method, change.route),
            direction=change.direction,
            when=Span(first, first, max(first, whole)),
            ratios={q: change.production.ratios[q].bounds for q in moved},
            release=change.release.version,
            judged=kinds[change.kind],
        )


@dataclass(frozen=True, slots=True)
class _Pair:
    change: int
    move: int
    lead: Bounds
    chance: float


def pair_moves(
    tracks: Sequence[Track],
    moves: Sequence[Move],
    released: Sequence[UserChange],
    window: tuple[int, int],
    length: int,
) -> tuple[tuple[UserChange, ...], tuple[Alarm, ...]]:
    """Say of every change of users' what each test saw, and of every move of a test whether it was true.

    Parameters
    ----------
    tracks, moves
        Of users and of all tests.
    released
        Changes that are known to come with a release; a move of users' at that time is the same change.
    window
        First and last-but-excluded minute of the time looked at.
    length
        Minutes of a bin.

    Steps
    -----
    1. Changes of users' are those of releases, and the moves of users' that are not among them.
    2. Each is paired with the nearest move of each test in its direction, at most a quarter of the window or
       a day away, nearest pairs first.
    3. Benjamini and Hochberg keep the pairs that are nearer than chance; a pair with a release is beyond
       chance by the version.
    4. A change that a test has no pair for is a blind spot or unseen, a move without one is a false alarm or
       undecided, by what the other side's level did at that time.
    """
    changes = _users_changes(moves, released, length)  # 1
    alarms = [move for move in moves if move.test is not None]
    reach = min(_LONGEST, (window[1] - window[0]) // 4)
    pairs = list(_pairs(changes, alarms, window, reach, length))  # 2
    near = discoveries([pair.chance for pair in pairs])  # 3
    context = _Context(tracks, changes, alarms, reach, length)
    paired = {
        (pair.change, alarms[pair.move].test): (pair, n)
        for pair, n in zip(pairs, near, strict=True)
    }
    true = {pair.move: n for pair, n in zip(pairs, near, strict=True)}
    seen = tuple(  # 4
        replace(change, sights=tuple(context.sights(i, change, paired)))
        for i, change in enumerate(changes)
    )
    return seen, tuple(
        Alarm(move, ("true" if true[i] else "undecided") if i in true else context.alarm(move))
        for i, move in enumerate(alarms)
    )


def _users_changes(
    moves: Sequence[Move], released: Sequence[UserChange], length: int
) -> list[UserChange]:
    changes = list(released)
    for move in moves:
        wide = Span(move.when.first - length, move.when.moment, move.when.last + length)
        known = any(
            (c.subject, c.direction) == (move.subject, move.direction) and c.when.overlaps(wide)
            for c in released
        )
        if move.test is None and not known:
            changes.append(UserChange(move.subject, move.direction, move.when, move.ratios))
    return sorted(changes, key=lambda c: (c.subject, c.when.moment, c.direction))


def _pairs(
    changes: Sequence[UserChange],
    alarms: Sequence[Move],
    window: tuple[int, int],
    reach: int,
    length: int,
) -> Iterator[_Pair]:
    """Pairs of a change and a test's move, each in one pair of that test only, nearest first."""
    of: dict[tuple[Subject, Direction], list[int]] = {}
    for i, move in enumerate(alarms):
        of.setdefault((move.subject, move.direction), []).append(i)
    candidates = []
    for c, change in enumerate(changes):
        for m in of.get((change.subject, change.direction), []):
            away = abs(change.when.moment - alarms[m].when.moment)
            if away <= reach or change.when.overlaps(alarms[m].when):
                candidates.append((away, c, m))
    taken: set[tuple[str, int, str | None]] = set()
    for _, c, m in sorted(candidates):
        change, move = changes[c], alarms[m]
        keys = {("change", c, move.test), ("move", m, move.test)}
        if keys & taken:
            continue
        taken |= keys
        rivals = [
            alarms[k].when.moment
            for k in of[change.subject, change.direction]
            if alarms[k].test == move.test
        ]
        yield _Pair(c, m, _lead(change, move), _chance(change, move, rivals, window, length))


def _lead(change: UserChange, move: Move) -> Bounds:
    return Bounds(
        change.when.moment - move.when.moment,
        change.when.first - move.when.last,
        change.when.last - move.when.first,
    )


def _chance(
    change: UserChange, move: Move, rivals: Sequence[float], window: tuple[int, int], length: int
) -> float:
    if change.release is not None and change.when.overlaps(move.when):
        return 0.0  # the version says it
    blur = (move.when.last - move.when.first + change.when.last - change.when.first) / 2
    distance = max(abs(change.when.moment - move.when.moment), blur, length)
    return chance_of(change.when.moment, rivals, distance, window)


def chance_of(
    moment: float, moves: Sequence[float], distance: float, window: tuple[int, int]
) -> float:
    """Share of the circular shifts of ``moves`` around ``window`` that bring one within ``distance`` of ``moment``.

    Exact: the length of the union of the arcs around the moves, over the window's.
    """
    whole = window[1] - window[0]
    arcs = sorted((m - moment - distance) % whole for m in moves)
    if not arcs or 2 * distance >= whole:
        return 1.0 if arcs else 0.0
    gaps = np.diff([*arcs, arcs[0] + whole])
    return float(np.minimum(gaps, 2 * distance).sum()) / whole


class _Context:
    """Tracks and changes by subject, for the question what stood still while the other moved."""

    def __init__(
        self,
        tracks: Sequence[Track],
        changes: Sequence[UserChange],
        alarms: Sequence[Move],
        reach: int,
        length: int,
    ) -> None:
        self._tracks: dict[Subject, list[Track]] = {}
        for track in tracks:
            self._tracks.setdefault(track.subject, []).append(track)
        self._changes: dict[Subject, list[Span]] = {}
        for change in changes:
            self._changes.setdefault(change.subject, []).append(change.when)
        self._alarms: dict[tuple[Subject, str | None], list[Span]] = {}
        for move in alarms:
            self._alarms.setdefault((move.subject, move.test), []).append(move.when)
        self._reach, self._length = reach, length

    def sights(
        self,
        index: int,
        change: UserChange,
        paired: Mapping[tuple[int, str | None], tuple[_Pair, bool]],
    ) -> Iterator[Sight]:
        """What each test of the endpoint saw of a change."""
        tests = [t for t in self._tracks.get(change.subject, []) if t.test is not None]
        for track in tests:
            test = track.test or ""
            if (index, track.test) in paired:
                pair, near = paired[index, track.test]
                yield Sight(
                    test, _kind(pair.lead) if near else "coincidence", pair.lead, pair.chance
                )
            elif len(tests) == 1 and change.judged is not None:
                yield Sight(test, change.judged)
            else:
                yield self._unpaired(track, change)

    def _unpaired(self, track: Track, change: UserChange) -> Sight:
        q = change.quantile
        others = [
            *self._changes[change.subject],
            *self._alarms.get((track.subject, track.test), []),
        ]
        found = self._around(track, q, change.when, others)
        still = found is not None and _stood_still(found, change.ratios[q])
        kind: SightKind = "blind_spot" if still else "unseen_change"
        return Sight(track.test or "", kind, ratio=None if found is None else found.ratio)

    def alarm(self, move: Move) -> AlarmKind:
        """Whether users stood still while a test moved."""
        users = [t for t in self._tracks.get(move.subject, []) if t.test is None]
        q = max(move.ratios, key=lambda q: abs(np.log(move.ratios[q].value)))
        others = [*self._changes.get(move.subject, []), *self._alarms[move.subject, move.test]]
        for track in users:
            found = self._around(track, q, move.when, others)
            if found is not None and _stood_still(found, move.ratios[q]):
                return "false"
        return "undecided"

    def _around(
        self, track: Track, q: float, when: Span, others: Sequence[Span]
    ) -> Comparison | None:
        low = max((o.last for o in others if o.last < when.first), default=-np.inf)
        high = min((o.first for o in others if o.first > when.last), default=np.inf)
        return compare_around(
            track,
            q,
            when,
            self._length,
            low=max(low, when.first - self._reach),
            high=min(high, when.last + self._reach),
        )


def _kind(lead: Bounds) -> SightKind:
    if lead.low is not None and lead.low > 0:
        return "early_warning"
    return "late" if lead.high is not None and lead.high < 0 else "confirmed"


def _stood_still(found: Comparison, moved: Bounds) -> bool:
    """Whether a level is known to have stayed within the margin, or at least wholly apart from the other side's."""
    inner, ratio = found.inner, found.ratio
    if inner.low is None or inner.high is None or ratio.low is None or ratio.high is None:
        return False
    if inner.low > 1 / MARGIN and inner.high < MARGIN:
        return True
    return (moved.low is not None and ratio.high < moved.low) or (
        moved.high is not None and ratio.low > moved.high
    )

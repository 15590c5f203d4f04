"""What moved, and when: the steps of every track, corrected over all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mobius_analysis.change_votes import LEAST_POINTS, Comparison, Step, compare_levels, find_steps
from mobius_analysis.changes import Direction
from mobius_analysis.intervals import Bounds
from mobius_analysis.ratio import MARGIN
from mobius_analysis.seasons import without_season
from mobius_analysis.suite_tracks import Subject, Track
from mobius_analysis.verdicts import HEADLINE, discoveries

__all__ = ["Move", "Span", "compare_around", "find_moves"]

_SMOOTH: Final = LEAST_POINTS

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Span:
    """When something changed, minutes since the epoch: ``moment``, and for 95 % between ``first`` and ``last``."""

    first: float
    moment: float
    last: float

    def overlaps(self, other: Span) -> bool:
        """Whether both may have been at one time."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True, slots=True)
class Move:
    """A change of level of users (``test`` is None) or of one test, with the ratio after / before per quantile."""

    subject: Subject
    test: str | None
    direction: Direction
    when: Span
    ratios: Mapping[float, Bounds]
    p: float


def find_moves(tracks: Sequence[Track], length: int) -> tuple[Move, ...]:
    """Find the moves of all tracks; ``length`` is a bin's, in minutes.

    A step of one series is kept where Benjamini and Hochberg keep it over all series looked at; steps of p50
    and p95 at one time and in one direction are one move.
    """
    found: list[tuple[Track, float, Span, Step]] = []
    silent = 0
    for track in tracks:
        for q in HEADLINE:
            steps = list(_steps(track, q, length))
            found += [(track, q, when, step) for when, step in steps]
            silent += not steps
    kept = discoveries([step.p for *_, step in found] + [1.0] * silent)
    moves: list[Move] = []
    for (track, q, when, step), survives in zip(found, kept, strict=False):
        if survives:
            _add(moves, _move(track, q, when, step))
    return tuple(sorted(moves, key=lambda m: (m.subject, m.test or "", m.when.moment)))


def _steps(track: Track, q: float, length: int) -> Iterator[tuple[Span, Step]]:
    minutes, logs = track.series(q)
    if len(logs) < 2 * LEAST_POINTS:
        return
    values = without_season(minutes, logs)
    if not _may_hold_a_step(values):
        return
    middle = minutes + length / 2
    for step in find_steps(values):
        first, last = float(middle[step.first - 1]), float(middle[step.last])
        moment = float(middle[step.index - 1] + middle[step.index]) / 2
        yield Span(min(first, moment), moment, max(last, moment)), step


def _may_hold_a_step(values: Floats) -> bool:
    """Whether two stretches of a few points differ by half the floor at all; it spares most quiet series the search."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return float(np.ptp(sums[_SMOOTH:] - sums[:-_SMOOTH])) / _SMOOTH >= log(MARGIN) / 2


def _move(track: Track, q: float, when: Span, step: Step) -> Move:
    ratio = step.comparison.ratio
    direction: Direction = "slower" if ratio.value > 1 else "faster"
    return Move(track.subject, track.test, direction, when, {q: ratio}, step.p)


def _add(moves: list[Move], new: Move) -> None:
    """Add a move, or merge it into the one of another quantile that it is part of."""
    for i in range(len(moves) - 1, -1, -1):
        old = moves[i]
        if (old.subject, old.test) != (new.subject, new.test):
            break
        if (
            old.direction == new.direction
            and not old.ratios.keys() & new.ratios.keys()
            and old.when.overlaps(new.when)
        ):
            surer = min(old, new, key=lambda m: m.p)
            ratios = {**old.ratios, **new.ratios}
            moves[i] = Move(old.subject, old.test, old.direction, surer.when, ratios, surer.p)
            return
    moves.append(new)


def compare_around(
    track: Track, q: float, when: Span, length: int, *, low: float, high: float
) -> Comparison | None:
    """Compare a track's level before ``when`` with that after it, looking at the bins from minute ``low`` to ``high``.

    None where there are fewer than four bins on a side.
    """
    minutes, logs = track.series(q)
    middle = minutes + length / 2
    before = logs[(middle >= low) & (middle <= when.first)]
    after = logs[(middle >= when.last) & (middle <= high)]
    if min(len(before), len(after)) < LEAST_POINTS:
        return None
    return compare_levels(before, after)

"""Patterns of slow requests: ranges of the times of components that single them out.

Given what the components of production's requests took, and those of the test's, the slow requests of
production are those beyond the duration at which the two distributions are farthest apart. A pattern is a conjunction of ranges (this call
took 40 to 98 ms, and that one at least 24 ms) that holds for many of them and hardly for others. Several
causes give several patterns: the best is found, what it covers is taken out, and the search goes on (after
Traini and Cortellessa, DeLag, TSE 2023, whose search is genetic; here each range is searched exhaustively).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mobius_analysis.intervals import Bounds, wilson

__all__ = ["Pattern", "Range", "find_patterns", "matrix_of", "slower_than"]

_MOST_PATTERNS: Final = 4
_MOST_RANGES: Final = 3
_MOST_STEPS: Final = 80
_LEAST_SCORE: Final = 0.3
"""F1 of a pattern on the slow requests that are left, below which it is chance."""

_LEAST_PRECISION: Final = 2 / 3
"""Of what matches, two in three must be production's slow requests: what both sides have matches about half and half."""

_SEARCHED: Final = 2 / 3
_LEAST_GAIN: Final = 0.01
_LEAST_SLOW: Final = 30


@dataclass(frozen=True, slots=True)
class Range:
    """A component's time lies between ``low`` and ``high``, both included, in the unit of the input."""

    component: str
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Pattern:
    """Ranges that hold together.

    Attributes
    ----------
    precision, recall
        Of the requests that match, how many are slow; of the slow ones that no better pattern has, how
        many match. Both of the third of the requests in which the pattern was not searched, with 95 % intervals
        (Wilson).
    """

    ranges: tuple[Range, ...]
    precision: Bounds
    recall: Bounds

    def matches(self, components: Mapping[str, NDArray[np.float64]]) -> NDArray[np.bool_]:
        """Which requests match; components map to one time a request."""
        return _matching(self.ranges, components)

    def document(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "ranges": [
                {"component": one.component, "low": one.low, "high": one.high}
                for one in self.ranges
            ],
            "precision": self.precision.document(),
            "recall": self.recall.document(),
        }


def slower_than(
    production: NDArray[np.float64], synthetic: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which of production's durations lie beyond the point where its ECDF is farthest below the test's.

    That point (of Kolmogorov and Smirnov) parts best what the test has from what it lacks, however many
    requests are slow and however long the test's own tail.
    """
    points = np.unique(np.concatenate([production, synthetic]))
    below = [
        np.searchsorted(np.sort(side), points, side="right") / len(side)
        for side in (synthetic, production)
    ]
    cut = points[int(np.argmax(below[0] - below[1]))]
    slow: NDArray[np.bool_] = production > cut
    return slow


def find_patterns(
    components: Mapping[str, NDArray[np.float64]], slow: NDArray[np.bool_]
) -> tuple[Pattern, ...]:
    """Find what singles out the slow requests.

    Parameters
    ----------
    components
        Per component, its time in each request, of production and of the test.
    slow : (n,)
        Which of them are production's slow ones (:func:`slower_than`); fewer than about 45 have no pattern.

    Steps
    -----
    1. In two thirds of the requests, drawn with a fixed seed: of all ranges of all components, take the one with the greatest F1.
    2. Add the range that improves it most, while one does, up to three ranges.
    3. Keep the pattern if it holds in the other third too: two in three of what matches are slow, and
       surely more than one in two (Wilson). A search through thousands of ranges always finds something.
    4. Take out the requests that match, and begin again, up to four patterns, while F1 is at least 0.3.
    """
    if not components:
        return ()
    searched = np.random.default_rng(2023).random(len(slow)) < _SEARCHED
    left = np.ones(len(slow), bool)
    found: list[Pattern] = []
    while len(found) < _MOST_PATTERNS and slow[left & searched].sum() >= _LEAST_SLOW:
        ranges, score = _best(components, slow, left & searched)
        if not ranges or score < _LEAST_SCORE:
            break
        pattern = _measured(ranges, components, slow, left & ~searched)  # 3
        if pattern is None:
            break
        found.append(pattern)
        left &= ~pattern.matches(components)  # 4
    return tuple(found)


def _matching(
    ranges: Sequence[Range], components: Mapping[str, NDArray[np.float64]]
) -> NDArray[np.bool_]:
    found = np.ones(len(next(iter(components.values()))), bool)
    for one in ranges:
        found &= (components[one.component] >= one.low) & (components[one.component] <= one.high)
    return found


def _measured(
    ranges: tuple[Range, ...],
    components: Mapping[str, NDArray[np.float64]],
    slow: NDArray[np.bool_],
    other: NDArray[np.bool_],
) -> Pattern | None:
    """Measure a pattern on requests in which it was not searched; None where it does not hold there."""
    matched = _matching(ranges, components) & other
    hits, size, wanted = int(slow[matched].sum()), int(matched.sum()), int(slow[other].sum())
    precision, recall = wilson(hits, size), wilson(hits, wanted)
    if precision is None or recall is None:
        return None
    if precision.value < _LEAST_PRECISION or (precision.low or 0.0) <= 0.5:
        return None
    return Pattern(ranges, precision, recall)


def _best(
    components: Mapping[str, NDArray[np.float64]], slow: NDArray[np.bool_], left: NDArray[np.bool_]
) -> tuple[tuple[Range, ...], float]:
    inside = left.copy()
    wanted = int(slow[left].sum())
    ranges: list[Range] = []
    score = 0.0
    while len(ranges) < _MOST_RANGES:
        free = [name for name in components if name not in {one.component for one in ranges}]
        tried = [
            (_best_range(components[name][inside], slow[inside], wanted), name) for name in free
        ]
        if not tried:
            break
        (better, low, high), name = max(tried, key=lambda one: one[0][0])
        if better < score + _LEAST_GAIN:
            break
        score = better
        ranges.append(Range(name, low, high))
        inside &= (components[name] >= low) & (components[name] <= high)
    return tuple(ranges), score


def _best_range(
    values: NDArray[np.float64], slow: NDArray[np.bool_], wanted: int
) -> tuple[float, float, float]:
    """Greatest F1 of any range of ``values``, and the range; ``wanted`` slow requests are to be found in all."""
    steps = _steps(values)
    place = np.searchsorted(steps, values, side="right") - 1
    every = np.concatenate([[0], np.cumsum(np.bincount(place, minlength=len(steps)))])
    hits = np.concatenate([[0], np.cumsum(np.bincount(place, slow, len(steps)))])
    matched = every[None, 1:] - every[:-1, None]
    true = hits[None, 1:] - hits[:-1, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        f1 = np.where(matched > 0, 2 * true / (matched + wanted), 0.0)
    f1 = np.triu(f1)
    first, last = np.unravel_index(int(np.argmax(f1)), f1.shape)
    chosen = (place >= first) & (place <= last)
    return float(f1[first, last]), float(values[chosen].min()), float(values[chosen].max())


def _steps(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lower ends of at most 80 classes: the values themselves where they are few, quantiles otherwise."""
    unique = np.unique(values)
    if len(unique) <= _MOST_STEPS:
        return unique
    # Few causes make few requests slow, so both ends of the scale need classes: levels and even steps.
    levels = np.quantile(values, np.linspace(0, 1, _MOST_STEPS // 2))
    even = np.linspace(unique[0], unique[-1], _MOST_STEPS // 2)
    steps: NDArray[np.float64] = np.unique(np.concatenate([unique[:1], levels, even]))
    return steps


def matrix_of(
    parts: Sequence[Mapping[str, float]],
) -> dict[str, NDArray[np.float64]]:
    """Turn the parts of requests into one array a component; a part that a request lacks took no time."""
    names = sorted({name for one in parts for name in one})
    return {name: np.asarray([one.get(name, 0.0) for one in parts]) for name in names}

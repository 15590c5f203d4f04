"""How the ratio of production to test changes with latency: the quantile mapping of one cell's history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mobius_analysis.pairs import LEVELS, Pair

__all__ = ["Curve", "make_curve"]

# From so many requests of a cell's history on the quantile mapping begins to count, and counts fully
# (simulated with the truth 1.3 x^1.1: below, the scaling of the median is nearer; above, the mapping is).
_MAPPING_FROM: Final = 200
_MAPPING_FULL: Final = 1_000
_KNOT_DEVIATION: Final = 0.05


@dataclass(frozen=True, slots=True)
class Curve:
    """Log ratio over the logarithm of the test's latency: constant beyond the outer knots."""

    x: NDArray[np.float64]
    ratio: NDArray[np.float64]
    centre: Mapping[float, float]
    weight: float

    def bend(self, x: float, q: float) -> float:
        """What the ratio changes by when the test's quantile ``q`` is not where it was in the past."""
        if self.weight <= 0:
            return 0.0
        there, here = np.interp([x, self.centre[q]], self.x, self.ratio)
        return self.weight * float(there - here)


def make_curve(pairs: Sequence[Pair]) -> Curve | None:
    """Make the quantile mapping of one cell's history: knots at the levels, each the weighted mean of the pairs.

    It counts as far as there is history for it, as far as the knots differ by more than their errors, and as
    far as the test's quantiles differ between runs by more than theirs: what is noise must not bend the ratio.
    """
    requests = min(sum(p.test.answered for p in pairs), sum(p.production.answered for p in pairs))
    history = log(max(requests, 1) / _MAPPING_FROM) / log(_MAPPING_FULL / _MAPPING_FROM)
    knots, errors, steady = {}, [], []
    for q in LEVELS:
        rows = [
            (p.test.log(q), p.production.log(q), x, y)
            for p in pairs
            if q in p.test.quantiles and q in p.production.quantiles
            if (x := p.test.variance(q)) is not None
            if (y := p.production.variance(q)) is not None
        ]
        if not rows:
            continue
        x, y, x_error, y_error = np.array(rows).T
        weights = 1 / (x_error + y_error + _KNOT_DEVIATION**2)
        centre = float(np.average(x, weights=weights))
        knots[q] = centre, float(np.average(y - x, weights=weights))
        errors.append(float(np.average(x_error + y_error, weights=weights)) / len(rows))
        steady.append(_signal(x, float(np.mean(x_error))))
    if len(knots) < 2:
        return None
    xs, ratios = np.array(sorted(knots.values())).T
    share = _signal(ratios, float(np.mean(errors))) * float(np.mean(steady))
    weight = float(np.clip(history, 0.0, 1.0)) * share
    return Curve(xs, ratios, {q: x for q, (x, _) in knots.items()}, weight)


def _signal(values: NDArray[np.float64], error: float) -> float:
    """Share of the variance of ``values`` that errors of measurement with this variance do not explain."""
    variance = float(np.var(values, ddof=1)) if len(values) > 1 else 0.0
    return max(0.0, variance - error) / variance if variance > 0 else 0.0

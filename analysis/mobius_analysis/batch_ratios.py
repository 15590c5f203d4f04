"""The ratios of all cells of a batch at once.

Numbers and steps are those of :func:`mobius_analysis.ratio.ratio`, in arrays instead of one after the other; a test
holds both to be equal. Shape of all arrays: (P,), a pair of estimates each.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, log
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from mobius_analysis.histogram import HALF_BUCKET
from mobius_analysis.intervals import CONFIDENCE, EQUIVALENCE_CONFIDENCE, Bounds, Estimate
from mobius_analysis.ratio import Ratio

__all__ = ["ratios"]

Floats = NDArray[np.float64]

_ROUNDING: Final = log(HALF_BUCKET)


class _Reach(NamedTuple):
    """Intervals on the logarithms: how far they reach below and above their value; NaN where there is none."""

    below: Floats
    above: Floats


def ratios(
    pairs: Sequence[tuple[Estimate, Estimate]], correlations: Sequence[float]
) -> list[Ratio]:
    """Ratios of pairs (production, synthetic), whose sampling errors have these ``correlations``."""
    if not pairs:
        return []
    sides = list(zip(*pairs, strict=True))
    values = [np.array([one.bounds.value for one in side]) for side in sides]
    freedoms = [np.array([one.freedom for one in side]) for side in sides]
    shared = np.array(correlations, float)
    value = values[0] / values[1]
    limits = []
    for confidence, bounds in (
        (CONFIDENCE, [[one.bounds for one in side] for side in sides]),
        (EQUIVALENCE_CONFIDENCE, [[one.inner for one in side] for side in sides]),
    ):
        y, x = _pooled([_reach(side) for side in bounds], freedoms, (1 + confidence) / 2)
        low = value * np.exp(-_root(y.below, x.above, shared))
        high = value * np.exp(_root(y.above, x.below, shared))
        limits.append(_bounds(value, low, high))
    return [
        Ratio(outer, inner, correlation)
        for outer, inner, correlation in zip(*limits, correlations, strict=True)
    ]


def _reach(side: Sequence[Bounds]) -> _Reach:
    value = np.array([one.value for one in side])
    low = np.array([one.low for one in side], float)  # None becomes NaN
    high = np.array([one.high for one in side], float)
    return _Reach(np.log(value / low), np.log(high / value))


def _pooled(
    sides: Sequence[_Reach], freedoms: Sequence[Floats], level: float
) -> tuple[_Reach, _Reach]:
    """``ratio._pooled``: both intervals with the degrees of freedom of the sum of their variances."""
    own = [_student(freedom, level) for freedom in freedoms]
    a, b = (
        (np.maximum(0.0, (side.below + side.above) / 2 - _ROUNDING) / t) ** 2
        for side, t in zip(sides, own, strict=True)
    )
    spent = a**2 / freedoms[0] + b**2 / freedoms[1]
    freedom = np.divide((a + b) ** 2, spent, out=np.full_like(a, inf), where=spent > 0)
    joint = _student(freedom, level)
    y, x = (
        _scaled(side, np.where(a + b > 0, joint / t, 1.0))
        for side, t in zip(sides, own, strict=True)
    )
    return y, x


def _student(freedom: Floats, level: float) -> Floats:
    known = np.isfinite(freedom)
    quantile: Floats = np.where(
        known, stdtrit(np.where(known, freedom, 1.0), level), float(ndtri(level))
    )
    return quantile


def _scaled(side: _Reach, factor: Floats) -> _Reach:
    below, above = (
        np.maximum(0.0, reach - _ROUNDING) * factor + np.minimum(reach, _ROUNDING) for reach in side
    )
    return _Reach(below, above)


def _root(a: Floats, b: Floats, correlation: Floats) -> Floats:
    """``ratio._root``: the half bucket on each side is not shared."""
    shared = 2 * correlation * np.maximum(0.0, a - _ROUNDING) * np.maximum(0.0, b - _ROUNDING)
    root: Floats = np.sqrt(np.maximum(0.0, a * a + b * b - shared))
    return root


def _bounds(value: Floats, low: Floats, high: Floats) -> list[Bounds]:
    # A side without an interval leaves NaN in both.
    return [
        Bounds(v) if np.isnan(a) or np.isnan(b) else Bounds(v, a, b)
        for v, a, b in zip(value.tolist(), low.tolist(), high.tolist(), strict=True)
    ]

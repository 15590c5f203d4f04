"""Where a series changes its level: E-divisive in sliding windows, then the weakest points are taken back.

Matteson and James, "A nonparametric approach for multiple change point analysis of multivariate data"
(arXiv 1306.4933), with the windows and t-tests of Fleming and others, "Hunter" (arXiv 2301.03034), as
Apache Otava does it. The points are candidates: their p-values come after a search for the best split, so
they promise nothing by themselves (:mod:`mobius_analysis.change_votes` decides).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import inf, sqrt
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr

__all__ = ["WINDOW", "change_points", "divide"]

WINDOW: Final = 30
"""Points that are searched at once: a later change must not drown an earlier one."""

_LOOSER: Final = 10.0
_LOOSE: Final = 0.05
_LOOSEST: Final = 0.5

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Point:
    index: int
    p: float
    magnitude: float


def change_points(
    values: ArrayLike, *, window: int = WINDOW, p: float = 0.01, magnitude: float = 0.05
) -> tuple[int, ...]:
    """Indices at which a new level begins, ascending; 0 is never one.

    Parameters
    ----------
    values
        Finite values in the order of time, shape (n,).
    window
        Points searched at once, at least 2; neighbouring windows overlap by half.
    p
        Greatest p-value of the t-test between the levels on both sides of a point.
    magnitude
        Least relative change |after / before - 1| or |before / after - 1|; 0 takes all.

    Steps
    -----
    1. Split each window where the energy distance between the parts is greatest, as long as a t-test, ten
       times looser than asked for, tells the parts apart.
    2. Over the whole series take back the weakest point, and judge those after it anew, until every point has
       the asked p-value and magnitude. The one before it keeps its old judgement, as in Otava, so that the
       points are Otava's; whoever acts on them must judge them again.

    Raises
    ------
    ValueError
        The window is shorter than 2, or a value is not finite.
    """
    series = np.asarray(values, dtype=np.float64)
    if window < 2:
        raise ValueError(f"a window of {window} cannot be split")
    if not np.isfinite(series).all():
        raise ValueError("a series of change points holds finite values only")
    return _merge(series, _split(series, window, _first_pass(p)), p, magnitude)  # 1, 2


def _first_pass(p: float) -> float:
    if p < _LOOSE:
        return p * _LOOSER
    return p * 2 if p < _LOOSEST else p


def _split(series: Floats, window: int, p: float) -> list[int]:
    found: set[int] = set()
    start, step = 0, window // 2
    while start < len(series):
        inside = [start + i for i in divide(series[start : start + window], p)]
        found.update(inside)
        start = max(inside[-1] if inside else 0, start + step)
    return sorted(found)


def divide(series: Floats, p: float) -> list[int]:
    """Indices that split one window, found one after the other, the best of all parts first."""
    points: list[int] = []
    best: dict[tuple[int, int], tuple[int, float]] = {}
    while True:
        edges = [0, *points, len(series)]
        parts = [(a, b) for a, b in pairwise(edges) if b - a > 1]
        if not parts:
            return points
        for part in parts:
            if part not in best:
                best[part] = _best_split(series[part[0] : part[1]])
        low, high = max(parts, key=lambda part: best[part][1])
        index = low + best[low, high][0]
        if _t_test(series[low:index], series[index:high]) > p:
            return points
        points = sorted([*points, index])


def _best_split(z: Floats) -> tuple[int, float]:
    """Split t of the front part z[:k] that makes Q(z[:t], z[t:k]) greatest over all t < k; and that Q.

    Q = 2 mn/(m+n) times the energy distance of the two, from sums of |z_i - z_j| by a table of running sums.
    """
    n = len(z)
    sums = np.zeros((n + 1, n + 1))
    sums[1:, 1:] = np.abs(z[:, None] - z[None, :]).cumsum(axis=0).cumsum(axis=1)
    whole = np.diagonal(sums) / 2  # of each front part
    t, k = np.arange(1, n)[:, None], np.arange(2, n + 1)[None, :]
    left = whole[1:n, None]
    right = (sums[2:, 2:].diagonal()[None, :] - 2 * sums[1:n, 2:] + sums.diagonal()[1:n, None]) / 2
    between = whole[None, 2:] - left - right
    m = np.maximum(k - t, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        inner_left = np.where(t > 1, left * m / (t - 1), 0.0)
        inner_right = np.where(m > 1, right * t / (m - 1), 0.0)
    Q = np.where(k > t, 2 / k * (between - inner_left - inner_right), -inf)
    place = int(np.argmax(Q))
    return place // Q.shape[1] + 1, float(Q.flat[place])


def _t_test(left: Floats, right: Floats) -> float:
    """Two-sided p-value of Student's test with deviations of the population, as Otava computes it."""
    m, n = len(left), len(right)
    if m + n <= 2:
        return 1.0
    free = m + n - 2
    pooled = ((m - 1) * left.var() + (n - 1) * right.var()) / free
    difference = abs(float(right.mean() - left.mean()))
    if pooled <= 0:
        return 0.0 if difference > 0 else 1.0
    return float(2 * stdtr(free, -difference / sqrt(pooled * (1 / m + 1 / n))))


def _merge(series: Floats, indices: list[int], p: float, magnitude: float) -> tuple[int, ...]:
    points = [_judge(series, indices, i) for i in range(len(indices))]
    while points:
        weakest = max(range(len(points)), key=lambda i: points[i].p)
        if points[weakest].p < p:
            weakest = min(range(len(points)), key=lambda i: points[i].magnitude)
            if points[weakest].magnitude > magnitude:
                break
        del points[weakest]
        left = [point.index for point in points]
        for i in (weakest, weakest + 1):
            if i < len(points):
                points[i] = _judge(series, left, i)
    return tuple(point.index for point in points)


def _judge(series: Floats, indices: list[int], i: int) -> _Point:
    low = indices[i - 1] if i else 0
    high = indices[i + 1] if i + 1 < len(indices) else len(series)
    before, after = series[low : indices[i]], series[indices[i] : high]
    x, y = float(before.mean()), float(after.mean())
    changes = (abs(b / a - 1) if a else 0.0 for a, b in ((x, y), (y, x)))
    return _Point(indices[i], _t_test(before, after), max(changes))

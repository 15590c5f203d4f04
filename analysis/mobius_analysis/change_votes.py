"""Steps of a series of logarithms: candidates by E-divisive, judged by five voters of whom three must agree.

Neighbouring points of a series are alike, so each vote counts effective points only: n (1 - rho)/(1 + rho),
with rho the lag-1 autocorrelation of the ranks within the levels (docs/suite.md, "Steps").
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log, pi, sqrt
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, kolmogorov, kve, ndtr, stdtr, stdtrit
from scipy.stats import rankdata

from mobius_analysis.change_points import change_points
from mobius_analysis.intervals import CONFIDENCE, EQUIVALENCE_CONFIDENCE, Bounds
from mobius_analysis.ratio import MARGIN

__all__ = ["LEAST_POINTS", "VOTERS", "Comparison", "Step", "Voter", "compare_levels", "find_steps"]

Voter = Literal["student", "welch", "mann_whitney", "kolmogorov_smirnov", "cramer_von_mises"]
VOTERS: Final[tuple[Voter, ...]] = (
    "student",
    "welch",
    "mann_whitney",
    "kolmogorov_smirnov",
    "cramer_von_mises",
)
_AGREEING: Final = 3
LEAST_POINTS: Final = 4
"""Points that a level needs on each side of a step."""

_WINDOW: Final = 72
_P_CANDIDATE: Final = 0.001
_P: Final = 0.05
_HIGHEST_RHO: Final = 0.95
_LIKELIHOOD: Final = -2 * log(1 - sqrt(CONFIDENCE))
"""Hansen (2000): the likelihood ratio of a break's place is below x with probability (1 - exp(-x/2))^2; 7.35."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The level after over the level before a point: ratio with its 95 % and 90 % interval, and the votes' p-values."""

    ratio: Bounds
    inner: Bounds
    p: dict[Voter, float]
    rho: float

    @property
    def agreed(self) -> float:
        """The p-value that three of the five voters stay below."""
        return sorted(self.p.values())[_AGREEING - 1]


@dataclass(frozen=True, slots=True)
class Step:
    """A change of level at ``index``; ``first`` .. ``last`` is the 95 % set of its place.

    ``p`` is the agreed p-value times the effective number of places at which the step could have been found;
    ``low`` .. ``high`` are the points that were compared.
    """

    index: int
    first: int
    last: int
    low: int
    high: int
    comparison: Comparison
    p: float


def find_steps(values: Floats, *, floor: float = MARGIN) -> tuple[Step, ...]:
    """Find the steps of a series of natural logarithms.

    Parameters
    ----------
    values
        Logarithms in the order of time, finite, shape (n,).
    floor
        Least factor between two levels, over 1: smaller steps are nobody's business.

    Steps
    -----
    1. Candidates by E-divisive in windows.
    2. Each is moved to where its two levels fit best. One that has fewer than four points on a side, then the
       one with the least effect below the floor, is dropped, and its neighbours are fitted anew.
    3. Of the others the one with the greatest p-value is dropped, back to 2, until each has three votes at
       5 % after a correction for the places searched.
    """
    if len(values) < 2 * LEAST_POINTS:
        return ()
    window = min(len(values), _WINDOW)
    places = list(change_points(values, window=window, p=_P_CANDIDATE, magnitude=0.0))  # 1
    fits: dict[tuple[int, int], _Fit] = {}
    steps: dict[tuple[int, int], Step] = {}
    while places:
        edges = [0, *places, len(values)]
        sides = [(edges[i], edges[i + 2]) for i in range(len(places))]
        for side in sides:  # 2
            if side not in fits:
                fits[side] = _fit(values[slice(*side)])
        weakest = min(range(len(places)), key=lambda i: fits[sides[i]].effect)
        if fits[sides[weakest]].effect < log(floor):
            del places[weakest]
            continue
        for side in sides:  # 3
            if side not in steps:
                steps[side] = _judge(values, *side, fits[side])
        weakest = max(range(len(places)), key=lambda i: steps[sides[i]].p)
        if steps[sides[weakest]].p <= _P:
            return tuple(steps[side] for side in sides)
        del places[weakest]
    return ()


@dataclass(frozen=True, slots=True)
class _Fit:
    """Where two levels fit best, the distance between them, and the squared misfit of every place."""

    place: int
    effect: float
    misfit: Floats


def _fit(z: Floats) -> _Fit:
    """Fit two levels; a place that leaves a side too short has an infinite misfit, and no place no effect."""
    n = len(z)
    misfit = np.full(n, np.inf)
    if n < 2 * LEAST_POINTS:
        return _Fit(0, 0.0, misfit)
    centred = z - z.mean()
    sums = np.cumsum(centred)[:-1]
    k = np.arange(1, n)
    weight = 1 / k + 1 / (n - k)
    misfit[1:] = np.maximum(float(centred @ centred) - sums**2 * weight, 0.0)
    misfit[:LEAST_POINTS] = np.inf
    misfit[n - LEAST_POINTS + 1 :] = np.inf
    place = int(np.argmin(misfit))
    return _Fit(place, abs(float(sums[place - 1] * weight[place - 1])), misfit)


def _judge(values: Floats, low: int, high: int, fit: _Fit) -> Step:
    comparison = compare_levels(values[low : low + fit.place], values[low + fit.place : high])
    least = float(fit.misfit[fit.place])
    spread = least / (high - low - 2) / _worth(comparison.rho) * _LIKELIHOOD
    near = np.flatnonzero(fit.misfit <= least + spread)
    return Step(
        index=low + fit.place,
        first=low + int(near[0]),
        last=low + int(near[-1]),
        low=low,
        high=high,
        comparison=comparison,
        p=min(1.0, comparison.agreed * len(values) * _worth(comparison.rho)),
    )


def compare_levels(before: Floats, after: Floats) -> Comparison:
    """Compare two levels of logarithms, each of at least 2 points."""
    m, n = len(before), len(after)
    ranks = rankdata(np.concatenate([before, after]))
    rho = _autocorrelation(ranks[:m], ranks[m:])
    worth = _worth(rho)
    difference = float(after.mean() - before.mean())
    free = max(1.0, (m + n) * worth - 2)
    squares = float(((before - before.mean()) ** 2).sum() + ((after - after.mean()) ** 2).sum())
    student = sqrt(squares / (m + n - 2) * (1 / m + 1 / n) / worth)
    x, y = (float(side.var(ddof=1)) / len(side) / worth for side in (before, after))
    welch = sqrt(x + y)
    welch_free = max(1.0, _welch_degrees(x, y, m * worth, n * worth))
    p: dict[Voter, float] = {
        "student": _two_sided(difference, student, free),
        "welch": _two_sided(difference, welch, welch_free),
        "mann_whitney": _mann_whitney(ranks, m, worth),
        "kolmogorov_smirnov": _kolmogorov_smirnov(before, after, worth),
        "cramer_von_mises": _cramer_von_mises(ranks, m, worth),
    }
    return Comparison(
        _around(difference, welch, welch_free, CONFIDENCE),
        _around(difference, welch, welch_free, EQUIVALENCE_CONFIDENCE),
        p,
        rho,
    )


def _worth(rho: float) -> float:
    """Share of the points that count as independent."""
    return (1 - rho) / (1 + rho)


def _autocorrelation(*levels: Floats) -> float:
    """Lag-1 autocorrelation of ranks centred within each level, with its bias of -(1 + 3 rho)/n taken off, in 0 .. .95."""
    above = below = 0.0
    size = 0
    for ranks in levels:
        z = ranks - ranks.mean()
        above += float(z[1:] @ z[:-1])
        below += float(z @ z)
        size += len(z)
    rho = above / below if below > 0 else 0.0
    return min(max(rho + (1 + 3 * rho) / size, 0.0), _HIGHEST_RHO)


def _welch_degrees(x: float, y: float, m: float, n: float) -> float:
    if x + y <= 0 or m <= 1 or n <= 1:
        return 1.0
    return (x + y) ** 2 / (x**2 / (m - 1) + y**2 / (n - 1))


def _two_sided(difference: float, error: float, free: float) -> float:
    if error <= 0:
        return 0.0 if difference else 1.0
    return float(2 * stdtr(free, -abs(difference) / error))


def _around(difference: float, error: float, free: float, confidence: float) -> Bounds:
    reach = float(stdtrit(free, (1 + confidence) / 2)) * error
    return Bounds(exp(difference), exp(difference - reach), exp(difference + reach))


def _mann_whitney(ranks: Floats, m: int, worth: float) -> float:
    n = len(ranks) - m
    U = float(ranks[:m].sum()) - m * (m + 1) / 2
    _, ties = np.unique(ranks, return_counts=True)
    N = m + n
    tied = float((ties.astype(float) ** 3 - ties).sum()) / (N * (N - 1))
    variance = m * n / 12 * (N + 1 - tied) / worth
    if variance <= 0:
        return 1.0
    return float(2 * ndtr(-max(0.0, abs(U - m * n / 2) - 0.5) / sqrt(variance)))


def _kolmogorov_smirnov(before: Floats, after: Floats, worth: float) -> float:
    both = np.concatenate([before, after])
    x = np.searchsorted(np.sort(before), both, side="right") / len(before)
    y = np.searchsorted(np.sort(after), both, side="right") / len(after)
    size = len(before) * len(after) / len(both) * worth
    return float(kolmogorov(sqrt(size) * float(np.abs(x - y).max())))


def _cramer_von_mises(ranks: Floats, m: int, worth: float) -> float:
    """p-value of the two-sample statistic by its limit (Anderson 1962), mean and variance matched as in scipy."""
    n = len(ranks) - m
    N = m + n
    x, y = np.sort(ranks[:m]), np.sort(ranks[m:])
    u = m * float(((x - np.arange(1, m + 1)) ** 2).sum())
    u += n * float(((y - np.arange(1, n + 1)) ** 2).sum())
    T = u / (m * n * N) - (4 * m * n - 1) / (6 * N)
    mean = (1 + 1 / N) / 6
    spread = (N + 1) * (4 * m * n * N - 3 * (m * m + n * n) - 2 * m * n)
    variance = spread / (45 * N**2 * 4 * m * n)
    return 1 - _cvm_limit((1 / 6 + (T - mean) / sqrt(45 * variance)) * worth)


def _cvm_limit(x: float) -> float:
    """Distribution function of the limit of the Cramér-von Mises statistic (Csörgő and Faraway 1996, 1.3)."""
    if x <= 0:
        return 0.0
    j = np.arange(40)
    y = (4 * j + 1) ** 2 / (16 * x)
    terms = np.exp(gammaln(j + 0.5) - gammaln(j + 1.0) - 2 * y) * np.sqrt(4 * j + 1) * kve(0.25, y)
    return min(1.0, float(terms.sum()) / (pi * sqrt(pi * x)))

"""Whether tests and production move together, and which of them moves first.

Two series that are each alike from point to point correlate by chance, so each is prewhitened first: the
residuals of its own autoregression stand for it (Haugh 1976). The greatest of many correlations is
always great, hence Bonferroni over the lags.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, sqrt, tanh
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

__all__ = ["LAGS", "LeadLag", "lead_lag"]

LAGS: Final = 12
"""Lags that are looked at to either side, in points."""

_LEAST_PAIRS: Final = 40
_HIGHEST_ORDER: Final = 6
_LEVEL: Final = 0.05
_NEARLY_ONE: Final = 0.9999

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LeadLag:
    """How two series move together; all but ``common`` is None where it is too little to tell.

    Attributes
    ----------
    lead
        Points by which the first series leads (below 0: follows) where it correlates most; None where that
        does not exceed chance.
    correlation
        Greatest correlation in absolute value, of the residuals.
    chance
        Absolute correlation that independent series exceed at one of the lags in 5 % of cases.
    p
        p-value after Bonferroni.
    common
        Pairs of points at the lag of ``lead``; the most of all lags where there are too few.
    """

    common: int
    lead: int | None = None
    correlation: float | None = None
    chance: float | None = None
    p: float | None = None


def lead_lag(first: Floats, second: Floats, lags: int = LAGS) -> LeadLag:
    """Find out by how many points ``first`` leads ``second``.

    Parameters
    ----------
    first, second
        Values on one regular grid of time, NaN where there is none, same shape (n,); without season.

    Steps
    -----
    1. Residuals of each series' own autoregression, its order (0 to 6) by BIC.
    2. Correlation of the residuals at each lag that has 40 pairs or more.
    3. Fisher's z gives its p-value, times the number of lags.
    """
    if len(first) < _LEAST_PAIRS:
        return LeadLag(int((np.isfinite(first) & np.isfinite(second)).sum()))
    x, y = prewhiten(first), prewhiten(second)  # 1
    found: list[tuple[float, int, float, int]] = []
    most = 0
    reach = min(lags, len(x) - 1)
    for lag in range(-reach, reach + 1):  # 2
        a, b = (x[: len(x) - lag], y[lag:]) if lag >= 0 else (x[-lag:], y[: len(y) + lag])
        both = np.isfinite(a) & np.isfinite(b)
        pairs = int(both.sum())
        most = max(most, pairs)
        r = _correlation(a[both], b[both]) if pairs >= _LEAST_PAIRS else None
        if r is not None:
            score = float(np.arctanh(min(abs(r), _NEARLY_ONE))) * sqrt(pairs - 3)
            found.append((score, lag, r, pairs))
    if not found:
        return LeadLag(most)
    score, lag, r, pairs = max(found)  # 3
    p = min(1.0, 2 * float(ndtr(-score)) * len(found))
    chance = tanh(float(ndtri(1 - _LEVEL / 2 / len(found))) / sqrt(pairs - 3))
    return LeadLag(pairs, lag if p < _LEVEL else None, r, chance, p)


def _correlation(a: Floats, b: Floats) -> float | None:
    """Correlation coefficient; None where one of them does not vary."""
    a, b = a - a.mean(), b - b.mean()
    size = sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / size if size > 0 else None


def prewhiten(series: Floats) -> Floats:
    """Residuals of a series' own autoregression, NaN where a value of the past is missing."""
    rows = sliding_window_view(series, _HIGHEST_ORDER + 1)
    whole = rows[np.isfinite(rows).all(axis=1)]
    highest = _HIGHEST_ORDER if len(whole) >= _LEAST_PAIRS else 0
    best = np.inf
    weights: Floats = np.zeros(0)
    mean = float(np.nanmean(series)) if np.isfinite(series).any() else 0.0
    for order in range(highest + 1):
        # Every order is judged by the same points, the last of each whole row.
        past, now = whole[:, -1 - order : -1] - mean, whole[:, -1] - mean
        fitted: Floats = np.zeros(0)
        if order:
            fitted = np.asarray(np.linalg.lstsq(past, now, rcond=None)[0], dtype=np.float64)
        misfit = float(((now - past @ fitted) ** 2).mean()) if len(now) else 0.0
        if misfit <= 0:
            break
        criterion = len(now) * log(misfit) + order * log(len(now))
        if criterion < best:
            best, weights = criterion, fitted
    residuals: Floats = series - mean
    order = len(weights)
    if order:
        past = sliding_window_view(series - mean, order)[:-1]
        residuals[order:] -= past @ weights
        residuals[:order] = np.nan
    return residuals

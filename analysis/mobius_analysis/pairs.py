"""A test run beside what users got with the same release: the currency of predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mobius_analysis.calibration import Subject
from mobius_analysis.histogram import midpoint
from mobius_analysis.intervals import Bounds

__all__ = ["LEVELS", "Measured", "Pair", "pinball"]

LEVELS: Final = (0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
"""Quantiles of a pair: knots of the quantile mapping."""

_NORMAL: Final = 1.959964


@dataclass(frozen=True, eq=False)
class Measured:
    """One side of a pair: quantiles in seconds with 95 % intervals, by level, of ``answered`` requests.

    ``buckets`` and ``weights`` are its histogram, where known; predictions are scored against it.
    """

    quantiles: Mapping[float, Bounds]
    answered: int
    buckets: NDArray[np.int64] | None = None
    weights: NDArray[np.float64] | None = None

    def log(self, q: float) -> float:
        """Logarithm of a quantile in seconds."""
        return log(self.quantiles[q].value)

    def reach(self, q: float) -> tuple[float, float] | None:
        """How far the interval reaches below and above the quantile, in logs; None without one."""
        found = self.quantiles[q]
        if found.low is None or found.high is None:
            return None
        return log(found.value / found.low), log(found.high / found.value)

    def variance(self, q: float) -> float | None:
        """Variance of the logarithm of a quantile, from its interval; None without one."""
        reach = self.reach(q)
        return None if reach is None else (sum(reach) / 2 / _NORMAL) ** 2


@dataclass(frozen=True, eq=False)
class Pair:
    """A test run of one cell, and what users got with the same release around or after it.

    ``at`` is the run's begin in seconds since the epoch.
    """

    subject: Subject
    run: str
    release: str
    at: float
    test: Measured
    production: Measured


def pinball(measured: Measured, predicted: float, q: float) -> float | None:
    """Mean pinball loss (Koenker and Bassett 1978), in seconds, of ``predicted`` as quantile ``q``.

    Over all requests of the histogram; least at the true quantile. None without a histogram.
    """
    if measured.buckets is None or measured.weights is None:
        return None
    error = midpoint(measured.buckets) - predicted
    losses = np.where(error >= 0, q * error, (q - 1) * error)
    return float(np.average(losses, weights=measured.weights))

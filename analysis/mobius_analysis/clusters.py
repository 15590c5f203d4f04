"""Minutes as clusters: what one endpoint's requests of one side look like to the statistics.

Requests of one minute share that minute's load, and minutes follow one another, so the variance of a
share of requests is the long-run variance over minutes, here by equal-weighted cosines (EWC; Lazarus,
Lewis, Stock and Watson 2018, "HAR inference: recommendations for practice").
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct

from mobius_analysis.histogram import level_index, midpoint, quantile

__all__ = ["Clusters", "ewc_count", "ewc_terms", "lag_one", "long_run_variance"]

_LEAST_TERMS: Final = 4


@dataclass(frozen=True, eq=False)
class Clusters:
    """Latency histograms of the minutes that had answered requests; empty minutes are no clusters.

    Attributes
    ----------
    minutes : (T,)
        Minutes since the epoch, ascending.
    buckets : (K,)
        Indices of the buckets that occur, ascending.
    counts : (T, K)
        Sum of sampling weights per minute and bucket.
    requests
        Requests that were really measured.
    squared
        Sum of their squared sampling weights; equals ``requests`` where nothing was sampled away.
    """

    minutes: NDArray[np.int64]
    buckets: NDArray[np.int64]
    counts: NDArray[np.float64]
    requests: int
    squared: float

    @cached_property
    def cumulative(self) -> NDArray[np.float64]:
        """Running sum of weights over the buckets, all minutes together, shape (K,)."""
        return np.cumsum(self.counts.sum(axis=0))

    @cached_property
    def _sizes(self) -> NDArray[np.float64]:
        sizes: NDArray[np.float64] = self.counts.sum(axis=1)
        return sizes

    @property
    def weight(self) -> float:
        """Requests that the measured ones stand for."""
        return float(self.cumulative[-1]) if len(self.cumulative) else 0.0

    @property
    def unit(self) -> bool:
        """Whether every request stands for itself alone."""
        return (
            abs(self.squared - self.weight) <= 1e-6 * max(self.weight, 1)
            and round(self.weight) == self.requests
        )

    @property
    def effective(self) -> float:
        """Kish's effective number of requests, (sum w)^2 / sum w^2; never the sum of weights."""
        if self.unit:
            return float(self.requests)
        return min(float(self.requests), self.weight**2 / self.squared) if self.squared > 0 else 0.0

    @property
    def seconds(self) -> float:
        """Time that all answered requests took together, in seconds."""
        return float(self.counts.sum(axis=0) @ midpoint(self.buckets))

    def quantile(self, q: float) -> float:
        """Quantile ``q`` in seconds; there must be at least one request."""
        return quantile(self.buckets, np.diff(self.cumulative, prepend=0.0), q, unit=self.unit)

    def at_level(self, level: float) -> float:
        """Mid point in seconds of the bucket at which the weighted ECDF reaches ``level``."""
        return float(midpoint(self.buckets[level_index(self.cumulative, level)]))

    def deviations(self, q: float) -> NDArray[np.float64]:
        """Woodruff's z per minute: sum of w (1[x <= Q] - q) with Q the quantile ``q``; sums to 0, shape (T,).

        The bucket that holds Q is split linearly, so that the histogram's ties add no variance.
        """
        k = level_index(self.cumulative, q)
        below = float(self.cumulative[k - 1]) if k else 0.0
        inside = float(self.cumulative[k]) - below
        share = (q * self.weight - below) / inside
        z: NDArray[np.float64] = (
            self.counts[:, :k].sum(axis=1) + share * self.counts[:, k] - q * self._sizes
        )
        return z


def ewc_count(T: int) -> int:
    """Number of cosine terms for ``T`` minutes: max(4, floor(0.41 T^(2/3))), at most T - 1.

    T - 1 terms are all there are; then EWC is the variance between independent clusters.
    """
    return min(max(_LEAST_TERMS, int(np.floor(0.41 * T ** (2 / 3)))), T - 1)


def ewc_terms(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """The B terms sqrt(2/T) sum_t cos(pi j (t - 1/2) / T) z_t, j = 1..B; ``z`` has T >= 2 values."""
    # They are the first coefficients after the mean of the orthonormal discrete cosine transform II.
    terms: NDArray[np.float64] = dct(z, type=2, norm="ortho")[1 : ewc_count(len(z)) + 1]
    return terms


def long_run_variance(terms: NDArray[np.float64], T: int) -> float:
    """Variance of the sum of z over ``T`` minutes: T/B times the sum of the squared EWC terms."""
    return float(T * np.mean(np.square(terms)))


def lag_one(z: NDArray[np.float64]) -> float:
    """Correlation of each minute's z with the next one's; 0 where z does not vary."""
    power = float(z @ z)
    return float(z[1:] @ z[:-1]) / power if power > 0 else 0.0

"""Minutes as clusters: what one endpoint's requests of one side look like to the statistics.

Requests of one minute share that minute's load, and minutes follow one another, so the variance of a
share of requests is the long-run variance over minutes, here by equal-weighted cosines (EWC; Lazarus,
Lewis, Stock and Watson 2018, "HAR inference: recommendations for practice") of prewhitened minutes
(Andrews and Monahan 1992).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct
from scipy.special import stdtrit

from mobius_analysis.histogram import level_index, midpoint, quantile

__all__ = [
    "Clusters",
    "drift_bound",
    "ewc_count",
    "ewc_terms",
    "lag_one",
    "lag_one_of",
    "long_run_variance",
    "margin_of_sum",
    "own_correlation",
    "strongest_correlation",
]

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
    def totals(self) -> NDArray[np.float64]:
        """Weight of each bucket, all minutes together, shape (K,)."""
        totals: NDArray[np.float64] = self.counts.sum(axis=0)
        return totals

    @cached_property
    def cumulative(self) -> NDArray[np.float64]:
        """Running sum of weights over the buckets, all minutes together, shape (K,)."""
        return np.cumsum(self.totals)

    @cached_property
    def _sizes(self) -> NDArray[np.float64]:
        sizes: NDArray[np.float64] = self.counts.sum(axis=1)
        return sizes

    @property
    def weight(self) -> float:
        """Requests that the measured ones stand for."""
        return float(self.cumulative[-1]) if len(self.cumulative) else 0.0

    @cached_property
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
        if self.squared <= 0:
            return 0.0
        # Rounded, since sums of floats in another order must not make 6 requests 5.
        return min(float(self.requests), round(self.weight**2 / self.squared, 6))

    @property
    def seconds(self) -> float:
        """Time that all answered requests took together, in seconds."""
        return float(self.totals @ midpoint(self.buckets))

    def quantile(self, q: float) -> float:
        """Quantile ``q`` in seconds; there must be at least one request."""
        return quantile(self.buckets, self.totals, q, unit=self.unit)

    def at_level(self, level: float) -> float:
        """Mid point in seconds of the bucket at which the weighted ECDF reaches ``level``."""
        return float(midpoint(self.buckets[level_index(self.cumulative, level)]))

    def deviations(self, q: float) -> NDArray[np.float64]:
        """Woodruff's z per minute: sum of w (1[x <= Q] - q) with Q the quantile ``q``; sums to 0, shape (T,).

        The bucket that holds Q is split linearly, so that the histogram's ties add no variance.
        """
        k = level_index(self.cumulative, q)
        below = float(self.cumulative[k - 1]) if k else 0.0
        inside = float(self.totals[k])
        share = (q * self.weight - below) / inside
        z: NDArray[np.float64] = (
            self.counts[:, :k].sum(axis=1) + share * self.counts[:, k] - q * self._sizes
        )
        return z

    def noise(self, q: float) -> float:
        """Sum of the squared deviations to expect if requests were independent of each other."""
        return q * (1 - q) * self.squared


@cache
def ewc_count(T: int) -> int:
    """Number of cosine terms for ``T`` minutes: max(4, floor(0.41 T^(2/3))), at most T - 1.

    T - 1 terms are all there are; then EWC is the variance between independent clusters.
    """
    return min(max(_LEAST_TERMS, int(np.floor(0.41 * T ** (2 / 3)))), T - 1)


def ewc_terms(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """The B terms sqrt(2/T) sum_t cos(pi j (t - 1/2) / T) z_t, j = 1..B; ``z`` has T >= 2 values, or is (T, Q)."""
    # They are the first coefficients after the mean of the orthonormal discrete cosine transform II.
    terms: NDArray[np.float64] = dct(z, type=2, norm="ortho", axis=0)[1 : ewc_count(len(z)) + 1]
    return terms


def long_run_variance(z: NDArray[np.float64], rho: float) -> float:
    """Variance of the sum of z over its T >= 2 minutes, of which neighbours correlate by ``rho``, 0 <= rho < 1.

    Cosine terms alone take in too much of the spectrum beside zero where minutes are strongly correlated,
    so they are taken of the innovations, and their power is carried back (Andrews and Monahan 1992). The
    better rho, the flatter the spectrum; a wrong one costs precision, not honesty.

    1. e_1 = sqrt(1 - rho^2) z_1 (Prais and Winsten 1954), e_t = z_t - rho z_(t-1).
    2. T times the mean square of e's EWC terms, over (1 - rho)^2. With rho = 0 that is plain EWC.
    """
    # 1.
    e = np.concatenate([np.sqrt(1 - rho**2) * z[:1], z[1:] - rho * z[:-1]])
    # 2.
    terms = ewc_terms(e)
    return float(len(z) * (terms @ terms) / len(terms) / (1 - rho) ** 2)


def lag_one(z: NDArray[np.float64], noise: float = 0.0) -> float:
    """Correlation of each minute's z with the next one's; 0 where z does not vary.

    An estimate r from T minutes is drawn towards 0 by (1 + 3 r)/T (Marriott and Pope 1954), which is added.
    With ``noise``, the part of the sum of z^2 that is due to the chance of single requests, which no minute
    shares with the next, it is the correlation of the minutes' load behind z; at most half of the sum is
    taken away, since the rest is an estimate itself.
    """
    power, products = np.array([z @ z]), np.array([z[1:] @ z[:-1]])
    return float(lag_one_of(power, products, len(z), noise)[0])


def lag_one_of(
    power: NDArray[np.float64],
    products: NDArray[np.float64],
    T: NDArray[np.int64] | int,
    noise: NDArray[np.float64] | float = 0.0,
) -> NDArray[np.float64]:
    """:func:`lag_one` of many series, from each one's sum of squares and its sum of neighbours' products."""
    known = power > 0
    whole = np.where(known, power, 1.0)
    r = products / whole
    drawn = (r + (1 + 3 * r) / T) * whole
    found: NDArray[np.float64] = np.where(known, drawn / np.maximum(whole - noise, whole / 2), 0.0)
    return found


def strongest_correlation(T: int) -> float:
    """Greatest correlation of neighbouring minutes by which ``T`` of them are prewhitened: 1 - 2/sqrt(T), at least 0.

    An estimate beyond it owes more to chance than to the minutes, and would multiply the variance of some
    windows by tens: coverage hardly gains (docs/statistics.md), width doubles.
    """
    return max(0.0, 1 - 2 / float(np.sqrt(T)))


def own_correlation(z: NDArray[np.float64]) -> float:
    """Correlation of neighbouring minutes by which ``z`` (T >= 1) is prewhitened: not negative, and bounded."""
    return min(max(lag_one(z), 0.0), strongest_correlation(len(z)))


def margin_of_sum(z: NDArray[np.float64], confidence: float) -> float:
    """Half the interval of the sum of ``z`` over its T >= 2 minutes, with Student's t for its terms."""
    variance = long_run_variance(z, own_correlation(z))
    return float(stdtrit(ewc_count(len(z)), (1 + confidence) / 2) * np.sqrt(variance))


def drift_bound(T: int) -> float:
    """Correlation of neighbouring minutes' load above which it drifts too slowly for ``T`` minutes: 1 - 1/sqrt(T).

    It stands for a memory of sqrt(T) minutes. Beyond it a window is a piece of one swing.
    """
    return 1 - 1 / float(np.sqrt(T))

"""The interval of one quantile from minute histograms, or why there is none.

Woodruff inversion with minutes as clusters (docs/statistics.md, "One quantile").
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, inf, log
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, ndtri, stdtrit

from mobius_analysis.clusters import (
    Clusters,
    drift_bound,
    ewc_count,
    lag_one,
    long_run_variance,
    own_correlation,
)
from mobius_analysis.histogram import HALF_BUCKET

__all__ = [
    "CONFIDENCE",
    "EQUIVALENCE_CONFIDENCE",
    "FEW_IN_TAIL",
    "FEW_MINUTES",
    "LEAST_MINUTES",
    "SHORT_MINUTES",
    "Bounds",
    "Estimate",
    "estimate",
    "least_requests",
    "order_statistic_levels",
    "wilson",
]

CONFIDENCE: Final = 0.95
EQUIVALENCE_CONFIDENCE: Final = 0.90
FEW_MINUTES: Final = 20
LEAST_MINUTES: Final = 4
SHORT_MINUTES: Final = 30
FEW_IN_TAIL: Final = 30


@dataclass(frozen=True, slots=True)
class Bounds:
    """A value with its interval, all in one unit; ``low`` and ``high`` are None where data are too few."""

    value: float
    low: float | None = None
    high: float | None = None

    def document(self, factor: float = 1.0, digits: int = 4) -> dict[str, float | None]:
        """Return the JSON form {"value", "low", "high"}, times ``factor``, to ``digits`` significant digits."""
        return {
            name: None if x is None else float(f"{x * factor:.{digits}g}")
            for name, x in (("value", self.value), ("low", self.low), ("high", self.high))
        }


@dataclass(frozen=True, slots=True)
class Estimate:
    """One quantile of one side.

    Attributes
    ----------
    bounds
        Seconds, with the 95 % interval.
    inner
        The same with the 90 % interval, for the two one-sided tests of equivalence.
    terms
        Woodruff's z per minute, of which the variance is made, shape (T,).
    rho
        Correlation of neighbouring z by which they were prewhitened, 0 <= rho < 1.
    freedom
        Degrees of freedom of the variance; infinite where requests were taken as independent.
    variance
        Long-run variance of the sum of z; None where minutes were too few for one.
    drift
        True where neighbouring minutes' load is so alike that the window is too short for its drift.
    missing
        Requests still missing for an interval at all; 0 where there is one.
    independent
        True where minutes were too few, so that requests were taken as independent.
    short
        True where minutes were enough for a variance, but so few that strong correlation between
        neighbours hardly shows in them (fewer than 30).
    """

    bounds: Bounds
    inner: Bounds
    z: NDArray[np.float64]
    variance: float | None
    drift: bool
    missing: int
    independent: bool
    short: bool = False
    rho: float = 0.0
    freedom: float = inf


@lru_cache(maxsize=256)
def least_requests(q: float, confidence: float = CONFIDENCE) -> int:
    """Least number of independent requests that give quantile ``q`` a finite two-sided interval.

    For 95 %: p50 6, p90 36, p95 72, p99 368, p99.9 3,688.
    """
    tail = (1 - confidence) / 2
    return ceil(log(tail) / log(max(q, 1 - q)))


@lru_cache(maxsize=16384)
def order_statistic_levels(n: int, q: float, confidence: float) -> tuple[float, float] | None:
    """ECDF levels (r/n, s/n) of the exact order-statistic interval of quantile ``q``, or None below the least n.

    [x_(r), x_(s)] covers with P(r <= Bin(n, q) < s) >= ``confidence`` for independent requests.
    """
    if n < least_requests(q, confidence):
        return None
    tail = (1 - confidence) / 2
    centre, spread = n * q, np.sqrt(n * q * (1 - q))
    reach = int(np.ceil(6 * spread)) + 3
    k = np.arange(max(0, int(centre) - reach), min(n, int(centre) + reach) + 1)
    cdf = bdtr(k, n, q)
    lower = k[cdf <= tail]  # greatest r with P(B <= r - 1) <= tail
    upper = k[cdf >= 1 - tail]  # least s with P(B <= s - 1) >= 1 - tail
    r = int(lower[-1]) + 1 if len(lower) else 1
    s = int(upper[0]) + 1 if len(upper) else n
    return r / n, min(s, n) / n


def estimate(clusters: Clusters, q: float) -> Estimate:
    """Estimate quantile ``q`` with its 95 % and 90 % interval; ``clusters`` must hold a request.

    Steps
    -----
    1. Long-run variance of Woodruff's z by prewhitened EWC, from 4 minutes on.
    2. The weighted ECDF is inverted at q -+ t se.
    3. Few minutes (< 20), or few requests beyond the quantile (< 30 effective ones): also the exact
       order-statistic interval; the wider one counts.
    4. Half a bucket (1.1 %) is added on each side.
    """
    T = len(clusters.minutes)
    value = clusters.quantile(q)
    z = clusters.deviations(q)
    # 1.
    rho = own_correlation(z)
    variance = long_run_variance(z, rho) if T >= LEAST_MINUTES else None
    outer = _levels(clusters, q, CONFIDENCE, variance)
    inner = _levels(clusters, q, EQUIVALENCE_CONFIDENCE, variance)
    if outer is not None and inner is not None:
        # Order statistics come in steps, so of few requests the narrower confidence may reach farther.
        outer = min(outer[0], inner[0]), max(outer[1], inner[1])
    missing = 0
    if outer is None:
        missing = _missing(clusters, q, variance)
    return Estimate(
        bounds=_bounds(clusters, value, outer),
        inner=_bounds(clusters, value, inner),
        z=z,
        variance=variance,
        drift=T >= FEW_MINUTES and lag_one(z, clusters.noise(q)) > drift_bound(T),
        missing=missing,
        independent=variance is None,
        short=LEAST_MINUTES <= T < SHORT_MINUTES,
        rho=rho,
        freedom=inf if variance is None else ewc_count(T),
    )


def _levels(
    clusters: Clusters, q: float, confidence: float, variance: float | None
) -> tuple[float, float] | None:
    n = int(clusters.effective)
    if variance is None or n < least_requests(q, confidence):
        return order_statistic_levels(n, q, confidence)
    # 2.
    T = len(clusters.minutes)
    t = float(stdtrit(ewc_count(T), (1 + confidence) / 2))
    margin = t * np.sqrt(variance) / clusters.weight
    low, high = q - margin, q + margin
    # 3.
    n_effective = _effective(clusters, q, margin, confidence)
    if T < FEW_MINUTES or n_effective * min(q, 1 - q) < FEW_IN_TAIL:
        exact = order_statistic_levels(n_effective, q, confidence)
        if exact is None:
            return None
        # With that many effective requests the least and the greatest are bounds themselves.
        return max(0.0, min(low, exact[0])), min(1.0, max(high, exact[1]))
    return (low, high) if low > 0 and high <= 1 else None


def _effective(clusters: Clusters, q: float, margin: float, confidence: float) -> int:
    """Independent requests that would give the share below the quantile the same ``margin``, at most the real ones.

    The minutes' variance knows how the weights lie around this quantile, which Kish's number does not.
    """
    if margin <= 0:
        return int(clusters.effective)
    normal = float(ndtri((1 + confidence) / 2))
    return int(min(clusters.requests, q * (1 - q) * (normal / margin) ** 2))


def _missing(clusters: Clusters, q: float, variance: float | None) -> int:
    """Requests still missing for an interval, at the share of independent information that requests carry here.

    Below the least number for independent ones nobody can tell yet how dependent they are.
    """
    real = clusters.effective
    yielded = 1.0
    if variance is not None and variance > 0 and real >= least_requests(q):
        yielded = min(1.0, q * (1 - q) * clusters.weight**2 / variance / real)
    return max(1, ceil((least_requests(q) - yielded * real) / yielded))


def _bounds(clusters: Clusters, value: float, levels: tuple[float, float] | None) -> Bounds:
    if levels is None:
        return Bounds(value)
    # 4.
    low, high = (clusters.at_level(level) for level in levels)
    return Bounds(value, min(low, value) / HALF_BUCKET, max(high, value) * HALF_BUCKET)


def wilson(errors: int, requests: int, confidence: float = CONFIDENCE) -> Bounds | None:
    """Share of errors with Wilson's score interval (1927); None without requests."""
    if requests == 0:
        return None
    z = float(ndtri((1 + confidence) / 2))
    share = errors / requests
    scale = 1 + z**2 / requests
    centre = (share + z**2 / (2 * requests)) / scale
    half = z / scale * np.sqrt(share * (1 - share) / requests + z**2 / (4 * requests**2))
    low = max(0.0, float(centre - half)) if errors else 0.0
    high = min(1.0, float(centre + half)) if errors < requests else 1.0
    return Bounds(share, low, high)

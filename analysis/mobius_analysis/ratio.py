"""The ratio of two quantiles with its interval: MOVER on the logarithms, equivalence, distance from a margin.

Zou and Donner 2008 (MOVER), Zou 2008 (its covariance term), Schuirmann 1987 (two one-sided tests).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, inf, log, sqrt
from typing import Final

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

from mobius_analysis.clusters import Clusters, ewc_terms, long_run_variance
from mobius_analysis.histogram import HALF_BUCKET
from mobius_analysis.intervals import CONFIDENCE, EQUIVALENCE_CONFIDENCE, Bounds, Estimate

__all__ = [
    "FEW_COMMON_MINUTES",
    "MARGIN",
    "ONE_SIDED",
    "Ratio",
    "mover",
    "ratio",
    "shared_correlation",
]

MARGIN: Final = 1.1
FEW_COMMON_MINUTES: Final = 20
ONE_SIDED: Final = 1.645
_ROUNDING: Final = log(HALF_BUCKET)
_NORMAL: Final = float(ndtri((1 + CONFIDENCE) / 2))


@dataclass(frozen=True, slots=True)
class Ratio:
    """Production over synthetic, of one quantile.

    Attributes
    ----------
    bounds
        Ratio with its 95 % interval; no interval where either side has none.
    inner
        The same with the 90 % interval, for equivalence.
    correlation
        Of the two sides' sampling errors, as far as shared minutes show it; 0 where they share none.
    """

    bounds: Bounds
    inner: Bounds
    correlation: float = 0.0

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return self.bounds.low is not None and self.inner.low is not None

    def above(self, margin: float = MARGIN) -> bool:
        """Whether the 95 % interval lies wholly above ``margin``."""
        return self.bounds.low is not None and self.bounds.low > margin

    def below(self, margin: float = MARGIN) -> bool:
        """Whether the 95 % interval lies wholly below 1 / ``margin``."""
        return self.bounds.high is not None and self.bounds.high < 1 / margin

    def equivalent(self, margin: float = MARGIN) -> bool:
        """Whether the 90 % interval lies inside 1 / ``margin`` .. ``margin`` (two one-sided tests at 5 %)."""
        low, high = self.inner.low, self.inner.high
        return low is not None and high is not None and low > 1 / margin and high < margin

    def p_beyond(self, margin: float = MARGIN) -> float:
        """Two-sided p-value against "the ratio lies within the margin"; 1 without an interval.

        Read off the interval, so that p < 0.05 precisely where the 95 % interval lies beyond the margin.
        """
        value, low, high = self.bounds.value, self.bounds.low, self.bounds.high
        if low is None or high is None:
            return 1.0
        distance, reach = log(value / margin), log(value / low)
        if value < 1:
            distance, reach = -log(value * margin), log(high / value)
        return (
            float(min(1.0, 2 * ndtr(-_NORMAL * distance / reach)))
            if reach > 0
            else float(distance <= 0)
        )


def mover(y: Bounds, x: Bounds, correlation: float = 0.0) -> Bounds:
    """Interval of y / x from the intervals of both, by MOVER on the logarithms.

    ``correlation`` is that of the sampling errors. It is not applied to the half bucket on each side:
    the histogram's rounding of the two is not shared.
    """
    value = y.value / x.value
    if y.low is None or y.high is None or x.low is None or x.high is None:
        return Bounds(value)
    low = _root(log(y.value / y.low), log(x.high / x.value), correlation)
    high = _root(log(y.high / y.value), log(x.value / x.low), correlation)
    return Bounds(value, value * exp(-low), value * exp(high))


def _root(a: float, b: float, correlation: float) -> float:
    shared = 2 * correlation * max(0.0, a - _ROUNDING) * max(0.0, b - _ROUNDING)
    return sqrt(max(0.0, a * a + b * b - shared))


def ratio(production: Estimate, synthetic: Estimate, correlation: float = 0.0) -> Ratio:
    """Ratio production / synthetic of one quantile.

    Each side's interval allows for the few degrees of freedom of its own variance. The ratio's variance is
    the sum of two and has more (Welch 1938, Satterthwaite 1946), so both lengths are scaled to those first.
    """
    outer = _pooled(production.bounds, synthetic.bounds, production, synthetic, CONFIDENCE)
    inner = _pooled(
        production.inner, synthetic.inner, production, synthetic, EQUIVALENCE_CONFIDENCE
    )
    return Ratio(mover(*outer, correlation), mover(*inner, correlation), correlation)


def _pooled(
    y: Bounds, x: Bounds, production: Estimate, synthetic: Estimate, confidence: float
) -> tuple[Bounds, Bounds]:
    """Both intervals as they would be if their variances had the degrees of freedom of their sum."""
    if y.low is None or y.high is None or x.low is None or x.high is None:
        return y, x
    level = (1 + confidence) / 2
    own = [_student(estimate.freedom, level) for estimate in (production, synthetic)]
    a, b = (
        (max(0.0, log(high / low) / 2 - _ROUNDING) / t) ** 2
        for (low, high), t in zip(((y.low, y.high), (x.low, x.high)), own, strict=True)
    )
    if a + b <= 0:
        return y, x
    spent = a**2 / production.freedom + b**2 / synthetic.freedom
    joint = _student((a + b) ** 2 / spent if spent > 0 else inf, level)
    return _scaled(y, joint / own[0]), _scaled(x, joint / own[1])


def _student(freedom: float, level: float) -> float:
    return float(stdtrit(freedom, level)) if freedom < inf else float(ndtri(level))


def _scaled(bounds: Bounds, factor: float) -> Bounds:
    """Bounds at ``factor`` times their distance in logs, but for the half bucket."""
    value = bounds.value
    low = _stretched(log(value / (bounds.low or value)), factor)
    high = _stretched(log((bounds.high or value) / value), factor)
    return Bounds(value, value / low, value * high)


def _stretched(reach: float, factor: float) -> float:
    rounding = min(reach, _ROUNDING)
    return exp((reach - rounding) * factor + rounding)


def shared_correlation(
    y: Clusters, y_estimate: Estimate, x: Clusters, x_estimate: Estimate
) -> float:
    """Correlation of two quantiles' sampling errors from the EWC terms of the minutes that both have.

    Never assumed: fewer than 20 common minutes give 0, and what is found is drawn towards 0 to its
    one-sided 95 % bound (Fisher's z), because a few terms correlate by chance and would narrow the
    interval by luck.
    """
    if y_estimate.variance is None or x_estimate.variance is None:
        return 0.0
    _, in_y, in_x = np.intersect1d(y.minutes, x.minutes, assume_unique=True, return_indices=True)
    T = len(in_y)
    if T < FEW_COMMON_MINUTES:
        return 0.0
    z_y, z_x = y_estimate.z[in_y], x_estimate.z[in_x]
    a, b = ewc_terms(z_y), ewc_terms(z_x)
    size = sqrt(float(a @ a) * float(b @ b))
    whole = sqrt(y_estimate.variance * x_estimate.variance)
    if size <= 0 or whole <= 0 or len(a) < 4:
        return 0.0
    found = min(max(float(a @ b) / size, -0.999), 0.999)
    drawn = max(0.0, abs(np.arctanh(found)) - ONE_SIDED / sqrt(len(a) - 2))
    common = long_run_variance(z_y, y_estimate.rho) * long_run_variance(z_x, x_estimate.rho)
    share = min(1.0, sqrt(common) / whole)
    return float(np.copysign(np.tanh(drawn), found)) * share

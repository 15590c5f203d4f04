"""Error rates of both sides compared: failures come in bursts, so minutes are the clusters here too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import log, sqrt
from typing import Any, Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtrit

from mobius_analysis.clusters import ewc_count, strongest_correlation
from mobius_analysis.intervals import CONFIDENCE, EQUIVALENCE_CONFIDENCE, Bounds
from mobius_analysis.many_series import ManySeries
from mobius_analysis.ratio import MARGIN
from mobius_analysis.verdicts import discoveries

__all__ = [
    "ERROR_FLOOR",
    "ErrorComparison",
    "ErrorSide",
    "ErrorVerdict",
    "Failures",
    "compare_errors",
    "design_effects",
    "failures_of",
    "judge_errors",
]

ErrorVerdict = Literal["more", "less", "alike", "unclear"]
"""Whether users meet more failures than the test, less, as many, or nobody can tell."""

ERROR_FLOOR: Final = 0.001
"""Difference of two shares that is never claimed, however sure: 0.1 percentage points."""

_LEAST_MINUTES: Final = 4
_NORMAL: Final = float(ndtri((1 + CONFIDENCE) / 2))


@dataclass(frozen=True, eq=False)
class Failures:
    """One side's requests and failed ones per minute that had any.

    Attributes
    ----------
    weights, failed : (T,)
        Sums of sampling weights.
    requests, errors
        Measured requests, and the failed ones of them.
    squared
        Sum of the squared sampling weights of all requests.
    """

    weights: NDArray[np.float64]
    failed: NDArray[np.float64]
    requests: int
    errors: int
    squared: float

    @cached_property
    def weight(self) -> float:
        """What all requests stand for."""
        return float(self.weights.sum())

    @cached_property
    def failed_weight(self) -> float:
        """What the failed requests stand for."""
        return float(self.failed.sum())

    @cached_property
    def effective(self) -> float:
        """Kish's effective number of requests."""
        return min(float(self.requests), self.weight**2 / self.squared) if self.squared > 0 else 0.0

    @cached_property
    def mean_size(self) -> float:
        """Effective requests of the minute that a request finds itself in, at least 1."""
        if self.weight <= 0:
            return 1.0
        share = float(self.weights @ self.weights) / self.weight**2
        return max(1.0, self.effective * share)


def failures_of(rows: pl.DataFrame) -> Failures:
    """Take the requests and failures per minute from rows of ``load_rollup`` of one side."""
    minutes, place = np.unique(rows["minute"].to_numpy(), return_inverse=True)
    weights, failed = (
        np.bincount(place, rows[name].to_numpy(), len(minutes)).astype(np.float64)
        for name in ("weight", "error_weight")
    )
    return Failures(
        weights,
        failed,
        requests=int(rows["requests"].sum()),
        errors=int(rows["errors"].sum()),
        squared=float(rows["weight_squared"].sum()),
    )


@dataclass(frozen=True, slots=True)
class ErrorSide:
    """Share of failed requests: 95 % interval, 90 % interval, and how many independent requests it is worth."""

    bounds: Bounds
    inner: Bounds
    effective: float


@dataclass(frozen=True, slots=True)
class ErrorComparison:
    """Production's share of failed requests against the test's."""

    production: ErrorSide | None
    synthetic: ErrorSide | None
    difference: Bounds | None
    inner_difference: Bounds | None
    ratio: Bounds | None
    inner_ratio: Bounds | None
    verdict: ErrorVerdict | None = None

    def p_beyond(self, margin: float = MARGIN) -> float:
        """Two-sided p-value against "alike": below 0.05 precisely where both intervals clear their floors."""
        d, r = self.difference, self.ratio
        if d is None or r is None or d.low is None or d.high is None:
            return 1.0
        if d.value < 0:
            d = Bounds(-d.value, -d.high, -d.low)
            r = Bounds(_inverse(r.value), _inverse(r.high), _inverse(r.low))
        of_difference = _tail(d.value - ERROR_FLOOR, d.value - (d.low or 0.0))
        if r.low is None or r.low <= 0:
            return 1.0
        if not np.isfinite(r.value):
            # No failure on the other side: the ratio's lower bound alone is known.
            return of_difference if r.low > margin else 1.0
        return max(of_difference, _tail(log(r.value / margin), log(r.value / r.low)))

    def alike(self, margin: float = MARGIN) -> bool:
        """Whether the 90 % interval of difference or ratio lies inside its floor (two one-sided tests at 5 %)."""
        d, r = self.inner_difference, self.inner_ratio
        if (
            d is not None
            and d.low is not None
            and d.high is not None
            and max(-d.low, d.high) < ERROR_FLOOR
        ):
            return True
        return (
            r is not None
            and r.low is not None
            and r.high is not None
            and r.low > 1 / margin
            and r.high < margin
        )

    def document(self) -> dict[str, Any]:
        """Return the JSON form: shares 0..1, the difference in the same unit, the ratio without one."""
        return {
            "production": None if self.production is None else self.production.bounds.document(),
            "synthetic": None if self.synthetic is None else self.synthetic.bounds.document(),
            "difference": None if self.difference is None else self.difference.document(),
            "ratio": None if self.ratio is None else _finite(self.ratio),
            "verdict": self.verdict,
        }


def _finite(bounds: Bounds) -> dict[str, float | None]:
    document = Bounds(bounds.value, bounds.low, bounds.high).document()
    return {name: None if x is None or not np.isfinite(x) else x for name, x in document.items()}


def _inverse(x: float | None) -> float:
    if x is None:
        return 0.0  # of a bound that is not there: infinite
    return 1 / x if x > 0 else float("inf")


def _tail(distance: float, reach: float) -> float:
    if reach <= 0:
        return float(distance <= 0)
    return float(min(1.0, 2 * ndtr(-_NORMAL * distance / reach)))


def compare_errors(
    production: Failures,
    synthetic: Failures,
    effects: Sequence[float | None] | None = None,
) -> ErrorComparison:
    """Compare the shares of failed requests of both sides; nothing is judged yet.

    ``effects`` are the :func:`design_effects` of both where they are known already.

    Steps
    -----
    1. Design effect of each side: the variance of its share with minutes as clusters (EWC) over that of
       independent requests, at least 1.
    2. A side without a failure shows none of its own, so it borrows the other's correlation within a
       minute, (effect - 1)/(size - 1), for minutes of its own size: no failure in one burst of 20
       requests says little.
    3. Wilson's interval for the effective number of requests (Korn and Graubard 1998).
    4. The difference by Newcombe's hybrid (1998), the ratio by MOVER-R (Donner and Zou 2012).
    """
    if effects is None:
        effects = design_effects((production, synthetic))  # 1
    y = _side(production, _effect(production, effects[0], synthetic, effects[1]))  # 2, 3
    x = _side(synthetic, _effect(synthetic, effects[1], production, effects[0]))
    if y is None or x is None:
        return ErrorComparison(y, x, None, None, None, None)
    return ErrorComparison(  # 4
        y,
        x,
        _difference(y.bounds, x.bounds),
        _difference(y.inner, x.inner),
        _ratio(y.bounds, x.bounds),
        _ratio(y.inner, x.inner),
    )


def design_effects(sides: Sequence[Failures]) -> list[float | None]:
    """Variance of each side's share over that of independent requests, all sides at once.

    None where failures or minutes are too few to show one.
    """
    effects: list[float | None] = [None] * len(sides)
    places = [place for place, side in enumerate(sides) if _shows_bursts(side)]
    if not places:
        return effects
    shown = [sides[place] for place in places]
    T = np.array([len(side.weights) for side in shown])
    shares = np.array([side.failed_weight / side.weight for side in shown])
    weights, failed = (
        np.concatenate([getattr(side, name) for side in shown]) for name in ("weights", "failed")
    )
    z = failed - np.repeat(shares, T) * weights
    series = ManySeries(z[:, None], np.concatenate([[0], np.cumsum(T)]))
    strongest = np.array([strongest_correlation(int(t)) for t in T])
    rho = np.clip(series.lag_one(), 0.0, strongest[:, None])
    variances = series.long_run_variances(rho, _LEAST_MINUTES)[:, 0]
    terms = np.array([ewc_count(int(t)) for t in T])
    t = stdtrit(terms, (1 + CONFIDENCE) / 2) / _NORMAL
    whole, worth = np.array([(side.weight, side.effective) for side in shown]).T
    independent = shares * (1 - shares) * whole**2 / worth
    found = np.maximum(1.0, t * t * variances / independent)
    for place, effect in zip(places, found.tolist(), strict=True):
        effects[place] = effect
    return effects


def _shows_bursts(side: Failures) -> bool:
    if len(side.weights) < _LEAST_MINUTES or side.errors < 2 or side.errors == side.requests:
        return False
    return 0 < side.failed_weight < side.weight


def _effect(side: Failures, own: float | None, other: Failures, others: float | None) -> float:
    if own is not None:
        return own
    if others is None or other.mean_size <= 1:
        return 1.0
    within = min(1.0, (others - 1) / (other.mean_size - 1))
    return 1 + within * (side.mean_size - 1)


def _side(side: Failures, effect: float) -> ErrorSide | None:
    if side.requests == 0 or side.weight <= 0:
        return None
    share = min(1.0, side.failed_weight / side.weight)
    n = max(1.0, side.effective / effect)
    return ErrorSide(_wilson(share, n, CONFIDENCE), _wilson(share, n, EQUIVALENCE_CONFIDENCE), n)


def _wilson(share: float, n: float, confidence: float) -> Bounds:
    z = float(ndtri((1 + confidence) / 2))
    scale = 1 + z**2 / n
    centre = (share + z**2 / (2 * n)) / scale
    half = z / scale * sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low = max(0.0, centre - half) if share > 0 else 0.0
    high = min(1.0, centre + half) if share < 1 else 1.0
    return Bounds(share, low, high)


def _limits(bounds: Bounds) -> tuple[float, float, float]:
    if bounds.low is None or bounds.high is None:
        raise ValueError("a share always has an interval")
    return bounds.value, bounds.low, bounds.high


def _difference(y: Bounds, x: Bounds) -> Bounds:
    (p, pl, pu), (q, ql, qu) = _limits(y), _limits(x)
    d = p - q
    return Bounds(
        d, d - sqrt((p - pl) ** 2 + (qu - q) ** 2), d + sqrt((pu - p) ** 2 + (q - ql) ** 2)
    )


def _ratio(y: Bounds, x: Bounds) -> Bounds:
    (p, pl, pu), (q, ql, qu) = _limits(y), _limits(x)
    value = p / q if q > 0 else float("inf")
    low = _mover_r(p * q, pl * (2 * p - pl), qu * (2 * q - qu), sign=-1)
    high = _mover_r(p * q, pu * (2 * p - pu), ql * (2 * q - ql), sign=1) if ql > 0 else float("inf")
    return Bounds(value, max(0.0, low), high)


def _mover_r(product: float, a: float, b: float, *, sign: int) -> float:
    """(product + sign sqrt(product^2 - a b)) / b, in the form that keeps its digits as b goes to 0."""
    root = sqrt(max(0.0, product**2 - a * b))
    if sign < 0:
        return a / (product + root) if product + root > 0 else 0.0
    return (product + root) / b if b > 0 else float("inf")


def judge_errors(
    comparisons: Sequence[ErrorComparison], margin: float = MARGIN
) -> list[ErrorVerdict | None]:
    """Verdict words of a family of comparisons; None where a side has no requests.

    "more" and "less" are claims that must hold among the whole family (Benjamini and Hochberg).
    """
    known = [i for i, one in enumerate(comparisons) if one.difference is not None]
    kept = dict(
        zip(known, discoveries([comparisons[i].p_beyond(margin) for i in known]), strict=True)
    )
    return [_verdict(one, margin, kept=kept.get(i, False)) for i, one in enumerate(comparisons)]


def _verdict(one: ErrorComparison, margin: float, *, kept: bool) -> ErrorVerdict | None:
    if one.difference is None:
        return None
    if kept:
        return "more" if one.difference.value > 0 else "less"
    return "alike" if one.alike(margin) else "unclear"

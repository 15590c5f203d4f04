"""What others conclude from the same requests: percentiles, a plain rank test, Kayenta's judge, k6's thresholds.

Each takes the requests of production and of a test and answers in our verdicts' words. None of them knows
"inconclusive": whatever they do not flag passes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil, floor, sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import mannwhitneyu

from mobius_analysis.ratio import MARGIN
from mobius_analysis.verdicts import HEADLINE, Verdict
from mobius_infra.benchmarks._statistics_worlds import Draw

__all__ = ["PEERS", "hodges_lehmann", "k6_threshold", "kayenta", "mann_whitney", "raw_percentiles"]

Floats = NDArray[np.float64]
_KAYENTA_CONFIDENCE: Final = 0.98
_KAYENTA_TOLERANCE: Final = 0.25


def raw_percentiles(production: Draw, test: Draw) -> Verdict:
    """Two percentiles, one divided by the other, held against the margin: what a dashboard invites to."""
    ratios = np.quantile(production.seconds, HEADLINE) / np.quantile(test.seconds, HEADLINE)
    if ratios.max() > MARGIN:
        return "optimistic"
    return "pessimistic" if ratios.min() < 1 / MARGIN else "representative"


def mann_whitney(production: Draw, test: Draw) -> Verdict:
    """Two-sided Mann-Whitney test of all requests at 5 %, as if they were independent."""
    found = mannwhitneyu(production.seconds, test.seconds, method="asymptotic")
    if found.pvalue >= 0.05:
        return "representative"
    larger = found.statistic > len(production.seconds) * len(test.seconds) / 2
    return "optimistic" if larger else "pessimistic"


def k6_threshold(production: Draw, test: Draw) -> Verdict:
    """k6's threshold ``p(95) < X`` with X the test's own p95 and the margin, held against production."""
    limit = MARGIN * np.quantile(test.seconds, 0.95)
    return "optimistic" if np.quantile(production.seconds, 0.95) > limit else "representative"


def kayenta(production: Draw, test: Draw) -> Verdict:
    """Judge as Kayenta's NetflixACAJudge-v1.0 does with its defaults (spinnaker/kayenta, commit a69573be).

    Two metrics, p50 and p95, one value a minute. A metric is High where the 98 % Mann-Whitney interval of
    the difference (canary minus baseline) lies above a quarter of its Hodges-Lehmann estimate and the ratio
    of means is at least 1; Low the other way round; else it passes. Outliers stay (strategy "none").
    """
    flags: set[Verdict] = set()
    for q in HEADLINE:
        canary, baseline = _per_minute(production, q), _per_minute(test, q)
        low, estimate, high = hodges_lehmann(canary, baseline, _KAYENTA_CONFIDENCE)
        bound, means = _KAYENTA_TOLERANCE * abs(estimate), canary.mean() / baseline.mean()
        if low > bound and means >= 1:
            flags.add("optimistic")
        elif high < -bound and means <= 1:
            flags.add("pessimistic")
    if "optimistic" in flags:
        return "optimistic"
    return "pessimistic" if flags else "representative"


def hodges_lehmann(x: Floats, y: Floats, confidence: float) -> tuple[float, float, float]:
    """Lower bound, estimate and upper bound of the shift from ``y`` to ``x``.

    The Mann-Whitney test inverted with its normal approximation and continuity correction, which without
    ties means order statistics of all differences; the greatest difference bounds what is too few to tell.
    """
    m, n = len(x), len(y)
    reach = -ndtri((1 - confidence) / 2) * sqrt(m * n * (m + n + 1) / 12) + 0.5
    below = max(floor(m * n / 2 - reach), 0)
    above = min(ceil(m * n / 2 + reach), m * n - 1)
    middle = ((m * n - 1) // 2, m * n // 2)
    found = np.partition(np.subtract.outer(x, y), (below, *middle, above), axis=None)
    estimate = (found[middle[0]] + found[middle[1]]) / 2
    return float(found[below]), float(estimate), float(found[above])


def _per_minute(draw: Draw, q: float) -> Floats:
    """Quantile ``q`` of every minute that has requests."""
    seconds, starts, counts = draw.by_minute
    position = (counts - 1) * q
    below = np.floor(position).astype(int)
    first = seconds[starts + below]
    second = seconds[starts + np.minimum(below + 1, counts - 1)]
    return np.asarray(first + (position - below) * (second - first))


PEERS: Final[Mapping[str, Callable[[Draw, Draw], Verdict]]] = {
    "raw percentiles": raw_percentiles,
    "Mann-Whitney": mann_whitney,
    "Kayenta": kayenta,
    "k6 threshold": k6_threshold,
}

"""Shares with honest intervals: of things that come in clusters, and of totals over time."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from mobius_analysis.clusters import lag_one, long_run_variance
from mobius_analysis.intervals import CONFIDENCE, Bounds

__all__ = ["clustered_share", "share_of_total", "wilson_share"]

_LEAST_BINS: Final = 8
_HIGHEST_RHO: Final = 0.9

Floats = NDArray[np.float64]


def wilson_share(share: float, effective: float) -> Bounds:
    """Share with Wilson's 95 % interval for a number of effective trials that need not be whole."""
    z = float(ndtri((1 + CONFIDENCE) / 2))
    centre = share + z**2 / (2 * effective)
    half = z * sqrt(share * (1 - share) / effective + z**2 / (4 * effective**2))
    scale = 1 + z**2 / effective
    low = 0.0 if share <= 0 else max(0.0, (centre - half) / scale)
    return Bounds(share, low, 1.0 if share >= 1 else min(1.0, (centre + half) / scale))


def clustered_share(trials: Sequence[tuple[Hashable, bool]]) -> Bounds | None:
    """Share of hits among trials, each given with its cluster; None without a trial.

    What happens in one cluster (one release, one endpoint's regions) is not independent: the effective number
    of trials is p (1 - p) over the variance between clusters (Korn and Graubard 1998), at most the
    number of trials, and the number of clusters where they show no variance.
    """
    if not trials:
        return None
    hits: dict[Hashable, list[float]] = {}
    for cluster, hit in trials:
        hits.setdefault(cluster, []).append(float(hit))
    n, G = len(trials), len(hits)
    p = sum(map(sum, hits.values())) / n
    errors = sum((sum(c) - p * len(c)) ** 2 for c in hits.values())
    variance = errors * G / max(G - 1, 1) / n**2
    effective = min(float(n), p * (1 - p) / variance) if variance > 0 else float(G)
    return wilson_share(p, max(1.0, effective))


def share_of_total(part: Floats, whole: Floats) -> Bounds | None:
    """Share of a total over time, both given a bin at a time; None where the total is 0.

    The interval says how far the share would move in another such stretch of time: the long-run variance of
    part - share x whole over the bins. No bounds below 8 bins.
    """
    total = float(whole.sum())
    if total <= 0:
        return None
    share = min(max(float(part.sum()) / total, 0.0), 1.0)
    if len(whole) < _LEAST_BINS:
        return Bounds(share)
    z = part - share * whole
    rho = min(max(lag_one(z), 0.0), _HIGHEST_RHO)
    variance = long_run_variance(z, rho) / total**2
    if variance <= 0 or not 0 < share < 1:
        return wilson_share(share, float(len(whole)))
    return wilson_share(share, max(1.0, share * (1 - share) / variance))

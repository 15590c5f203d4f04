"""The rollup's latency histogram: OpenTelemetry's base-2 exponential one, scale 5.

Bucket ``i`` holds the latencies ``2^(i/32) < seconds <= 2^((i+1)/32)``. Its mid point is the value
whose greatest relative error over the bucket is least, ``2 lo hi / (lo + hi)``: at most 1.083 %.
Reference: OpenTelemetry metrics data model, "ExponentialHistogram".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "BASE",
    "HALF_BUCKET",
    "LEVEL_ROUNDING",
    "SCALE",
    "bucket_bounds",
    "bucket_of",
    "level_index",
    "merge",
    "midpoint",
    "quantile",
]

SCALE: Final = 5
_PER_OCTAVE: Final = 2**SCALE
BASE: Final = 2.0 ** (1 / _PER_OCTAVE)
HALF_BUCKET: Final = (1 + BASE) / 2
"""Factor from a mid point to the farther of its bucket's bounds (1.01095)."""

LEVEL_ROUNDING: Final = 1e-9
"""Share of the total by which sums of floats may miss a level that they reach."""


def bucket_of(seconds: ArrayLike) -> NDArray[np.int64]:
    """Index of the bucket that holds each latency (seconds, > 0), as the rollup's SQL computes it."""
    indices: NDArray[np.int64] = (
        np.ceil(np.log2(np.asarray(seconds, float)) * _PER_OCTAVE) - 1
    ).astype(np.int64)
    return indices


def bucket_bounds(index: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower (open) and upper (closed) bound of each bucket, in seconds."""
    lower = np.exp2(np.asarray(index, float) / _PER_OCTAVE)
    return lower, lower * BASE


def midpoint(index: ArrayLike) -> NDArray[np.float64]:
    """Value in seconds that stands for every latency of the bucket, within 1.083 %."""
    lower, upper = bucket_bounds(index)
    middle: NDArray[np.float64] = 2 * lower * upper / (lower + upper)
    return middle


def merge(*histograms: Mapping[int, float]) -> dict[int, float]:
    """Add histograms (bucket to weight); the histogram of the union of their requests."""
    total: dict[int, float] = {}
    for histogram in histograms:
        for bucket, weight in histogram.items():
            total[bucket] = total.get(bucket, 0.0) + weight
    return dict(sorted(total.items()))


def level_index(cumulative: NDArray[np.float64], level: float) -> int:
    """Position of the first bucket at which the weighted ECDF reaches ``level`` (0..1).

    ``cumulative`` holds the running sum of the weights over ascending buckets, and must not be empty.
    """
    total = cumulative[-1]
    position = int(cumulative.searchsorted(total * (level - LEVEL_ROUNDING), side="left"))
    return min(position, len(cumulative) - 1)


def quantile(
    buckets: NDArray[np.int64], weights: NDArray[np.float64], q: float, *, unit: bool
) -> float:
    """Quantile ``q`` in seconds of one histogram.

    Parameters
    ----------
    buckets, weights
        Ascending bucket indices and their weights, same length, at least one.
    q
        Level, 0..1.
    unit
        True where every request has the weight 1: type-7 interpolation (Hyndman and Fan 1996) between
        the order statistics, each standing at its bucket's mid point, hence within 1.083 % of the
        exact type-7 quantile. False for sampled requests: the Hajek quantile, the first bucket at
        which the normalised weights reach ``q``.
    """
    cumulative = np.cumsum(weights)
    if not unit:
        return float(midpoint(buckets[level_index(cumulative, q)]))
    position = (round(float(cumulative[-1])) - 1) * q
    below = int(np.floor(position))
    # Order statistic number k (from 0) lies in the first bucket whose running sum exceeds k.
    ranks = np.searchsorted(cumulative - 0.5, [below, below + 1], side="right")
    first, second = midpoint(buckets[np.minimum(ranks, len(buckets) - 1)])
    return float(first + (position - below) * (second - first))

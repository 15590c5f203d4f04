"""Thin ends of a latency histogram, merged inwards, so that no single slowest or fastest request shows."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["merge_thin_tails"]


def merge_thin_tails(
    buckets: ArrayLike, weights: ArrayLike, least: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Move the weight of thin ends into the nearest bucket inwards at which ``least`` is reached.

    Quantiles that do not lie in an end stay as they are; the total stays exactly.

    Parameters
    ----------
    buckets, weights
        Ascending bucket indices and their weights, same length.
    least
        Weight that each end bucket of the result has at least, unless all of it weighs less: then it has one bucket.

    Examples
    --------
    >>> merge_thin_tails([1, 4, 5, 9], [1, 9, 8, 2], 5)
    (array([4, 5]), array([10., 10.]))
    """
    index = np.asarray(buckets, np.int64)
    weight = np.asarray(weights, float)
    if not len(index):
        return index, weight
    running = np.cumsum(weight)
    low = min(int(np.searchsorted(running, least)), len(index) - 1)
    above = np.cumsum(weight[::-1])
    high = len(index) - 1 - min(int(np.searchsorted(above, least)), len(index) - 1)
    if low >= high:
        middle = int(np.searchsorted(running, running[-1] / 2))
        return index[[middle]], running[[-1]]
    kept = weight[low : high + 1].copy()
    kept[0] += weight[:low].sum()
    kept[-1] += weight[high + 1 :].sum()
    return index[low : high + 1], kept

"""Quantiles of values that come with counts, and buckets for those that are too many."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Final

__all__ = ["bucket_middle", "counted_quantiles"]

# Bounds of buckets grow by this factor, so that their middles are within 0.25 % of what lies in them.
_GROWTH: Final = math.log(1.005)
_LEAST_MS: Final = 1e-6


def bucket_middle(value: float) -> float:
    """Return the middle, in ratio, of the bucket that ``value`` (ms) lies in: within 0.25 % of it."""
    if value < _LEAST_MS:
        return 0.0
    return math.exp((math.floor(math.log(value) / _GROWTH) + 0.5) * _GROWTH)


def counted_quantiles(values: Mapping[float, int], shares: Sequence[float]) -> list[float]:
    """Return quantiles by linear interpolation between order statistics (Hyndman and Fan 1996, type 7).

    ``values`` holds how often each value was seen, at least one of them.
    """
    ordered = sorted(values)
    ends = list(accumulate(values[value] for value in ordered))
    found = []
    for share in shares:
        place = share * (ends[-1] - 1)
        low = ordered[bisect_right(ends, int(place))]
        high = ordered[bisect_right(ends, min(int(place) + 1, ends[-1] - 1))]
        found.append(low + (high - low) * (place - int(place)))
    return found

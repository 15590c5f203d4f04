"""How much a closed loop hides: coordinated omission, and what the tail looks like without it.

A tool that waits for each answer before it sends the next request asks less of a server just while it is slow, so
the requests that would have queued are missing from its percentiles. The correction is that of HdrHistogram
(``recordValueWithExpectedInterval``; Gil Tene, "How NOT to Measure Latency", 2013): for an answer that took longer
than a connection's own interval between requests, those that were not sent meanwhile are counted as if they had been,
each waiting one interval less. The interval is the run's own: connections x length / requests.
"""

from __future__ import annotations

import heapq
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from mobius_pipeline.imports.quantiles import bucket_middle, counted_quantiles

__all__ = ["Omission", "Overlap", "corrected_quantiles", "omission"]

# The number of connections does not change within a run, so its beginning shows it.
_MOST_PAIRS: Final = 100_000
_MOST_STEPS: Final = 5_000_000
# Different values that are kept; more go into buckets.
_MOST_VALUES: Final = 100_000
_TAIL: Final = (0.95, 0.99)


class Overlap:
    """Counts how many requests were under way at once, of the first 100,000 of a run."""

    def __init__(self) -> None:
        self._starts = array("q")
        self._ends = array("q")

    def add(self, start_us: int, end_us: int) -> None:
        """Take one request, from its start to its end."""
        if len(self._starts) < _MOST_PAIRS:
            self._starts.append(start_us)
            self._ends.append(end_us)

    def most(self, tick_us: int = 0) -> int:
        """Return the greatest number under way at one time; one that ends as another starts is over.

        ``tick_us``: how far a time may be off, so that an end that much after a start is before it.
        """
        ends: list[int] = []
        most = 0
        for start, end in sorted(zip(self._starts, self._ends, strict=True)):
            while ends and ends[0] <= start + tick_us:
                heapq.heappop(ends)
            heapq.heappush(ends, max(end, start + 1))
            most = max(most, len(ends))
        return most


@dataclass(frozen=True, slots=True)
class Omission:
    """Tail of a closed-loop run as its requests give it, and corrected; latencies in ms.

    ``interval_ms`` is what passed, on average, between the requests of one of ``connections``.
    """

    connections: int
    interval_ms: float
    p95_ms: float
    p99_ms: float
    corrected_p95_ms: float
    corrected_p99_ms: float


def omission(
    pairs: Iterable[tuple[float, int]], requests: int, length_us: int, connections: int
) -> Omission | None:
    """Estimate how much a closed loop hid; None where that cannot be told.

    Parameters
    ----------
    pairs
        Latencies of answers in ms with their counts.
    requests, length_us
        All requests of the run, and how long it took.
    connections
        How many requests could be under way at once.
    """
    values: Counter[float] = Counter()
    for value, count in pairs:
        values[value if len(values) < _MOST_VALUES else bucket_middle(value)] += count
    if not values or not connections or length_us <= 0:
        return None
    interval = connections * length_us / requests / 1000
    plain = counted_quantiles(values, _TAIL)
    corrected = corrected_quantiles(values, interval, _TAIL)
    if corrected is None:
        return None
    # What was added lies below the answers that it is added for; where those are few it can lower a percentile, and
    # nothing was hidden.
    corrected = [max(pair) for pair in zip(plain, corrected, strict=True)]
    figures = (round(each, 4) for each in (interval, *plain, *corrected))
    return Omission(connections, *figures)


def corrected_quantiles(
    values: Counter[float], interval_ms: float, shares: Sequence[float]
) -> list[float] | None:
    """Return quantiles of ``values`` (ms, counted) after the correction; None where it would add millions."""
    if interval_ms <= 0 or sum(value / interval_ms for value in values) > _MOST_STEPS:
        return None
    whole = values.copy()
    for value, count in values.items():
        missing = value - interval_ms
        while missing >= interval_ms:
            whole[missing if len(whole) < _MOST_VALUES else bucket_middle(missing)] += count
            missing -= interval_ms
    return counted_quantiles(whole, shares)

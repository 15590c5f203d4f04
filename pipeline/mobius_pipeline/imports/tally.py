"""Counts and latencies of one run, by endpoint, while its file is read."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from mobius_pipeline.imports.formats.model import Request

__all__ = ["Latencies", "Name", "Tally"]

Name = tuple[str, str]
"""Method and name of a request, as the tool wrote them."""


class Latencies:
    """Latencies in milliseconds, kept exactly: 8 bytes each, or a count a value where the tool rounded them."""

    def __init__(self) -> None:
        self._single = array("d")
        self._counted: Counter[float] = Counter()

    def add(self, value: float, requests: int = 1) -> None:
        """Take the latency of ``requests`` requests."""
        if requests == 1:
            self._single.append(value)
        else:
            self._counted[value] += requests

    def update(self, other: Latencies) -> None:
        """Take everything that ``other`` holds."""
        self._single.extend(other._single)
        self._counted.update(other._counted)

    def quantiles(self, shares: Sequence[float]) -> list[float | None]:
        """Return quantiles by linear interpolation between order statistics (Hyndman and Fan 1996, type 7)."""
        if self._counted:
            counted = self._counted.copy()
            counted.update(self._single)
            values = sorted(counted)
            ends = list(accumulate(counted[value] for value in values))
        else:
            values = sorted(self._single)
            ends = []
        total = ends[-1] if ends else len(values)
        if not total:
            return [None for _ in shares]

        def order_statistic(index: int) -> float:
            return values[bisect_right(ends, index)] if ends else values[index]

        result: list[float | None] = []
        for share in shares:
            place = share * (total - 1)
            low = order_statistic(int(place))
            high = order_statistic(min(int(place) + 1, total - 1))
            result.append(low + (high - low) * (place - int(place)))
        return result


@dataclass(slots=True)
class Line:
    """What is known of all requests of one name."""

    requests: int = 0
    failed: int = 0
    latencies: Latencies = field(default_factory=Latencies)


@dataclass(slots=True)
class Tally:
    """What is known of a run. Times are microseconds since 1970."""

    lines: dict[Name, Line] = field(default_factory=dict)
    start_us: int | None = None
    end_us: int | None = None

    def add(self, request: Request) -> None:
        """Take one request."""
        line = self.lines.get((request.method, request.name))
        if line is None:
            line = self.lines.setdefault((request.method, request.name), Line())
        line.requests += request.requests
        line.failed += request.requests * request.failed
        if request.duration_ms is not None:
            line.latencies.add(request.duration_ms, request.requests)
        if self.start_us is None or request.start_us < self.start_us:
            self.start_us = request.start_us
        if self.end_us is None or request.end_us > self.end_us:
            self.end_us = request.end_us

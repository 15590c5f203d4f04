"""Counts and latencies of one run, by endpoint, while its file is read; in bounded memory, however many they are."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from mobius_pipeline.imports.formats.model import Request
from mobius_pipeline.imports.omission import Overlap
from mobius_pipeline.imports.quantiles import bucket_middle, counted_quantiles

__all__ = ["Latencies", "Name", "Tally"]

Name = tuple[str, str]
"""Method and name of a request, as the tool wrote them."""

# Latencies kept one by one over the whole run (32 MB), and of one name, before they go into buckets.
_MOST_SINGLE: Final = 4_000_000
_FEW: Final = 256
_MOST_ERRORS: Final = 1_000
OTHER_ERRORS: Final = "other errors"


class Latencies:
    """Latencies in milliseconds: one by one and exactly, or a count a value where the tool rounded them.

    :meth:`fold` puts those that were kept one by one into buckets; quantiles are within 0.25 % then.
    """

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

    def fold(self) -> int:
        """Put what is kept one by one into buckets, if it is more than a few; return how many remain."""
        if len(self._single) > _FEW:
            self._counted.update(map(bucket_middle, self._single))
            self._single = array("d")
        return len(self._single)

    def pairs(self) -> Iterator[tuple[float, int]]:
        """Yield each value with its count, in no order; a value may come more than once."""
        yield from ((value, 1) for value in self._single)
        yield from self._counted.items()

    def quantiles(self, shares: Sequence[float]) -> list[float | None]:
        """Return quantiles by linear interpolation between order statistics (Hyndman and Fan 1996, type 7)."""
        if self._counted:
            counted = self._counted.copy()
            counted.update(self._single)
            return [*counted_quantiles(counted, shares)]
        values = sorted(self._single)
        if not values:
            return [None for _ in shares]
        result: list[float | None] = []
        for share in shares:
            place = share * (len(values) - 1)
            low, high = values[int(place)], values[min(int(place) + 1, len(values) - 1)]
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
    """What is known of a run. Times are microseconds since 1970.

    ``statuses`` counts requests by status: "0" is no answer, and "ok" and "failed" are answers of which the file
    does not say the status. ``errors`` counts them by what the tool said of a failure.
    """

    lines: dict[Name, Line] = field(default_factory=dict)
    start_us: int | None = None
    end_us: int | None = None
    statuses: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    overlap: Overlap = field(default_factory=Overlap)
    single: int = 0

    def add(self, request: Request) -> None:
        """Take one request."""
        line = self.lines.get((request.method, request.name))
        if line is None:
            line = self.lines.setdefault((request.method, request.name), Line())
        line.requests += request.requests
        line.failed += request.requests * request.failed
        if request.duration_ms is not None:
            line.latencies.add(request.duration_ms, request.requests)
            self.single += request.requests == 1
            if self.single > _MOST_SINGLE:
                self.single = sum(each.latencies.fold() for each in self.lines.values())
        if self.start_us is None or request.start_us < self.start_us:
            self.start_us = request.start_us
        if self.end_us is None or request.end_us > self.end_us:
            self.end_us = request.end_us
        self._count(request)
        self.overlap.add(request.start_us, request.end_us)

    def _count(self, request: Request) -> None:
        if request.status:
            status = str(request.status)
        elif request.duration_ms is None:
            status = "0"
        else:
            status = "failed" if request.failed else "ok"
        self.statuses[status] += request.requests
        if error := request.error[:200]:
            known = error in self.errors or len(self.errors) < _MOST_ERRORS
            self.errors[error if known else OTHER_ERRORS] += request.requests

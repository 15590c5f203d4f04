"""What every reader of a result file yields, whatever the tool."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from mobius_pipeline.imports.content import Content

__all__ = ["EPOCH_UNITS", "Facts", "Format", "Percentiles", "Request", "nanoseconds"]

Percentiles = Literal["answered", "all_requests", "as_reported"]
"""Whose latency a run's percentiles are: of answered requests; of all, where the tool does not tell them
apart; or the tool's own figures, where it gives nothing else."""


class Request(NamedTuple):
    """One request as the tool saw it, or ``requests`` alike ones where the tool gives a histogram.

    Times are microseconds since 1970. ``duration_ms`` is None where no answer came: a refused connection
    has no latency, and what a request waited before it timed out is no latency of an answer either.
    ``status`` is 0 where there is none.
    """

    start_us: int
    end_us: int
    duration_ms: float | None
    method: str
    name: str
    status: int
    failed: bool
    error: str = ""
    trace_id: str = ""
    requests: int = 1


@dataclass(slots=True)
class Facts:
    """What a file says of its run; complete when every request of it was read.

    ``start_us`` and ``end_us`` are set where the file says more of them than its requests do.
    """

    run: str | None = None
    test: str | None = None
    tool_version: str | None = None
    releases: set[str] = field(default_factory=set)
    percentiles: Percentiles = "answered"
    generated: bool = False
    start_us: int | None = None
    end_us: int | None = None
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of result file that holds requests: its name, its tool, and how to read it."""

    name: str
    tool: str
    read: Callable[[Content, Facts], Iterator[Request]]


_RFC3339: Final = re.compile(
    r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
EPOCH_UNITS: Final = ((1e11, 10**9), (1e14, 10**6), (1e17, 10**3), (float("inf"), 1))
"""Upper bound of an epoch number and nanoseconds in its unit: s, ms, us, ns, told apart by magnitude."""


def nanoseconds(text: str) -> int:
    """Read a RFC 3339 time as nanoseconds since 1970.

    Raises
    ------
    ValueError
        It is none.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is no RFC 3339 time")
    return _seconds(match[1], match[3]) * 10**9 + int((match[2] or "0").ljust(9, "0"))


@lru_cache(maxsize=1024)
def _seconds(text: str, offset: str) -> int:
    zone = "+00:00" if offset in "Zz" else offset
    return int(datetime.fromisoformat(text.upper() + zone).timestamp())

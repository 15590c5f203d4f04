"""What every reader of a result file yields, whatever the tool, and what the store can hold of it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from mobius_pipeline.imports.content import Content
from mobius_pipeline.imports.formats.given import Given, Option

__all__ = [
    "EPOCH_UNITS",
    "Facts",
    "Format",
    "LoadModel",
    "Percentiles",
    "Request",
    "Vantage",
    "checked",
    "label",
    "milliseconds",
    "nanoseconds",
    "plain_text",
    "possible_time",
]

Percentiles = Literal["answered", "all_requests", "as_reported"]
"""Whose latency a run's percentiles are: of answered requests; of all, where the tool does not tell them
apart; or the tool's own figures, where it gives nothing else."""

LoadModel = Literal["open", "closed", "corrected", "unknown"]
"""How a run sent its requests: by the clock (open); each after the answer before it, so that a slow server was
asked less and queueing is hidden (closed: coordinated omission); closed, with latencies that the tool itself
corrected for it; or the file does not tell."""


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
    named_trace_id: str = ""
    """A trace id that several rows carry: it names a trace of the test, and says of no row that it is its own."""


Vantage = Literal["client", "server"]
"""Who saw the requests of a run: who sent them, or who answered them."""


@dataclass(slots=True)
class Facts:
    """What a file says of its run; complete when every request of it was read.

    ``start_us`` and ``end_us`` are set where the file says more of them than its requests do. ``given`` is what
    the caller said in its place.
    """

    run: str | None = None
    test: str | None = None
    tool_version: str | None = None
    releases: set[str] = field(default_factory=set)
    percentiles: Percentiles = "answered"
    generated: bool = False
    vantage: Vantage = "client"
    start_us: int | None = None
    end_us: int | None = None
    warnings: list[str] = field(default_factory=list)
    given: Given = field(default_factory=Given)
    load: LoadModel = "unknown"
    load_evidence: str = ""
    load_may_differ: bool = False
    """The tool is used that way almost always, but the file does not rule out another."""
    coarse_times: bool = False
    """Starts are known to the second only, so what was under way at once is not."""
    tick_us: int = 0
    """How far an end and the start after it may be off against each other, because the file rounds times."""
    connections: int | None = None
    """How many requests could be under way at once, where the file says it."""
    beside: object = None
    """What a file beside the one that is read says, where a format has a companion."""


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of result file that holds requests: its name, its tool, and how to read it.

    ``takes`` are the options that say what such a file does not; ``companion`` is the format of another file of
    the same run that says more.
    """

    name: str
    tool: str
    read: Callable[[Content, Facts], Iterator[Request]]
    takes: frozenset[Option] = frozenset()
    companion: str | None = None


_YEAR_2000_US: Final = 946_684_800 * 10**6
_YEAR_2100_US: Final = 4_102_444_800 * 10**6  # the rollup's minutes end in 2106
_LONGEST_MS: Final = 31 * 86_400_000.0
_MOST_REQUESTS: Final = 10**12
_LABEL: Final = re.compile(r"[^\x00-\x1f\x7f]{1,200}")


def plain_text(text: str) -> str:
    """Return ``text`` as UTF-8 can carry it: halves of surrogate pairs become question marks."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def label(text: object, what: str) -> str | None:
    """Read a name that a file gives to its run; None where it gives none.

    Raises
    ------
    ValueError
        It is longer than 200 characters, or not printable.
    """
    if not isinstance(text, str) or not text:
        return None
    if not _LABEL.fullmatch(text):
        raise ValueError(f"{what} must be 1 to 200 printable characters")
    return plain_text(text)


def milliseconds(value: object, what: str) -> float:
    """Read a latency in milliseconds.

    Raises
    ------
    ValueError, TypeError
        It is no number, negative, not finite, or longer than 31 days.
    """
    try:
        number = float(value)  # type: ignore[arg-type]  # whatever else it is raises TypeError, as it should
    except OverflowError:
        number = math.inf
    if not 0 <= number <= _LONGEST_MS:
        raise ValueError(f"{what} is {number}; 0 to {_LONGEST_MS:.0f} ms (31 days) is possible")
    return number


def possible_time(microseconds: int) -> int:
    """Return a time in microseconds since 1970 that the store can hold.

    Raises
    ------
    ValueError
        It lies before the year 2000 or after 2099.
    """
    if microseconds < _YEAR_2000_US:
        raise ValueError("the time lies before the year 2000")
    if microseconds >= _YEAR_2100_US:
        raise ValueError("the time lies after the year 2099")
    return microseconds


def checked(request: Request) -> Request:
    """Return ``request`` with texts that the store can hold.

    Raises
    ------
    ValueError
        Its time, status or count is none that can be stored.
    """
    possible_time(request.start_us)
    possible_time(request.end_us)
    if not 0 <= request.status <= 999:
        raise ValueError(f"status is {str(request.status)[:20]}; 0 (no answer) to 999 is possible")
    if not 0 < request.requests <= _MOST_REQUESTS:
        raise ValueError(f"a count of requests is over {_MOST_REQUESTS:,}, or not positive")
    if (
        request.method.isascii()
        and request.name.isascii()
        and request.error.isascii()
        and request.trace_id.isascii()
    ):
        return request
    return request._replace(
        method=plain_text(request.method),
        name=plain_text(request.name),
        error=plain_text(request.error),
        trace_id=plain_text(request.trace_id),
    )


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

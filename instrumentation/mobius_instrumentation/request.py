"""What is measured of one request while it runs: its client calls, its time on the event loop, its waits."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from mobius_instrumentation.spans import LightSpan

__all__ = ["CURRENT", "CallKind", "Request", "call_kind"]

CallKind = Literal["database", "cache", "http", "other"]

_CACHES: Final = frozenset({"redis", "memcached", "valkey", "dragonfly", "keydb"})
_MOST_INTERVALS: Final = (
    256  # of one kind; then they are united, so that no request can fill the memory
)
_MOST_PENDING: Final = 1024  # spans of one request that wait for the decision at its end
_NANO: Final = 1e-9


def call_kind(attributes: Mapping[str, Any]) -> CallKind:
    """Say what a client span called, by the semantic conventions, the stable ones and those before them."""
    system = attributes.get("db.system.name") or attributes.get("db.system")
    if system is not None:
        return "cache" if system in _CACHES else "database"
    if "http.request.method" in attributes or "http.method" in attributes:
        return "http"
    return "other"


def _unite(intervals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Unite overlapping intervals (start, end): parallel calls take the time of one."""
    united: list[tuple[int, int]] = []
    for start, end in sorted(intervals):
        if united and start <= united[-1][1]:
            if end > united[-1][1]:
                united[-1] = (united[-1][0], end)
        else:
            united.append((start, end))
    return united


class Request:
    """The measures of one request. Times in nanoseconds.

    Written by the event loop and by worker threads; each write is one operation of the interpreter.
    """

    __slots__ = (
        "blocked_ns",
        "calls",
        "connection_wait_ns",
        "handler_at",
        "handler_in_thread",
        "held_ns",
        "intervals",
        "kept",
        "pending",
        "stack",
        "step_at",
        "subject",
        "thread_wait_ns",
        "unweighted",
    )

    def __init__(self) -> None:
        self.held_ns = 0  # on the event loop, garbage collection apart
        self.blocked_ns = 0  # the longest single stretch of it
        self.step_at = 0  # when the present stretch began, 0 while it waits
        self.stack = ""
        self.handler_at = 0  # monotonic; 0 as long as no handler runs
        self.handler_in_thread = False
        self.thread_wait_ns = 0
        self.connection_wait_ns = 0
        self.calls: dict[CallKind, int] | None = None
        self.intervals: dict[CallKind, list[tuple[int, int]]] | None = None
        self.kept: bool | None = None  # the sampling decision, once it is made
        self.subject = ""  # pseudonym of whom it is for
        self.unweighted = False  # kept by a rule: stands for itself alone
        self.pending: list[LightSpan] | None = None

    def called(self, attributes: Mapping[str, Any], start: int, end: int, *, nested: bool) -> None:
        """Count a client call that lasted from ``start`` to ``end`` (nanoseconds since the epoch).

        ``nested``: it ran inside another client call, such as a driver's span in an ORM's: its time counts
        once by being united, and the call itself is not counted again.
        """
        kind = call_kind(attributes)
        if self.calls is None or self.intervals is None:
            self.calls, self.intervals = {}, {}
        if not nested:
            self.calls[kind] = self.calls.get(kind, 0) + 1
        intervals = self.intervals.get(kind)
        if intervals is None:
            self.intervals[kind] = [(start, end)]
            return
        intervals.append((start, end))
        if len(intervals) >= _MOST_INTERVALS:
            # Many gaps even so: the oldest half becomes one, which counts its gaps as waiting.
            united = _unite(intervals)
            half = len(united) // 2
            if len(united) >= _MOST_INTERVALS // 2:
                united = [(united[0][0], united[half][1]), *united[half + 1 :]]
            self.intervals[kind] = united

    def client_measures(self) -> dict[str, float | int]:
        """Return duration in seconds and number of the client calls, by kind."""
        measures: dict[str, float | int] = {}
        if self.calls is None or self.intervals is None:
            return measures
        for kind, intervals in self.intervals.items():
            seconds = sum(end - start for start, end in _unite(intervals)) * _NANO
            measures[f"mobius.client.{kind}.duration"] = seconds
            measures[f"mobius.client.{kind}.calls"] = self.calls.get(kind, 0)
        return measures

    def hold(self, span: LightSpan) -> bool:
        """Keep an ended span until the request's end decides about it; False when there are too many."""
        if self.pending is None:
            self.pending = []
        if len(self.pending) >= _MOST_PENDING:
            return False
        self.pending.append(span)
        return True


CURRENT: Final[ContextVar[Request | None]] = ContextVar("mobius_request", default=None)
"""The request that the running code works for."""

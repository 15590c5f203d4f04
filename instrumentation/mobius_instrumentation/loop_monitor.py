"""How late the event loop is, and for how long garbage collection pauses it.

While requests are in flight, a timer of the loop comes due every 20 ms; how much later it runs is how long any
coroutine that was ready had to wait. Works on every event loop, costs nothing while no request runs, and 50 short
callbacks a second otherwise. Nothing is measured where there is no asyncio loop, as under Trio.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from typing import Any, Final

from mobius_instrumentation.request import Request

__all__ = ["GC", "LoopMonitor", "blocking"]

_PERIOD_SECONDS: Final = 0.02
_PERIOD_NS: Final = 20_000_000
_TOLERANCE_NS: Final = (
    1_500_000  # a timer may come one tick of the clock, a millisecond, late by itself
)


class _GarbageCollection:
    """Adds up pauses of the garbage collector in this process. ``total_ns`` only grows."""

    def __init__(self) -> None:
        self.total_ns = 0
        self._began = 0
        self._watching = False

    def watch(self) -> None:
        """Begin, once."""
        if not self._watching:
            self._watching = True
            gc.callbacks.append(self._called)

    def _called(self, phase: str, _info: dict[str, Any]) -> None:
        if phase == "start":
            self._began = time.monotonic_ns()
        elif self._began:
            self.total_ns += time.monotonic_ns() - self._began
            self._began = 0


GC: Final = _GarbageCollection()
"""Of this process."""


class _Blocking:
    """Which request holds the loop now; ``thread`` is the loop's. Read by the watcher of blocked loops."""

    __slots__ = ("request", "thread")

    def __init__(self) -> None:
        self.request: Request | None = None
        self.thread = 0


blocking: Final = _Blocking()


class LoopMonitor:
    """Lateness of one event loop, and the requests in flight on it.

    Attributes
    ----------
    in_flight
        Requests that began and have not ended.
    most_in_flight, begun, worst_late_ns
        Since :meth:`interval` was last called.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self.most_in_flight = 0
        self.begun = 0
        self.worst_late_ns = 0
        self._late_ns = 0
        self._due = 0  # monotonic; 0 while no timer runs
        self._loop: asyncio.AbstractEventLoop | None = None

    def enter(self, now: int) -> int:
        """Count a request in; return the lateness so far, in nanoseconds."""
        self.in_flight += 1
        self.begun += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        if not self._due or now > self._due + _PERIOD_NS:
            # No timer, or one that is late: maybe that of a loop which has ended.
            self._arm(now)
        return self.late_ns(now)

    def leave(self) -> None:
        """Count a request out."""
        self.in_flight -= 1

    def late_ns(self, now: int) -> int:
        """Nanoseconds that the loop was late so far; also by a timer that is due and has not run yet."""
        overdue = now - self._due - _TOLERANCE_NS if self._due else 0
        return self._late_ns + overdue if overdue > 0 else self._late_ns

    def interval(self) -> tuple[int, int, int]:
        """Return and reset most requests in flight, requests begun, and the worst lateness (ns)."""
        measured = (self.most_in_flight, self.begun, self.worst_late_ns)
        self.most_in_flight, self.begun, self.worst_late_ns = self.in_flight, 0, 0
        return measured

    def _arm(self, now: int) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # Trio
            return
        if self._due and loop is self._loop and not loop.is_closed():
            return
        self._loop = loop
        blocking.thread = threading.get_ident()
        self._due = now + _PERIOD_NS
        loop.call_later(_PERIOD_SECONDS, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop is not self._loop:
            return
        now = time.monotonic_ns()
        late = now - self._due - _TOLERANCE_NS
        if late > 0:
            self._late_ns += late
            self.worst_late_ns = max(self.worst_late_ns, late)
        if self.in_flight > 0:
            self._due = now + _PERIOD_NS
            loop.call_later(_PERIOD_SECONDS, self._tick, loop)
        else:
            self._due = 0

"""The span ``mobius.runtime``: how a process fared in the last ten seconds.

It travels the way of all spans, so that it needs no second protocol. Its kind is internal: it is no request. It is
sampled by nobody, and its start and end are those of the interval that it describes.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

from opentelemetry import context as otel
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import SpanKind

from mobius_instrumentation.blocked_stack import BlockedStackSampler
from mobius_instrumentation.loop_monitor import GC, LoopMonitor
from mobius_instrumentation.stats import ExportStats

__all__ = ["NAME", "Pool", "RuntimeReporter", "watch_pool"]

NAME: Final = "mobius.runtime"
_log: Final = logging.getLogger("mobius_instrumentation")
_NANO: Final = 1e-9


class Pool(Protocol):
    """A pool of connections."""

    def size(self) -> int:
        """Connections that it may hold at most."""
        ...

    def in_use(self) -> int:
        """Connections that are checked out."""
        ...

    def waiting(self) -> int:
        """Tasks or threads that wait for one."""
        ...


_pools: Final[weakref.WeakSet[Any]] = weakref.WeakSet()


def watch_pool(pool: Pool) -> None:
    """Have a pool counted in ``mobius.runtime`` for as long as it lives."""
    _pools.add(pool)


def _resident_bytes() -> int | None:
    """Resident memory of this process, None where the system does not tell it."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


class RuntimeReporter:
    """Makes the spans, in a thread of its own that the first request of a process starts.

    Parameters
    ----------
    provider
        Whose resource and processors the spans get.
    monitor
        Of the application's event loop.
    stats
        Account of the exporter.
    interval_seconds
        Between two spans; 0 for none.
    blocked
        Starts with it, in each process.
    """

    def __init__(
        self,
        provider: TracerProvider,
        monitor: LoopMonitor,
        stats: Callable[[], ExportStats],
        interval_seconds: float,
        blocked: BlockedStackSampler | None = None,
    ) -> None:
        self._provider = provider
        self._monitor = monitor
        self._stats = stats
        self._interval = interval_seconds
        self._blocked = blocked
        self._pid = 0
        self._starting = threading.Lock()
        self._stopped = threading.Event()
        self._limiter: Any = None

    def started(self) -> bool:
        """Whether this process reports already; a forked one does not, though its parent did."""
        return self._pid == os.getpid() or not (self._interval or self._blocked)

    def start(self) -> None:
        """Begin in this process. Call it on the event loop: worker threads belong to it."""
        with self._starting:
            if self.started():
                return
            self._pid = os.getpid()
            self._stopped = threading.Event()
            if self._blocked is not None:
                self._blocked.start()
            if not self._interval:
                return
            try:
                import anyio.to_thread

                self._limiter = anyio.to_thread.current_default_thread_limiter()
            except Exception:  # noqa: BLE001  # no loop that anyio knows: threads are not told then
                self._limiter = None
            threading.Thread(target=self._run, name="mobius-runtime", daemon=True).start()

    def stop(self) -> None:
        """End; what the last interval had is not told."""
        self._stopped.set()

    def _run(self) -> None:
        # Whatever this thread calls is no part of a request, nor of a trace.
        otel.attach(otel.Context())
        began, cpu, collected, late = self._marks()
        while not self._stopped.wait(self._interval):
            try:
                now, cpu_now, collected_now, late_now = self._marks()
                self._report(
                    began,
                    {
                        "mobius.process.cpu.duration": cpu_now - cpu,
                        "mobius.loop.gc.duration": (collected_now - collected) * _NANO,
                        "mobius.loop.lag.duration": (late_now - late) * _NANO,
                    },
                )
                began, cpu, collected, late = now, cpu_now, collected_now, late_now
            except Exception:  # noqa: BLE001  # this thread must outlive whatever one interval brings
                _log.exception("the state of the process cannot be told")

    def _marks(self) -> tuple[int, float, int, int]:
        late = self._monitor.late_ns(time.monotonic_ns())
        return time.time_ns(), time.process_time(), GC.total_ns, late

    def _report(self, began: int, measured: dict[str, Any]) -> None:
        most, begun, worst = self._monitor.interval()
        attributes = {
            **measured,
            "mobius.requests.in_flight": self._monitor.in_flight,
            "mobius.requests.in_flight.max": most,
            "mobius.requests.count": begun,
            "mobius.loop.lag.max.duration": worst * _NANO,
            **self._threads(),
            **_pool_measures(),
            **_export_measures(self._stats()),
        }
        memory = _resident_bytes()
        if memory is not None:
            attributes["mobius.process.memory"] = memory
        tracer = self._provider.get_tracer("mobius_instrumentation.runtime")
        # Whatever the sampler keeps of requests, a process's own account is whole.
        tracer.sampler = ALWAYS_ON  # type: ignore[attr-defined]  # the SDK's tracer, which this provider makes
        span = tracer.start_span(NAME, otel.Context(), SpanKind.INTERNAL, attributes, None, began)
        span.end()

    def _threads(self) -> dict[str, int]:
        if self._limiter is None:
            return {}
        counts = self._limiter.statistics()
        return {
            "mobius.threads.size": int(min(counts.total_tokens, 1 << 31)),
            "mobius.threads.in_use": counts.borrowed_tokens,
            "mobius.threads.waiting": counts.tasks_waiting,
        }


def _pool_measures() -> dict[str, int]:
    pools: list[Pool] = list(_pools)
    if not pools:
        return {}
    return {
        "mobius.pool.size": sum(pool.size() for pool in pools),
        "mobius.pool.in_use": sum(pool.in_use() for pool in pools),
        "mobius.pool.waiting": sum(pool.waiting() for pool in pools),
    }


def _export_measures(stats: ExportStats) -> dict[str, int]:
    dropped = {f"mobius.export.dropped.{name}": count for name, count in stats.dropped.items()}
    if stats.spooled:
        dropped["mobius.export.spooled"] = stats.spooled
    return {"mobius.export.sent": stats.sent, "mobius.export.pending": stats.pending, **dropped}

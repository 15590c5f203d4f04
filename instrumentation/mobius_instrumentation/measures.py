"""Every measure that we put on spans: its name, its unit, its meaning. The documentation is made from this table.

Durations are in seconds and end in ``.duration``, as OpenTelemetry's conventions have it. On a request's span a
duration or count of nothing is left out: where ``mobius.requests.in_flight`` stands, a missing one is 0.
"""

from __future__ import annotations

from typing import Final

__all__ = ["CALL_MEASURES", "MEASURES", "REQUEST_MEASURES", "RUNTIME_MEASURES", "measures_table"]

REQUEST_MEASURES: Final[dict[str, tuple[str, str]]] = {
    "mobius.requests.in_flight": (
        "requests",
        "Requests that this process worked on when this one came, itself included.",
    ),
    "mobius.queue.duration": (
        "s",
        "From the arrival at the application to the start of its handler: middleware, routing, dependencies, and the wait for a thread. Absent where no FastAPI handler ran.",
    ),
    "mobius.queue.thread.duration": (
        "s",
        "Waiting for a free worker thread, by handlers and dependencies that are no coroutines.",
    ),
    "mobius.queue.proxy.duration": (
        "s",
        "From the proxy's `X-Request-Start` (or `X-Queue-Start`) to the arrival at the application. By two machines' clocks; absent without the header, or where it lies in the future.",
    ),
    "mobius.loop.held.duration": (
        "s",
        "The request's own code ran on the event loop; without garbage collection.",
    ),
    "mobius.loop.lag.duration": (
        "s",
        "The event loop was late, by others' doing, while the request ran: an upper bound of what it waited for the loop. Garbage collection is apart.",
    ),
    "mobius.loop.gc.duration": (
        "s",
        "Garbage collection paused the process while the request ran.",
    ),
    "mobius.loop.blocked.duration": (
        "s",
        "The longest single stretch for which the request's own code held the loop: present from 0.1 s, which others feel.",
    ),
    "mobius.loop.blocked.stack": (
        "",
        "Where it held the loop: functions, files and lines, innermost first. Off unless `blocked_stack` is set.",
    ),
    "mobius.client.database.duration": (
        "s",
        "In calls of databases; calls at the same time count once.",
    ),
    "mobius.client.database.calls": ("calls", "How many."),
    "mobius.client.cache.duration": ("s", "In calls of caches (Redis, Valkey, Memcached)."),
    "mobius.client.cache.calls": ("calls", "How many."),
    "mobius.client.http.duration": ("s", "In HTTP requests to other services."),
    "mobius.client.http.calls": ("calls", "How many."),
    "mobius.client.other.duration": ("s", "In other client spans (RPC, messages)."),
    "mobius.client.other.calls": ("calls", "How many."),
    "mobius.client.connection.duration": (
        "s",
        "Waiting for a connection of a pool, within the calls or before them.",
    ),
}
"""On the server span of a request."""

RUNTIME_MEASURES: Final[dict[str, tuple[str, str]]] = {
    "mobius.requests.in_flight": ("requests", "At the end of the interval."),
    "mobius.requests.in_flight.max": ("requests", "Most at one time within the interval."),
    "mobius.requests.count": ("requests", "That came within the interval."),
    "mobius.loop.lag.duration": ("s", "The event loop was late within the interval."),
    "mobius.loop.lag.max.duration": ("s", "The longest time that it was late."),
    "mobius.loop.gc.duration": ("s", "Garbage collection within the interval."),
    "mobius.process.cpu.duration": ("s", "CPU time of all threads within the interval."),
    "mobius.process.memory": ("bytes", "Resident memory at the end of the interval."),
    "mobius.threads.size": ("threads", "Worker threads that handlers may use at a time."),
    "mobius.threads.in_use": ("threads", "Busy at the end of the interval."),
    "mobius.threads.waiting": ("tasks", "Waiting for one."),
    "mobius.pool.size": ("connections", "Of all known connection pools together."),
    "mobius.pool.in_use": ("connections", "Checked out."),
    "mobius.pool.waiting": ("tasks", "Waiting for a connection."),
    "mobius.export.sent": ("spans", "The broker acknowledged since the process started."),
    "mobius.export.pending": ("spans", "Wait for the broker."),
    "mobius.export.spooled": ("spans", "Wait for the broker on the disk."),
    "mobius.export.dropped.queue_full": ("spans", "Dropped so far: broker away or slow."),
    "mobius.export.dropped.spool_full": ("spans", "Dropped so far: the spool is full, too."),
    "mobius.export.dropped.too_large": ("spans", "Dropped so far: larger than a message."),
    "mobius.export.dropped.encode_error": ("spans", "Dropped so far: cannot be written."),
    "mobius.export.dropped.refused": ("spans", "Dropped so far: the broker refuses them."),
    "mobius.export.dropped.shutdown": ("spans", "Dropped so far: end of the process."),
    "mobius.export.dropped.after_shutdown": ("spans", "Dropped so far: came too late."),
}
"""On the span ``mobius.runtime`` of a process."""

CALL_MEASURES: Final[dict[str, tuple[str, str]]] = {
    "mobius.cache.hit": ("", "Whether a read of one value of a cache found it."),
}
"""On a client span inside a request."""

MEASURES: Final = (
    frozenset(REQUEST_MEASURES) | frozenset(RUNTIME_MEASURES) | frozenset(CALL_MEASURES)
)


def measures_table(measures: dict[str, tuple[str, str]]) -> str:
    """Write measures in Markdown, for the documentation."""
    lines = ["| attribute | unit | meaning |", "|---|---|---|"]
    lines += [f"| `{name}` | {unit} | {meaning} |" for name, (unit, meaning) in measures.items()]
    return "\n".join(lines) + "\n"

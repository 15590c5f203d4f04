"""The few headers of a request that tracing needs, found in one pass over the raw list."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import SpanContext, TraceFlags

__all__ = ["NEEDED", "Found", "HeaderReader", "proxy_wait_seconds"]

Found = dict[bytes, bytes]
"""Values by lower-case name; those of repeated headers are joined by commas (RFC 9110, 5.3)."""

NEEDED: Final = frozenset(
    {
        b"user-agent",
        b"baggage",
        b"tracestate",
        b"x-dynatrace-test",
        b"x-request-start",
        b"x-queue-start",
    }
)
# Of these propagators it is known that they read their own fields and nothing else.
_BY_FIELDS: Final = frozenset({"TraceContextTextMapPropagator", "W3CBaggagePropagator"})
# What nearly every caller sends. Anything else goes to the propagator itself, which also judges later versions.
_TRACE_PARENT: Final = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_STARTED: Final = re.compile(rb"(?:t=)?(\d{9,19})(\.\d{1,9})?\s*")
_LONGEST_WAIT_SECONDS: Final = 600.0  # older ones are another clock's, or a retried request's


class _FoundGetter(Getter[Found]):
    def get(self, carrier: Found, key: str) -> list[str] | None:
        value = carrier.get(key.lower().encode("latin-1", "replace"))
        return None if value is None else [value.decode("latin-1")]

    def keys(self, carrier: Found) -> list[str]:
        return [name.decode("latin-1") for name in carrier]


_GETTER: Final = _FoundGetter()


class HeaderReader:
    """Reads the needed headers, and the trace context from them, by whichever propagators are configured."""

    def __init__(self) -> None:
        propagator = propagate.get_global_textmap()
        parts: Iterable[Any] = getattr(propagator, "_propagators", (propagator,))
        names = [type(part).__name__ for part in parts]
        # Others (Jaeger's baggage, for one) search all names for a prefix.
        self._all = not _BY_FIELDS.issuperset(names)
        self._plain = not self._all and "TraceContextTextMapPropagator" in names
        self._fields = frozenset(
            field.lower().encode("latin-1", "replace") for field in propagator.fields
        )
        self._wanted = NEEDED | self._fields

    def read(self, headers: Iterable[tuple[bytes, bytes]]) -> Found:
        """Return the needed headers."""
        found: Found = {}
        wanted = self._wanted
        for name, value in headers:
            if name in wanted or self._all:
                found[name] = found[name] + b"," + value if name in found else value
        return found

    def extract(self, found: Found, context: Context) -> Context:
        """Return ``context`` with what the caller sent: its span, its baggage."""
        if not self._all and self._fields.isdisjoint(found):
            return context
        if self._plain and b"tracestate" not in found and b"baggage" not in found:
            parent = _TRACE_PARENT.fullmatch(found[b"traceparent"])
            if parent is not None:
                trace_id, span_id = int(parent[1], 16), int(parent[2], 16)
                if trace_id and span_id:
                    flags = TraceFlags(int(parent[3], 16))
                    caller = SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)
                    return trace.set_span_in_context(trace.NonRecordingSpan(caller), context)
        return propagate.extract(found, context, _GETTER)


def proxy_wait_seconds(found: Mapping[bytes, bytes], since_arrival_ns: int = 0) -> float | None:
    """Return how long before its arrival a proxy took the request, by ``X-Request-Start`` or ``X-Queue-Start``.

    Both ``t=1700000000.123`` (nginx, Apache) and plain numbers of seconds, milliseconds, microseconds or nanoseconds
    since the epoch (Heroku, Render) are read. None for anything else, for the future, and for more than ten minutes.
    """
    written = found.get(b"x-request-start") or found.get(b"x-queue-start")
    if written is None or (match := _STARTED.fullmatch(written.partition(b",")[0])) is None:
        return None
    digits = len(match[1])
    unit = 1.0 if digits <= 10 else 1e-3 if digits <= 13 else 1e-6 if digits <= 16 else 1e-9
    started = float(match[1] + (match[2] or b"")) * unit
    waited = time.time() - since_arrival_ns * 1e-9 - started
    return waited if 0 <= waited <= _LONGEST_WAIT_SECONDS else None

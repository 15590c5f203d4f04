"""Hands ended spans to the exporter; decides, when a request has ended, whether its trace is kept."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

from opentelemetry.sdk.trace import SpanProcessor

from mobius_instrumentation.sampling import KeepRules
from mobius_instrumentation.spans import LightSpan
from mobius_instrumentation.synthetic import SYNTHETIC_TYPE

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from mobius_instrumentation.request import Request

__all__ = ["ExportingProcessor", "SpanSink"]


class SpanSink(Protocol):
    """What takes spans over: the exporter, or a recorder of tests."""

    def offer(self, span: ReadableSpan, *, unweighted: bool = False) -> bool:
        """Take a span over, or drop and count it."""
        ...

    def shutdown(self) -> None:
        """Stop."""
        ...

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """Wait for acknowledgements."""
        ...


class ExportingProcessor(SpanProcessor):
    """Batches through the exporter's bounded buffer.

    Unlike the SDK's batching processor it keeps spans encoded, retries what the broker did not
    acknowledge, and counts each span that is dropped. ``on_end`` never blocks and never raises.

    Parameters
    ----------
    sink
        Takes the spans.
    rules
        Requests that are kept though the sampler did not choose them, with a weight of 1; so are chosen ones that
        match, for all that match are kept. Needs a sampler with ``record_all``. Spans inside a request wait for its
        end then (1,024 of a request at most; further ones are lost).

    Attributes
    ----------
    unkept
        Requests that were recorded, and not kept.
    """

    def __init__(self, sink: SpanSink, rules: KeepRules | None = None) -> None:
        self._sink = sink
        self._rules = rules or None
        self._lock = threading.Lock()
        self.unkept = 0

    def on_end(self, span: ReadableSpan) -> None:
        """Offer a span to the exporter, or have it wait for the decision about its request."""
        context = span.context
        if context is None:
            return
        request = span.request if self._rules and isinstance(span, LightSpan) else None
        if request is None or not isinstance(span, LightSpan):
            if context.trace_flags.sampled:
                self._sink.offer(span)
        elif span.parent_span is None:
            self._decide(span, request, sampled=bool(context.trace_flags.sampled))
        elif request.kept is None:
            request.hold(span)
        elif request.kept:
            self._sink.offer(span, unweighted=request.unweighted)

    def _decide(self, span: LightSpan, request: Request, *, sampled: bool) -> None:
        request.unweighted = self._matches(span)
        request.kept = sampled or request.unweighted
        held, request.pending = request.pending, None
        if not request.kept:
            with self._lock:
                self.unkept += 1
            return
        for child in held or ():
            self._sink.offer(child, unweighted=request.unweighted)
        self._sink.offer(span, unweighted=request.unweighted)

    def _matches(self, span: LightSpan) -> bool:
        rules, attributes = self._rules, span.attributes or {}
        if rules is None:
            return False
        if rules.errors and not span.status.is_unset and not span.status.is_ok:
            return True
        if rules.synthetic and SYNTHETIC_TYPE in attributes:
            return True
        return (
            rules.slow_seconds is not None
            and ((span.end_time or 0) - (span.start_time or 0)) / 1e9 >= rules.slow_seconds
        )

    def shutdown(self) -> None:
        """Flush within the exporter's deadline, then stop."""
        self._sink.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until the spans that ended so far are acknowledged; False when time is up before."""
        return self._sink.force_flush(timeout_millis)

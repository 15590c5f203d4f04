"""Hands every sampled span to the exporter at the moment it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import SpanProcessor

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from mobius_instrumentation.exporter import KafkaSpanExporter

__all__ = ["ExportingProcessor"]


class ExportingProcessor(SpanProcessor):
    """Batches through the exporter's bounded buffer.

    Unlike the SDK's batching processor it keeps spans encoded, retries what the broker did not
    acknowledge, and counts each span that is dropped. ``on_end`` never blocks and never raises.
    """

    def __init__(self, exporter: KafkaSpanExporter) -> None:
        self._exporter = exporter

    def on_end(self, span: ReadableSpan) -> None:
        """Offer a sampled span to the exporter."""
        context = span.context
        if context is not None and context.trace_flags.sampled:
            self._exporter.offer(span)

    def shutdown(self) -> None:
        """Flush within the exporter's deadline, then stop."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until the spans that ended so far are acknowledged; False when time is up before."""
        return self._exporter.force_flush(timeout_millis)

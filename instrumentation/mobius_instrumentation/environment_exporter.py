"""Our exporter for OpenTelemetry's own set-up: made without arguments, from environment and file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from mobius_instrumentation.assembly import make_exporter, options_and_zone
from mobius_instrumentation.export_metrics import observe_export

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from mobius_instrumentation.stats import ExportStats

__all__ = ["EnvironmentSpanExporter"]


class EnvironmentSpanExporter(SpanExporter):
    """Takes from a ``BatchSpanProcessor`` what there is room for, and drops and counts the rest.

    It does not wait for room: the SDK's processor has a queue of its own, which would overflow uncounted meanwhile.

    Raises
    ------
    ConfigurationError
        As of ``instrument()``.
    """

    def __init__(self) -> None:
        settings, zones, zone = options_and_zone({}, os.environ)
        self._exporter = make_exporter(settings, zones, zone)
        observe_export(self._exporter)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Take spans over; FAILURE if one was dropped."""
        taken = [self._exporter.offer(span) for span in spans]
        return SpanExportResult.SUCCESS if all(taken) else SpanExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until the broker has every span; False when time is up before."""
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self) -> None:
        """Flush within the deadline, then stop."""
        self._exporter.shutdown()

    def stats(self) -> ExportStats:
        """Exact account of the spans so far."""
        return self._exporter.stats()

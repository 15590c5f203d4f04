"""The exporter's account as OpenTelemetry metrics, for services that have a meter provider."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from mobius_instrumentation.stats import ExportStats

if TYPE_CHECKING:
    from mobius_instrumentation.exporter import KafkaSpanExporter

__all__ = ["METRICS", "observe_export"]

METRICS: Final[dict[str, str]] = {
    "mobius.export.sent": "Spans that the broker acknowledged.",
    "mobius.export.dropped": "Spans that were dropped, by `reason`.",
    "mobius.export.pending": "Spans that wait for the broker.",
}
"""Name and meaning; the unit is spans. The first two are counters."""


def observe_export(exporter: KafkaSpanExporter) -> None:
    """Have the account observed whenever metrics are collected; without a meter provider that is never."""
    # Weak: metrics live as long as the process, and must not keep an exporter.
    own = weakref.WeakMethod(exporter.stats)
    meter = metrics.get_meter("mobius_instrumentation")
    sent, dropped, pending = METRICS
    meter.create_observable_counter(
        sent, [_observing(own, lambda stats: [Observation(stats.sent)])], "{span}", METRICS[sent]
    )
    meter.create_observable_counter(dropped, [_observing(own, _drops)], "{span}", METRICS[dropped])
    meter.create_observable_up_down_counter(
        pending,
        [_observing(own, lambda stats: [Observation(stats.pending)])],
        "{span}",
        METRICS[pending],
    )


def _observing(
    own: weakref.WeakMethod[Callable[[], ExportStats]],
    observations: Callable[[ExportStats], list[Observation]],
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        stats = own()
        return [] if stats is None else observations(stats())

    return observe


def _drops(stats: ExportStats) -> list[Observation]:
    return [Observation(count, {"reason": reason}) for reason, count in stats.dropped.items()]

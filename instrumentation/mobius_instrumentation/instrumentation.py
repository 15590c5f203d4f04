"""``instrument(app)``: the one call that a service makes."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any, Final

from mobius_instrumentation.assembly import Assembly, assemble, disabled
from mobius_instrumentation.attach import attach, uses_opentelemetry_middleware
from mobius_instrumentation.errors import ConfigurationError
from mobius_instrumentation.processor import ExportingProcessor
from mobius_instrumentation.runtime import RuntimeReporter
from mobius_instrumentation.sampling import KeepRules
from mobius_instrumentation.stats import ExportStats
from mobius_instrumentation.synthetic import SyntheticTraffic
from mobius_instrumentation.zones import Zone, Zones

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from starlette.applications import Starlette

    from mobius_instrumentation.exporter import KafkaSpanExporter

__all__ = ["Instrumentation", "instrument"]

_log: Final = logging.getLogger("mobius_instrumentation")


class Instrumentation:
    """What ``instrument()`` set up for one application.

    Attributes
    ----------
    tracer_provider
        Where the application's own spans belong:
        ``instrumentation.tracer_provider.get_tracer(__name__)``. It is also the global provider, unless
        there was one already. None when OpenTelemetry is disabled.
    zone
        Residency zone that gets the spans. None when OpenTelemetry is disabled.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        zone: Zone | None = None,
        *,
        exporter: KafkaSpanExporter | None = None,
        synthetic: SyntheticTraffic | None = None,
        processor: ExportingProcessor | None = None,
        runtime: RuntimeReporter | None = None,
        shutdown_timeout: float = 5.0,
    ) -> None:
        self.tracer_provider = tracer_provider
        self.zone = zone
        self._exporter = exporter
        self._synthetic = synthetic
        self._processor = processor
        self._runtime = runtime
        self._timeout = shutdown_timeout

    @classmethod
    def of(cls, parts: Assembly) -> Instrumentation:
        """Make one of parts that are put together."""
        return cls(
            parts.provider,
            parts.zone,
            exporter=parts.exporter,
            synthetic=parts.synthetic,
            processor=parts.processor,
            runtime=parts.runtime,
            shutdown_timeout=parts.settings["shutdown_timeout_ms"] / 1000,
        )

    def stats(self) -> ExportStats:
        """Exact account of the spans so far; see :class:`ExportStats`."""
        if self._exporter is None or self._synthetic is None:
            return ExportStats(accepted=0, sent=0, dropped={}, pending=0)
        return replace(
            self._exporter.stats(),
            markers_rejected=self._synthetic.rejected,
            unsampled=self._synthetic.unsampled
            + (0 if self._processor is None else self._processor.unkept),
        )

    def force_flush(self, timeout: float | None = None) -> bool:
        """Wait until the broker has every span that ended so far.

        Returns False when ``timeout`` seconds (default: the shutdown's) pass before. Never raises. It
        blocks: call it from a thread, not from a coroutine.
        """
        if self._exporter is None:
            return True
        return self._exporter.force_flush((self._timeout if timeout is None else timeout) * 1000)

    def settle(self) -> None:
        """Flush as the end of the service does: within the shutdown's time; what is left is spooled, or said in the log.

        It runs by itself when the application's lifespan ends, and blocks, as :meth:`force_flush` does.
        """
        if self._exporter is not None:
            self._exporter.settle(self._timeout * 1000)

    def shutdown(self, timeout: float | None = None) -> None:
        """Flush within ``timeout`` seconds, then stop; spans that end later are dropped and counted.

        Runs by itself at the end of the process. It blocks, as :meth:`force_flush` does.
        """
        if self._runtime is not None:
            self._runtime.stop()
        if self._exporter is not None:
            self._exporter.shutdown((self._timeout if timeout is None else timeout) * 1000)


def instrument(
    app: Starlette,
    *,
    zones: Zones | str | PathLike[str] | None = None,
    region: str | None = None,
    service_name: str | None = None,
    service_version: str | None = None,
    environment: str | None = None,
    instance_id: str | None = None,
    synthetic_key: str | None = None,
    subject_key: str | None = None,
    attributes: Sequence[str] | None = None,
    max_queue_spans: int | None = None,
    max_queue_bytes: int | None = None,
    max_batch_spans: int | None = None,
    schedule_delay_ms: int | None = None,
    spool_dir: str | PathLike[str] | None = None,
    spool_bytes: int | None = None,
    shutdown_timeout_ms: int | None = None,
    compression: str | None = None,
    keep: KeepRules | None = None,
    http_instrumentation: str | None = None,
    clients: Sequence[str] | None = None,
    runtime_interval_ms: int | None = None,
    blocked_stack: bool | None = None,
    stats_file: str | None = None,
    kafka_options: Mapping[str, Any] | None = None,
) -> Instrumentation:
    """Trace the requests of a FastAPI or Starlette application and send the spans to its zone.

    Call it once, before the application serves: at module level after ``app = FastAPI()``. Call it
    before other OpenTelemetry instrumentation, so that all use the stable HTTP conventions. Requests
    never wait for the broker and never see an error of the export.

    Every option may come from the environment; :data:`mobius_instrumentation.options.OPTIONS` and
    docs/instrumentation.md have the table. ``OTEL_*`` variables keep their meaning.

    Parameters
    ----------
    app
        The application. Its middleware stack must not be built yet.
    kafka_options
        Further settings of ``kafka.KafkaProducer``; they beat those of ``MOBIUS_<ZONE>_KAFKA_*``, where TLS and
        credentials belong (docs/operations.md).

    Raises
    ------
    ConfigurationError
        The region or the residency map is missing or wrong, a variable cannot be read, or the
        application serves already. Nothing was changed then.
    """
    arguments = {k: v for k, v in locals().items() if k not in ("app", "kafka_options")}
    if disabled(os.environ):
        _log.info("OpenTelemetry is disabled by the environment: nothing is traced or sent")
        return Instrumentation()
    _check_fresh(app)
    parts = assemble(arguments, kafka_options)
    instrumentation = Instrumentation.of(parts)
    from mobius_instrumentation.lifespan import FlushAtShutdown

    app.add_middleware(FlushAtShutdown, flush=instrumentation.settle)
    attach(
        app,
        parts.provider,
        parts.synthetic,
        monitor=parts.monitor,
        runtime=parts.runtime,
        allowed=parts.allowed,
        opentelemetry=uses_opentelemetry_middleware(parts.settings["http_instrumentation"]),
    )
    return instrumentation


def _check_fresh(app: Starlette) -> None:
    if not hasattr(app, "middleware_stack"):
        raise ConfigurationError(
            "app",
            f"it is no FastAPI or Starlette application but a {type(app).__name__}; wrap other ASGI applications: "
            "app = instrument_asgi(app)",
        )
    if app.middleware_stack is not None:
        raise ConfigurationError(
            "app",
            "it serves already; call instrument(app) at module level, not in a lifespan or a request",
        )
    if getattr(app, "_is_instrumented_by_opentelemetry", False):
        raise ConfigurationError(
            "app", "OpenTelemetry instruments it already; call instrument(app) once"
        )

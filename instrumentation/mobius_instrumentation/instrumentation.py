"""``instrument(app)``: the one call that a service makes."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource

from mobius_instrumentation.allowlist import AttributePolicy
from mobius_instrumentation.attach import attach, uses_opentelemetry_middleware
from mobius_instrumentation.blocked_stack import BlockedStackSampler
from mobius_instrumentation.client_instrumentations import instrument_clients
from mobius_instrumentation.errors import ConfigurationError
from mobius_instrumentation.kafka_options import kafka_settings
from mobius_instrumentation.loop_monitor import LoopMonitor
from mobius_instrumentation.options import resolve
from mobius_instrumentation.processor import ExportingProcessor
from mobius_instrumentation.runtime import RuntimeReporter
from mobius_instrumentation.sampling import KeepRules, sampler_from_environment
from mobius_instrumentation.spans import LightTracerProvider
from mobius_instrumentation.stats import ExportStats
from mobius_instrumentation.synthetic import SyntheticTraffic
from mobius_instrumentation.zone_variables import (
    CREDENTIALS_FILE,
    VariableError,
    read_credentials_file,
)
from mobius_instrumentation.zones import Zone, Zones, ZonesError, load_zones

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
    attributes: Sequence[str] | None = None,
    max_queue_spans: int | None = None,
    max_queue_bytes: int | None = None,
    max_batch_spans: int | None = None,
    schedule_delay_ms: int | None = None,
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
    if _disabled():
        _log.info("OpenTelemetry is disabled by the environment: nothing is traced or sent")
        return Instrumentation()
    settings = resolve(arguments, os.environ)
    zones = _zones(settings["zones"])
    zone = _zone(zones, settings["region"])
    _check_fresh(app)
    exporter = _exporter(zone, settings, kafka_options, _kafka_connection(zone, zones))
    synthetic = SyntheticTraffic(settings["synthetic_key"])
    processor = ExportingProcessor(exporter, settings["keep"])
    provider = _provider(settings, processor)
    monitor = LoopMonitor()
    interval = settings["runtime_interval_ms"] / 1000
    sampler = BlockedStackSampler() if settings["blocked_stack"] else None
    runtime = RuntimeReporter(provider, monitor, exporter.stats, interval, sampler)
    instrumentation = Instrumentation(
        provider,
        zone,
        exporter=exporter,
        synthetic=synthetic,
        processor=processor,
        runtime=runtime,
        shutdown_timeout=settings["shutdown_timeout_ms"] / 1000,
    )
    from mobius_instrumentation.lifespan import FlushAtShutdown

    app.add_middleware(FlushAtShutdown, flush=instrumentation.force_flush)
    instrument_clients(provider, settings["clients"])
    attach(
        app,
        provider,
        synthetic,
        monitor=monitor,
        runtime=runtime,
        allowed=AttributePolicy.with_extra(settings["attributes"]).allowed,
        opentelemetry=uses_opentelemetry_middleware(settings["http_instrumentation"]),
    )
    return instrumentation


def _disabled() -> bool:
    return (
        os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
        or os.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none"
    )


def _zones(source: Zones | str | PathLike[str] | None) -> Zones:
    if source is None:
        raise ConfigurationError(
            "zones", "no residency map: pass zones=, or set MOBIUS_CONFIG to zones.toml"
        )
    if isinstance(source, Zones):
        return source
    try:
        return load_zones(source)
    except ZonesError as error:
        raise ConfigurationError("zones", str(error)) from error


def _zone(zones: Zones, region: str | None) -> Zone:
    known = f"regions of {zones.file}: {', '.join(zones.regions)}"
    if not region:
        raise ConfigurationError(
            "region",
            f"none given: pass region=, or set MOBIUS_REGION or cloud.region in OTEL_RESOURCE_ATTRIBUTES; {known}",
        )
    zone = zones.zone_of(region)
    if zone is None:
        raise ConfigurationError(
            "region", f"{region!r} is in no zone, and spans are not sent to a guessed one; {known}"
        )
    return zone


def _kafka_connection(zone: Zone, zones: Zones) -> Callable[[], Mapping[str, Any]]:
    """Return how to reach the zone's brokers, to be asked anew for each client: certificates are renewed."""

    def settings() -> Mapping[str, Any]:
        beside = read_credentials_file(Path(zones.file).parent / CREDENTIALS_FILE)
        return kafka_settings(zone, beside | dict(os.environ))

    try:
        settings()
    except VariableError as error:
        raise ConfigurationError(error.variable, error.problem) from None
    return settings


def _check_fresh(app: Starlette) -> None:
    if app.middleware_stack is not None:
        raise ConfigurationError(
            "app",
            "it serves already; call instrument(app) at module level, not in a lifespan or a request",
        )
    if getattr(app, "_is_instrumented_by_opentelemetry", False):
        raise ConfigurationError(
            "app", "OpenTelemetry instruments it already; call instrument(app) once"
        )


def _exporter(
    zone: Zone,
    settings: Mapping[str, Any],
    kafka_options: Mapping[str, Any] | None,
    connection: Callable[[], Mapping[str, Any]],
) -> KafkaSpanExporter:
    from mobius_instrumentation.buffer import Limits
    from mobius_instrumentation.exporter import KafkaSpanExporter

    return KafkaSpanExporter(
        zone.kafka,
        zone.spans_topic,
        policy=AttributePolicy.with_extra(settings["attributes"]),
        limits=Limits(
            queue_spans=settings["max_queue_spans"],
            queue_bytes=settings["max_queue_bytes"],
            batch_spans=min(settings["max_batch_spans"], settings["max_queue_spans"]),
            delay_seconds=settings["schedule_delay_ms"] / 1000,
        ),
        compression=None if settings["compression"] == "none" else settings["compression"],
        kafka_options=lambda: {**connection(), **(kafka_options or {})},
        stats_file=settings["stats_file"],
        shutdown_timeout_millis=settings["shutdown_timeout_ms"],
    )


def _provider(settings: Mapping[str, Any], processor: ExportingProcessor) -> TracerProvider:

    given = {
        "service.name": settings["service_name"],
        "service.version": settings["service_version"],
        "cloud.region": settings["region"],
        "deployment.environment.name": settings["environment"],
        "service.instance.id": settings["instance_id"] or str(uuid.uuid4()),
    }
    resource = Resource.create({name: value for name, value in given.items() if value})
    if not settings["service_name"]:
        _log.warning(
            "the service has no name: its spans go under %r; pass service_name= or set OTEL_SERVICE_NAME",
            resource.attributes.get("service.name"),
        )
    # The exporter has its own exit handler, which must run before the Kafka client's.
    provider = LightTracerProvider(
        sampler=sampler_from_environment(os.environ, record_all=bool(settings["keep"])),
        resource=resource,
        shutdown_on_exit=False,
    )
    provider.add_span_processor(processor)
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        trace.set_tracer_provider(provider)
    else:
        _log.info(
            "a global tracer provider exists already and stays; only requests of this app are sent"
        )
    return provider

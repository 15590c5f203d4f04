"""Puts the parts of an instrumentation together, from arguments, environment and file: the same for every way in."""

from __future__ import annotations

import functools
import logging
import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource

from mobius_instrumentation.allowlist import AttributePolicy
from mobius_instrumentation.blocked_stack import BlockedStackSampler
from mobius_instrumentation.client_instrumentations import instrument_clients
from mobius_instrumentation.errors import ConfigurationError
from mobius_instrumentation.export_metrics import observe_export
from mobius_instrumentation.kafka_options import kafka_settings
from mobius_instrumentation.known_variables import refuse_unknown_variables
from mobius_instrumentation.loop_monitor import LoopMonitor
from mobius_instrumentation.option_file import file_options
from mobius_instrumentation.options import OPTIONS, resolve
from mobius_instrumentation.processor import ExportingProcessor
from mobius_instrumentation.runtime import RuntimeReporter
from mobius_instrumentation.sampling import sampler_from_environment
from mobius_instrumentation.spans import LightTracerProvider
from mobius_instrumentation.subjects import use_subject_key
from mobius_instrumentation.synthetic import SyntheticTraffic
from mobius_instrumentation.zone_variables import (
    CREDENTIALS_FILE,
    VariableError,
    read_credentials_file,
)
from mobius_instrumentation.zones import Zone, Zones, ZonesError, load_zones

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from mobius_instrumentation.exporter import KafkaSpanExporter

__all__ = ["Assembly", "assemble", "disabled", "make_exporter", "options_and_zone"]

_log: Final = logging.getLogger("mobius_instrumentation")


@dataclass(frozen=True, slots=True)
class Assembly:
    """The parts, for one process and what it forks."""

    settings: Mapping[str, Any]
    zone: Zone
    exporter: KafkaSpanExporter
    synthetic: SyntheticTraffic
    processor: ExportingProcessor
    provider: TracerProvider
    monitor: LoopMonitor
    runtime: RuntimeReporter

    @property
    def allowed(self) -> frozenset[str]:
        """The allow-list."""
        return AttributePolicy.with_extra(self.settings["attributes"]).allowed


def disabled(environ: Mapping[str, str]) -> bool:
    """Whether OpenTelemetry's own variables switch tracing off."""
    return (
        environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
        or environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none"
    )


def options_and_zone(
    arguments: Mapping[str, Any], environ: Mapping[str, str]
) -> tuple[dict[str, Any], Zones, Zone]:
    """Values of all options, the residency map, and the zone of this process.

    Raises
    ------
    ConfigurationError
        Something is missing, wrong or unknown; names argument, variable, or file and key.
    """
    source = OPTIONS["zones"].value(arguments.get("zones"), environ)
    zones = _zones(source)
    # A map made in code has no file to read further options from.
    beside = {} if isinstance(source, Zones) else file_options(source)
    refuse_unknown_variables(environ, zones)
    settings = resolve(arguments, environ, file=beside)
    return settings, zones, _zone(zones, settings["region"])


def assemble(arguments: Mapping[str, Any], kafka_options: Mapping[str, Any] | None) -> Assembly:
    """Make all parts, and switch on the instrumentations of clients that were asked for.

    Raises
    ------
    ConfigurationError
        As :func:`options_and_zone`. Nothing was changed then.
    """
    settings, zones, zone = options_and_zone(arguments, os.environ)
    use_subject_key(settings["subject_key"], zone.name)
    exporter = make_exporter(settings, zones, zone, kafka_options)
    processor = ExportingProcessor(exporter, settings["keep"])
    provider = _provider(settings, processor)
    monitor = LoopMonitor()
    runtime = RuntimeReporter(
        provider,
        monitor,
        exporter.stats,
        settings["runtime_interval_ms"] / 1000,
        BlockedStackSampler() if settings["blocked_stack"] else None,
    )
    observe_export(exporter)
    instrument_clients(provider, settings["clients"])
    synthetic = SyntheticTraffic(settings["synthetic_key"])
    return Assembly(settings, zone, exporter, synthetic, processor, provider, monitor, runtime)


def make_exporter(
    settings: Mapping[str, Any],
    zones: Zones,
    zone: Zone,
    kafka_options: Mapping[str, Any] | None = None,
) -> KafkaSpanExporter:
    """Make the exporter of a zone.

    Raises
    ------
    ConfigurationError
        The variables of the zone's broker contradict themselves, or cannot be read.
    """
    from mobius_instrumentation.buffer import Limits
    from mobius_instrumentation.exporter import KafkaSpanExporter

    connection = _kafka_connection(zone, zones)
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
        kafka_options=functools.partial(_client_settings, connection, kafka_options or {}),
        stats_file=settings["stats_file"],
        spool_folder=None if settings["spool_dir"] is None else _spool_folder(settings, zone),
        spool_bytes=settings["spool_bytes"],
        shutdown_timeout_millis=settings["shutdown_timeout_ms"],
    )


def _spool_folder(settings: Mapping[str, Any], zone: Zone) -> Path:
    """Return the zone's own folder of the spool, which can be written, or raise now rather than in an outage."""
    folder = Path(settings["spool_dir"]) / zone.name
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigurationError(
            "spool_dir", f"{folder} cannot be made ({error.strerror})"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigurationError("spool_dir", f"{folder} cannot be written by this process")
    return folder


def _client_settings(
    connection: Callable[[], Mapping[str, Any]], given: Mapping[str, Any]
) -> Mapping[str, Any]:
    return {**connection(), **given}


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

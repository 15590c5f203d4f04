"""The way in without code: what ``opentelemetry-instrument`` finds, starts, and is told by.

``opentelemetry-instrument`` logs an error of its parts and goes on without them. A service that runs untraced because of
a misspelt variable is found out when its data are missed; so a wrong configuration ends the process here, at its start.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
from importlib.metadata import entry_points
from typing import Any, ClassVar, Final, NoReturn

from opentelemetry.instrumentation.distro import BaseDistro  # type: ignore[attr-defined]  # switches its types off
from opentelemetry.sdk._configuration import _OTelSDKConfigurator
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from mobius_instrumentation.assembly import Assembly, assemble
from mobius_instrumentation.automatic import FRAMEWORKS, trace_every_application
from mobius_instrumentation.client_instrumentations import CLIENTS, instrument_clients
from mobius_instrumentation.errors import ConfigurationError
from mobius_instrumentation.instrumentation import Instrumentation

__all__ = ["EXPORTER", "MobiusConfigurator", "MobiusDistro"]

_log: Final = logging.getLogger("mobius_instrumentation")

EXPORTER: Final = "mobius_kafka"
"""Name of our exporter in ``OTEL_TRACES_EXPORTER``."""

_TRACES: Final = "OTEL_TRACES_EXPORTER"
_OTHER_SIGNALS: Final = ("OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER")
_WRONG_CONFIGURATION: Final = 2


class _State:
    """What the configurator did, for the distro that comes after it."""

    instrumented: ClassVar[set[str]] = set()
    instrumentation: Instrumentation | None = None


class MobiusDistro(BaseDistro):  # type: ignore[misc]  # as above
    """Chooses our exporter unless another is chosen, and keeps other instrumentations off what we trace."""

    def _configure(self, **_options: Any) -> None:
        os.environ.setdefault(_TRACES, EXPORTER)
        # Before any instrumentation reads it: names of attributes that the analysis knows.
        os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http,database")

    def load_instrumentor(self, entry_point: Any, **options: Any) -> None:
        """Switch on one of OpenTelemetry's instrumentations, but none of what is traced already."""
        if entry_point.name in _State.instrumented:
            return
        super().load_instrumentor(entry_point, **options)


class MobiusConfigurator(_OTelSDKConfigurator):
    """Sets tracing up as ``instrument()`` does; metrics and logs as the SDK does, where they were asked for."""

    def _configure(self, **options: Any) -> None:
        names = [name.strip() for name in os.environ.get(_TRACES, EXPORTER).split(",")]
        if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
            return
        if EXPORTER not in names:
            _log.info("%s names other exporters: OpenTelemetry's own set-up is used", _TRACES)
            super()._configure(**options)  # type: ignore[no-untyped-call]  # has no types
            return
        try:
            parts = assemble({}, None)
        except ConfigurationError as error:
            _refuse(error)
        instrumentation = _State.instrumentation = Instrumentation.of(parts)
        for name in names:
            if name != EXPORTER:
                parts.provider.add_span_processor(_further(name))
        if trace_every_application(parts, instrumentation.settle):
            _State.instrumented |= {*FRAMEWORKS, "asgi"}
        _State.instrumented |= set(_clients(parts))
        if any(os.environ.get(name, "none").strip().lower() != "none" for name in _OTHER_SIGNALS):
            self._other_signals(options)

    def _other_signals(self, options: dict[str, Any]) -> None:
        """Let the SDK set metrics and logs up; its tracer provider, which it makes as well, is not used."""
        named = os.environ[_TRACES]
        says = logging.getLogger("opentelemetry.trace")
        says.addFilter(_no_override)
        os.environ[_TRACES] = "none"
        try:
            super()._configure(**options)  # type: ignore[no-untyped-call]  # has no types
        finally:
            os.environ[_TRACES] = named
            says.removeFilter(_no_override)


def _clients(parts: Assembly) -> list[str]:
    """Switch on what ``opentelemetry-instrument`` would, with the measures that only we add."""
    named = parts.settings["clients"]
    if named:
        return list(named)  # they are on already
    left_out = os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").split(",")
    if "*" in (names := {name.strip() for name in left_out}):
        return []
    return instrument_clients(parts.provider, [name for name in CLIENTS if name not in names])


def _no_override(record: logging.LogRecord) -> bool:
    return "Overriding of current TracerProvider" not in record.getMessage()


def _further(name: str) -> SpanProcessor:
    found = list(entry_points(group="opentelemetry_traces_exporter", name=name))
    if not found:
        _refuse(ConfigurationError(_TRACES, f"no exporter named {name!r} is installed"))
    processor = BatchSpanProcessor(found[0].load()())
    atexit.register(processor.shutdown)
    return processor


def _refuse(error: ConfigurationError) -> NoReturn:
    # Not SystemExit: this runs while the interpreter starts, which makes a crash's report of it.
    sys.stderr.write(f"mobius_instrumentation cannot start: {error}\n")
    sys.stderr.flush()
    os._exit(_WRONG_CONFIGURATION)

"""Puts request tracing around a FastAPI or Starlette application, and takes it off again."""

from __future__ import annotations

import functools
import os
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from mobius_instrumentation.loop_monitor import GC, LoopMonitor

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from starlette.applications import Starlette

    from mobius_instrumentation.middleware import RequestTracing
    from mobius_instrumentation.runtime import RuntimeReporter
    from mobius_instrumentation.synthetic import SyntheticTraffic

__all__ = [
    "FLAG",
    "attach",
    "detach",
    "native_tracing",
    "tracing_with",
    "uses_opentelemetry_middleware",
]

# OpenTelemetry's own instrumentation looks at this field, so that neither instruments what the other did.
FLAG: Final = "_is_instrumented_by_opentelemetry"
"""Field of an application that says that it is instrumented."""
_ORIGINAL: Final = "_mobius_build_middleware_stack"


def uses_opentelemetry_middleware(chosen: str) -> bool:
    """Whether OpenTelemetry's middleware is to make the server spans instead of ours.

    Parameters
    ----------
    chosen
        ``mobius``, ``opentelemetry``, or ``auto``: ours, unless ``OTEL_SEMCONV_STABILITY_OPT_IN`` asks for the
        conventions before the stable ones, which only OpenTelemetry's writes.
    """
    if chosen != "auto":
        return chosen == "opentelemetry"
    asked = os.environ.get("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
    return "http" not in {item.strip() for item in asked.split(",")}


def attach(
    app: Starlette,
    provider: TracerProvider,
    synthetic: SyntheticTraffic,
    *,
    allowed: frozenset[str],
    monitor: LoopMonitor | None = None,
    runtime: RuntimeReporter | None = None,
    opentelemetry: bool = False,
) -> None:
    """Trace the requests of ``app``, whose middleware stack is not built yet.

    ``opentelemetry`` as :func:`uses_opentelemetry_middleware` says; such spans have no measures of ours, and the
    process has none either. ``runtime`` is started by the first request of a process.
    """
    # Read once, when the first OpenTelemetry instrumentation initialises; what the user set stays.
    os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
    if opentelemetry:
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

        FastAPIInstrumentor.instrument_app(
            app,  # type: ignore[arg-type]  # it needs no more than a Starlette application
            tracer_provider=provider,
            server_request_hook=synthetic.on_request,
            # A span for each ASGI message would triple the spans of a request and say little.
            exclude_spans=["receive", "send"],
        )
        return
    tracing = tracing_with(provider, synthetic, allowed=allowed, monitor=monitor, runtime=runtime)
    original = app.build_middleware_stack

    def build_middleware_stack(_self: Starlette) -> Any:
        return tracing(original())

    setattr(app, _ORIGINAL, (original, native_tracing(app, on=False)))
    app.build_middleware_stack = types.MethodType(build_middleware_stack, app)  # type: ignore[method-assign]  # as OpenTelemetry's does
    setattr(app, FLAG, True)


def tracing_with(
    provider: TracerProvider,
    synthetic: SyntheticTraffic,
    *,
    allowed: frozenset[str],
    monitor: LoopMonitor | None = None,
    runtime: RuntimeReporter | None = None,
) -> Callable[[Any], RequestTracing]:
    """Return what puts request tracing around an ASGI application; parameters as of :func:`attach`."""
    from mobius_instrumentation.handler_start import watch_handlers
    from mobius_instrumentation.middleware import RequestTracing

    # Read once, when the first OpenTelemetry instrumentation initialises; what the user set stays.
    os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
    GC.watch()
    watch_handlers()
    return functools.partial(
        RequestTracing,
        tracer=provider.get_tracer("mobius_instrumentation"),
        synthetic=synthetic,
        monitor=monitor or LoopMonitor(),
        runtime=runtime,
        allowed=allowed,
    )


def native_tracing(app: Starlette, *, on: bool) -> bool:
    """Switch FastAPI's own server spans (FastAPI 0.16x), which would double ours; return what it was.

    Its metrics, where a meter provider is configured, stay.
    """
    settings = getattr(app, "_telemetry", None)
    if not isinstance(settings, dict) or "tracing" not in settings:
        return False
    before = bool(settings["tracing"])
    settings["tracing"] = on
    return before


def detach(app: Starlette) -> None:
    """Leave ``app`` as it was before :func:`attach`; its middleware stack is built anew at the next request."""
    kept = getattr(app, _ORIGINAL, None)
    if kept is None:
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

        FastAPIInstrumentor.uninstrument_app(app)  # type: ignore[arg-type]  # as above
    else:
        original, traced = kept
        app.build_middleware_stack = original  # type: ignore[method-assign]  # as above
        delattr(app, _ORIGINAL)
        native_tracing(app, on=traced)
        setattr(app, FLAG, False)
    app.middleware_stack = None

"""Traces every FastAPI and Starlette application of a process, without a line in its code."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from mobius_instrumentation.assembly import Assembly
from mobius_instrumentation.attach import (
    FLAG,
    native_tracing,
    tracing_with,
    uses_opentelemetry_middleware,
)

__all__ = ["FRAMEWORKS", "trace_every_application"]

FRAMEWORKS: Final[dict[str, str]] = {"starlette": "Starlette", "fastapi": "FastAPI"}
"""Package, and the class of its applications in ``<package>.applications``."""

_BUILD: Final = "build_middleware_stack"


def trace_every_application(parts: Assembly, flush: Callable[[], object]) -> bool:
    """Have each application traced when it serves its first connection, and flushed at its end.

    One that its own code instruments by then is not traced again, and neither is one that is mounted in a traced one.
    Returns False where OpenTelemetry's middleware was asked for, which its own instrumentation brings: then
    applications are flushed, and nothing else.
    """
    own = not uses_opentelemetry_middleware(parts.settings["http_instrumentation"])
    for package, name in FRAMEWORKS.items():
        if find_spec(package) is None:
            continue
        kind = getattr(import_module(f"{package}.applications"), name)
        if _BUILD in vars(kind):  # one that inherits it is traced by its base
            setattr(kind, _BUILD, _building(vars(kind)[_BUILD], parts, flush, traces=own))
    return own


def _building(
    original: Callable[[Any], Any], parts: Assembly, flush: Callable[[], object], *, traces: bool
) -> Callable[[Any], Any]:
    from mobius_instrumentation.lifespan import FlushAtShutdown

    @functools.wraps(original)
    def build_middleware_stack(app: Any) -> Any:
        stack = FlushAtShutdown(original(app), flush)
        if not traces or getattr(app, FLAG, False):
            return stack
        native_tracing(app, on=False)
        setattr(app, FLAG, True)
        # Made here, not once: FastAPI's routing may be loaded only now, and is watched from here on.
        tracing = tracing_with(
            parts.provider,
            parts.synthetic,
            allowed=parts.allowed,
            monitor=parts.monitor,
            runtime=parts.runtime,
        )
        return tracing(stack)

    return build_middleware_stack

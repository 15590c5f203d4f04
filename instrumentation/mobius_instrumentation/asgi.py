"""``app = instrument_asgi(app)``: for ASGI applications of any other make than FastAPI's and Starlette's."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from difflib import get_close_matches
from typing import Any, Final

from mobius_instrumentation.assembly import assemble, disabled
from mobius_instrumentation.attach import tracing_with
from mobius_instrumentation.errors import ConfigurationError
from mobius_instrumentation.instrumentation import Instrumentation
from mobius_instrumentation.options import OPTIONS

__all__ = ["TracedApplication", "instrument_asgi"]

_log: Final = logging.getLogger("mobius_instrumentation")
_Message = MutableMapping[str, Any]
# Frameworks declare scope, receive and send in ways of their own.
_Application = Callable[[Any, Any, Any], Awaitable[None]]


class TracedApplication:
    """An ASGI application that is traced. ``instrumentation`` is what ``instrument()`` would return."""

    def __init__(self, served: _Application, instrumentation: Instrumentation) -> None:
        self._served = served
        self.instrumentation = instrumentation

    async def __call__(
        self,
        scope: _Message,
        receive: Callable[[], Awaitable[_Message]],
        send: Callable[[_Message], Awaitable[None]],
    ) -> None:
        """Serve one connection."""
        await self._served(scope, receive, send)


def instrument_asgi(
    app: _Application, *, kafka_options: Mapping[str, Any] | None = None, **options: Any
) -> TracedApplication:
    """Trace the requests of any ASGI application, as :func:`mobius_instrumentation.instrument` does.

    Its spans have a route only where the application leaves one in the scope (``scope["route"]`` with a ``path``), and
    none has ``mobius.queue.duration``. Serve what it returns.

    Parameters
    ----------
    options
        Those of ``instrument()``, by the same names.

    Raises
    ------
    ConfigurationError
        As of ``instrument()``; also for an option that there is not.
    """
    for name in options:
        if name not in OPTIONS:
            near = get_close_matches(name, OPTIONS, n=1, cutoff=0.0)[0]
            raise ConfigurationError(name, f"unknown option; the closest known one is {near}")
    if disabled(os.environ):
        _log.info("OpenTelemetry is disabled by the environment: nothing is traced or sent")
        return TracedApplication(app, Instrumentation())
    from mobius_instrumentation.lifespan import FlushAtShutdown

    parts = assemble(options, kafka_options)
    instrumentation = Instrumentation.of(parts)
    tracing = tracing_with(
        parts.provider,
        parts.synthetic,
        allowed=parts.allowed,
        monitor=parts.monitor,
        runtime=parts.runtime,
    )
    return TracedApplication(tracing(FlushAtShutdown(app, instrumentation.settle)), instrumentation)

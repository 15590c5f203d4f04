"""Flushes at the end of an ASGI application's life, whichever way its server is told to stop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

__all__ = ["FlushAtShutdown"]

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Message, _Receive, _Send], Awaitable[None]]


class FlushAtShutdown:
    """ASGI middleware that flushes before it passes on that the application's shutdown is complete.

    Servers answer SIGTERM and SIGINT with the lifespan protocol, and may end the process by the same
    signal afterwards, without exit handlers. The application's own lifespan runs unchanged, and spans
    of its shutdown are flushed as well.
    """

    def __init__(self, app: _App, flush: Callable[[], object]) -> None:
        self._app = app
        self._flush = flush

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return

        async def flushing_send(message: _Message) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                await _run_in_thread(self._flush)
            await send(message)

        await self._app(scope, receive, flushing_send)


async def _run_in_thread(function: Callable[[], object]) -> None:
    try:
        from anyio.to_thread import run_sync
    except ImportError:  # it comes with Starlette; a plain ASGI application can do without
        import asyncio

        await asyncio.to_thread(function)
    else:
        await run_sync(function)

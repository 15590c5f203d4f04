"""Finds out when a request's handler starts, and how long its calls wait for a worker thread.

FastAPI calls every handler through one function of its routing module, and Starlette and FastAPI run what is no
coroutine through ``anyio.to_thread.run_sync``. Both are wrapped once in a process; outside of measured requests the
wrappers pass everything on. A FastAPI without that function lacks ``mobius.queue.duration``, nothing else.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from mobius_instrumentation.request import CURRENT

__all__ = ["watch_handlers"]

_clock = time.monotonic_ns
_MARK = "_mobius_watches"


def watch_handlers() -> None:
    """Wrap both functions, unless they are wrapped already."""
    routing = sys.modules.get("fastapi.routing")
    original = getattr(routing, "run_endpoint_function", None)
    if original is not None and not hasattr(original, _MARK):
        setattr(routing, "run_endpoint_function", _watching_endpoint(original))  # noqa: B010  # no type has it
    try:
        import anyio.to_thread
    except ImportError:  # a plain ASGI application can do without
        return
    run_sync: Any = anyio.to_thread.run_sync
    if not hasattr(run_sync, _MARK):
        anyio.to_thread.run_sync = _watching_threads(run_sync)


def _watching_endpoint(original: Callable[..., Any]) -> Callable[..., Any]:
    def run_endpoint_function(*arguments: Any, **options: Any) -> Any:
        request = CURRENT.get()
        if request is not None and not request.handler_at:
            if options.get("is_coroutine", True):
                request.handler_at = _clock()
            else:
                request.handler_in_thread = True  # the next thread to start is the handler's
        return original(*arguments, **options)

    setattr(run_endpoint_function, _MARK, True)
    return run_endpoint_function


def _watching_threads(original: Any) -> Any:
    def run_sync(func: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        request = CURRENT.get()
        if request is None:
            return original(func, *arguments, **options)
        asked = _clock()

        def started(*given: Any) -> Any:
            now = _clock()
            request.thread_wait_ns += now - asked
            if request.handler_in_thread and not request.handler_at:
                request.handler_at = now
            return func(*given)

        return original(started, *arguments, **options)

    setattr(run_sync, _MARK, True)
    return run_sync

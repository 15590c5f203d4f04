"""Runs a coroutine and measures for how long it holds the event loop.

A coroutine is a chain of steps between two waits. While a step runs, nothing else does on its loop. Works on
asyncio, uvloop and Trio alike, because it is done where the coroutine is driven, not in the loop.
"""

from __future__ import annotations

import time
import types
from collections.abc import Coroutine, Generator
from typing import Any

from mobius_instrumentation.loop_monitor import GC, blocking
from mobius_instrumentation.request import Request

__all__ = ["measured"]

_clock = time.monotonic_ns


@types.coroutine
def measured(coroutine: Coroutine[Any, Any, None], request: Request) -> Generator[Any, Any, None]:
    """Await ``coroutine``; add up in ``request`` how long its steps took, garbage collection apart.

    What the coroutine started as tasks of their own is not its steps. Exceptions and cancellation pass through both
    ways, as in ``yield from``.
    """
    error: BaseException | None = None
    value: Any = None
    while True:
        outer = (
            blocking.request
        )  # another request's step, where applications call each other in one process
        blocking.request = request
        began = request.step_at = _clock()
        collected = GC.total_ns
        try:
            if error is None:
                awaited = coroutine.send(value)
            else:
                thrown, error = error, None
                awaited = coroutine.throw(thrown)
        except StopIteration:
            return
        finally:
            held = _clock() - began - GC.total_ns + collected
            request.held_ns += held
            request.blocked_ns = max(request.blocked_ns, held)
            request.step_at = 0
            blocking.request = outer
        try:
            value = yield awaited
        except GeneratorExit:
            coroutine.close()
            raise
        except BaseException as raised:  # noqa: BLE001  # handed on to the coroutine, whatever it is
            error = raised

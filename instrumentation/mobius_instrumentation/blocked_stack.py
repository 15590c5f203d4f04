"""Finds out where a request holds the event loop: looks from another thread at what the loop's is doing. Off by default.

Forty times a second one field is read; only where a step of a request lasts for 0.1 s already, the stack is taken, once.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import PurePath
from types import FrameType
from typing import Final

from mobius_instrumentation.loop_monitor import blocking

__all__ = ["BlockedStackSampler"]

_INTERVAL_SECONDS: Final = 0.025
_BLOCKED_NS: Final = 100_000_000
_MOST_FRAMES: Final = 10
_OWN: Final = str(PurePath(__file__).parent)


class BlockedStackSampler:
    """Writes into a request's measures where it holds the loop."""

    def __init__(self) -> None:
        self._pid = 0
        self._starting = threading.Lock()

    def start(self) -> None:
        """Begin in this process, once."""
        with self._starting:
            if self._pid != os.getpid():
                self._pid = os.getpid()
                threading.Thread(target=self._run, name="mobius-blocked", daemon=True).start()

    def _run(self) -> None:
        seen = 0
        while True:
            time.sleep(_INTERVAL_SECONDS)
            request, thread = blocking.request, blocking.thread
            began = 0 if request is None else request.step_at
            if request is None or not began or began == seen:
                continue
            if time.monotonic_ns() - began < _BLOCKED_NS:
                continue
            seen = began
            frame = sys._current_frames().get(thread)  # noqa: SLF001  # its documented name
            if frame is not None and blocking.request is request:
                request.stack = _text(frame)


def _text(frame: FrameType | None) -> str:
    """Write functions, files and lines, innermost first; up to where our own code called the application."""
    lines: list[str] = []
    while frame is not None and len(lines) < _MOST_FRAMES:
        code = frame.f_code
        if code.co_filename.startswith(_OWN):
            break
        file = "/".join(PurePath(code.co_filename).parts[-2:])
        lines.append(f"{code.co_qualname} ({file}:{frame.f_lineno})")
        frame = frame.f_back
    return "\n".join(lines)

"""Stops by a deadline, whatever hangs: a request to a store that never answers must not outlive its worker's stop."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog

__all__ = ["ABANDONED_EXIT_CODE", "stop_by_signal"]

ABANDONED_EXIT_CODE: Final = 4

_SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGINT})
_log = structlog.get_logger("mobius.worker")


@contextmanager
def stop_by_signal(stop: threading.Event, seconds: float) -> Iterator[None]:
    """Set ``stop`` on SIGTERM or SIGINT; end the process when the block has not ended ``seconds`` later.

    A second signal ends it at once. Ending it so is safe at any point (ADR 4): the ledger has what was claimed, and
    the next worker repeats it. The exit code then is :data:`ABANDONED_EXIT_CODE`.

    1. Block the signals here and in all threads that are started from here on.
    2. Take them in a thread that does nothing else. A handler would run in the main thread, which may hold the very
       lock that ``stop.set()`` needs, or sit in a call that does not return.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # 1
    ended = threading.Event()
    thread = threading.Thread(
        target=_take, args=(stop, ended, seconds), name="signals", daemon=True
    )
    thread.start()  # 2
    try:
        yield
    finally:
        ended.set()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _take(stop: threading.Event, ended: threading.Event, seconds: float) -> None:
    signal.sigwait(_SIGNALS)
    stop.set()
    again = signal.sigtimedwait(_SIGNALS, seconds)
    if not ended.is_set():
        why = "a second signal came" if again else f"not finished after {seconds:g} s"
        _log.error(
            "stopped before all was stored; nothing is lost, the next worker repeats what was under way",
            reason=why,
        )
        # Not sys.exit: it ends only this thread, and the interpreter's own end would wait for the others.
        os._exit(ABANDONED_EXIT_CODE)

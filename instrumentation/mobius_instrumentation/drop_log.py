"""Tells the service's log what was lost and why, at most once a minute, and never nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

__all__ = ["DropLog"]

_log: Final = logging.getLogger("mobius_instrumentation")
_INTERVAL_SECONDS: Final = 60.0


class DropLog:
    """Reports what is new since the last report. ``target`` names topic and brokers."""

    def __init__(self, target: str, clock: Callable[[], float]) -> None:
        self._target = target
        self._clock = clock
        self._at: float | None = None
        self._reported: dict[str, int] = {}

    def report(
        self, dropped: Mapping[str, int], pending: int, problem: str, *, final: bool = False
    ) -> None:
        """Log new drops, or a problem that keeps spans waiting; ``final`` does not wait for a minute."""
        now = self._clock()
        if not final and self._at is not None and now - self._at < _INTERVAL_SECONDS:
            return
        new = {reason: n - self._reported.get(reason, 0) for reason, n in sorted(dropped.items())}
        new = {reason: n for reason, n in new.items() if n}
        because = f"; last problem: {problem}" if problem else ""
        if new:
            reasons = ", ".join(f"{reason}: {n}" for reason, n in new.items())
            _log.warning(
                "%d spans were dropped instead of sent to %s (%s)%s",
                sum(new.values()),
                self._target,
                reasons,
                because,
            )
        elif problem and not final:
            _log.warning("%d spans wait for %s%s", pending, self._target, because)
        else:
            return
        self._at = now
        self._reported = dict(dropped)

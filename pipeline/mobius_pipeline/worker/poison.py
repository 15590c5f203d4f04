"""When most of what comes cannot be read, the fault is not the messages': stop, instead of diverting all of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from mobius_pipeline.errors import TerminalError

__all__ = ["PoisonGuard", "PoisonLimits", "PoisonedError"]


class PoisonedError(TerminalError):
    """Too many of the last messages cannot be read; none of those named here was passed over."""

    def __init__(self, poisoned: int, messages: int, newest: str) -> None:
        self.poisoned = poisoned
        self.messages = messages
        super().__init__(
            f"{poisoned} of the last {messages} messages cannot be read, so the worker stops instead of diverting all "
            f"of them; the newest is {newest}. A producer writes what is no OTLP, or this version cannot read it: "
            "correct that, and start again; the messages are still in the topic"
        )


@dataclass(frozen=True, slots=True)
class PoisonLimits:
    """Stop when more than ``share`` of at least ``messages`` messages within ``seconds`` are poison; share 1: never."""

    share: float = 0.5
    messages: int = 100
    seconds: float = 60.0


@dataclass(slots=True)
class PoisonGuard:
    """Counts over this window and the one before, so that no moment begins from nothing."""

    limits: PoisonLimits = field(default_factory=PoisonLimits)
    clock: Callable[[], float] = time.monotonic
    _begun: float | None = None
    _now: list[int] = field(default_factory=lambda: [0, 0])
    _before: list[int] = field(default_factory=lambda: [0, 0])

    def add(self, poisoned: int, messages: int, newest: str = "") -> None:
        """Count ``messages``, of which ``poisoned`` cannot be read; ``newest`` names the last of these.

        Raises
        ------
        PoisonedError
            They are more than the set share.
        """
        self._turn()
        self._now[0] += poisoned
        self._now[1] += messages
        if not poisoned:
            return
        bad, all_of_them = (self._now[i] + self._before[i] for i in (0, 1))
        if all_of_them >= self.limits.messages and bad > self.limits.share * all_of_them:
            raise PoisonedError(bad, all_of_them, newest)

    def _turn(self) -> None:
        now = self.clock()
        if self._begun is None:
            self._begun = now
        elapsed = now - self._begun
        if elapsed >= self.limits.seconds / 2:
            self._before = [0, 0] if elapsed >= self.limits.seconds else self._now
            self._now = [0, 0]
            self._begun = now

"""Waiting between attempts: exponential, jittered, and ended at once by a stop."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field

__all__ = ["Backoff"]


@dataclass(slots=True)
class Backoff:
    """Full jitter over an exponential bound (AWS Architecture Blog, "Exponential Backoff and Jitter", 2015)."""

    stop: threading.Event
    first_seconds: float = 0.2
    most_seconds: float = 5.0
    source: random.Random = field(default_factory=random.Random)
    _attempts: int = 0

    def wait(self) -> None:
        """Wait before the next attempt; returns early when the stop comes."""
        bound = min(self.most_seconds, self.first_seconds * 2.0**self._attempts)
        self._attempts = min(self._attempts + 1, 32)
        self.stop.wait(self.source.uniform(bound / 2, bound))

    def reset(self) -> None:
        """Begin again with the shortest wait, after a success."""
        self._attempts = 0

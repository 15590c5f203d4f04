"""What the supervisor knows of one part of the stack."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Part"]


@dataclass(frozen=True, slots=True)
class Part:
    """A process that has to run as long as the stack runs.

    ``each_start`` gives more environment at each start, for what must differ between two processes;
    ``ready`` answers whether the part does its work already (None: it does once it runs);
    ``after_ready`` runs each time that it has begun to answer, restarts included; ``dependents`` are
    parts that must begin anew when this one did.
    """

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    address: str = ""
    each_start: Callable[[], Mapping[str, str]] = dict
    ready: Callable[[], bool] | None = None
    ready_seconds: float = 60.0
    after_ready: Callable[[], None] | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 20.0
    dependents: tuple[str, ...] = ()
    pass_fds: tuple[int, ...] = field(default=())

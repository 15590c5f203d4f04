"""The workers of a campaign: real `mobius-rum ingest` processes, each in its place, restarted whenever they end."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from mobius_infra.stack.process import Process, Warden
from mobius_infra.torture.services import environment
from mobius_pipeline.failpoints import VARIABLE

__all__ = ["Crew", "Worker"]

_STOP_SECONDS: Final = 25.0
# One that ends by itself is not started again at once, or it could eat all the machine.
_RESTART_SECONDS: Final = 0.5


@dataclass(slots=True, eq=False)
class Worker:
    """A place of the crew; ``process`` is who has it now."""

    name: str
    log: Path
    process: Process | None = None
    ended: float = 0.0

    def running(self) -> bool:
        """Somebody has the place (maybe standing still)."""
        return self.process is not None and self.process.exit_code() is None

    def stopped(self) -> bool:
        """Its process stands still."""
        if self.process is None or not self.running():
            return False
        try:
            return bool(psutil.Process(self.process.pid).status() == psutil.STATUS_STOPPED)
        except psutil.NoSuchProcess:
            return False


@dataclass(slots=True)
class Crew:
    """All workers. ``exits`` counts ends that no kill of ours explains, by exit code."""

    command: list[str]
    folder: Path
    warden: Warden
    workers: list[Worker] = field(default_factory=list)
    exits: Counter[str] = field(default_factory=Counter)
    _names: int = 0

    def add(self) -> Worker:
        """Let one more worker come."""
        name = f"worker-{self._names}"
        self._names += 1
        worker = Worker(name, self.folder / f"{name}.log")
        self.workers.append(worker)
        self.start(worker)
        return worker

    def start(self, worker: Worker, failpoint: str = "") -> None:
        """Start a process in a free place."""
        worker.process = Process(
            [*self.command, "--name", worker.name],
            environment(**({VARIABLE: failpoint} if failpoint else {})),
            worker.log,
            self.warden,
        )

    def kill(self, worker: Worker) -> None:
        """End its process by SIGKILL; the place stays, free."""
        if worker.process is not None:
            worker.process.kill()
            worker.process = None

    def stop(self, worker: Worker) -> None:
        """End its process by SIGTERM (by force if that takes too long); the place stays, free."""
        if worker.process is None:
            return
        worker.process.signal(signal.SIGTERM)
        if not worker.process.wait(time.monotonic() + _STOP_SECONDS):
            self.exits["hung at stop"] += 1
        self._note(worker, expected=0)
        self.kill(worker)

    def leave(self, worker: Worker) -> None:
        """Take a free place away."""
        self.workers.remove(worker)

    def keep_up(self, *, but: Collection[Worker] = ()) -> None:
        """Start those again that ended, except ``but``."""
        for worker in self.workers:
            if worker in but or worker.running():
                continue
            if worker.process is not None:
                self._note(worker)
                worker.process = None
                worker.ended = time.monotonic()
            if time.monotonic() - worker.ended >= _RESTART_SECONDS:
                self.start(worker)

    def close(self) -> None:
        """End all, in good order."""
        for worker in self.workers:
            if worker.stopped() and worker.process is not None:
                worker.process.signal(signal.SIGCONT)
        for worker in self.workers:
            self.stop(worker)

    def _note(self, worker: Worker, expected: int | None = None) -> None:
        code = worker.process.exit_code() if worker.process is not None else None
        if code is not None and code != expected:
            self.exits[str(code)] += 1

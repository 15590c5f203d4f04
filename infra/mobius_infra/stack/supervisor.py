"""Starts parts, waits until they answer, restarts those that die, stops them.

One thread and no queue: :meth:`Supervisor.start` and :meth:`Supervisor.stop` wait, and in between the
owner calls :meth:`Supervisor.tick` a few times a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from mobius_infra.stack.part import Part
from mobius_infra.stack.process import Process, Warden, exit_text, last_lines
from mobius_pipeline.errors import TerminalError

__all__ = ["Backoff", "Interrupted", "PartFailedError", "PartState", "Supervisor"]

# A part that ran this long has recovered: its next death counts as the first.
_RECOVERED_SECONDS: Final = 60.0
# Deaths in a row after which its log is shown.
_CRASH_LOOP: Final = 4


class Interrupted(Exception):  # noqa: N818 - no error: somebody asked the stack to stop
    """The stack was asked to stop while it started."""


class PartFailedError(TerminalError):
    """A part ended, or did not answer in time, while the stack started."""

    def __init__(self, part: Part, why: str) -> None:
        self.part = part.name
        lines = [f"{part.name} {why}; its log is {part.log}"]
        if tail := last_lines(part.log):
            lines += ["its last lines:", *(f"    {line}" for line in tail)]
        super().__init__("\n".join(lines))


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds to wait before a restart: ``first``, doubled at each death in a row up to ``ceiling``."""

    first: float = 0.5
    ceiling: float = 30.0

    def seconds(self, deaths: int) -> float:
        """Wait after the ``deaths``-th death in a row."""
        return float(min(self.ceiling, self.first * 2 ** min(deaths - 1, 16)))


@dataclass(frozen=True, slots=True)
class PartState:
    """A part as the outside may know it."""

    name: str
    address: str
    log: str
    pid: int | None
    state: str
    restarts: int


@dataclass(slots=True)
class _Entry:
    part: Part
    process: Process | None = None
    answered: bool = False
    deaths: int = 0
    restarts: int = 0
    next_try: float | None = None
    # What this one replaces, and until when it may take to end (None: it was not asked yet).
    predecessor: Process | None = None
    predecessor_deadline: float | None = None

    @property
    def processes(self) -> list[Process]:
        """What runs of this part: normally one, two while it is replaced, none between two tries."""
        return [process for process in (self.process, self.predecessor) if process is not None]


class Supervisor:
    """Keeps parts running.

    ``say`` takes one line for people; ``stop_requests`` counts how often somebody asked to stop (the
    second time, waiting ends and everything is killed); ``changed`` is called when a state changed.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        stop_requests: Callable[[], int],
        *,
        backoff: Backoff | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._say = say
        self._stop_requests = stop_requests
        self._backoff = backoff or Backoff()
        self._changed = changed
        self._entries: dict[str, _Entry] = {}
        self._warden = Warden()

    @property
    def warden(self) -> Warden:
        """What ends the groups of our children if we are killed."""
        return self._warden

    @property
    def restarts(self) -> dict[str, int]:
        """Restarts of each part that needed some."""
        return {name: entry.restarts for name, entry in self._entries.items() if entry.restarts}

    def states(self) -> list[PartState]:
        """Return every part in the order of its start."""
        return [_state(entry) for entry in self._entries.values()]

    def start(self, *parts: Part) -> None:
        """Start ``parts`` together and wait until each answers; says one line for each.

        Raises
        ------
        PartFailedError
            One ended or did not answer in time. The others run on: call :meth:`stop`.
        Interrupted
            Somebody asked to stop meanwhile.
        """
        entries = [self._launch(_Entry(part)) for part in parts]
        self._changed()
        while waiting := [entry for entry in entries if not entry.answered]:
            self.checkpoint()
            for entry in waiting:
                self._await_first_answer(entry)
            time.sleep(0.05)

    def checkpoint(self) -> None:
        """Raise :class:`Interrupted` when somebody asked to stop."""
        if self._stop_requests():
            raise Interrupted

    def tick(self) -> None:
        """Look after every part once: notice deaths, restart, notice answers."""
        for entry in list(self._entries.values()):
            self._look_after(entry, time.monotonic())

    def stop(self, names: Iterable[str] | None = None) -> list[str]:
        """Ask parts (None: all) to stop together, and wait; those that do not are killed and named."""
        chosen = (
            list(self._entries)
            if names is None
            else [name for name in names if name in self._entries]
        )
        running = [
            (self._entries[name].part, process)
            for name in chosen
            for process in self._entries[name].processes
        ]
        for name in chosen:
            del self._entries[name]
        began = time.monotonic()
        for part, process in running:
            process.signal(part.stop_signal)
        killed = []
        for part, process in running:
            if not self._wait_for_end(process, began + part.stop_seconds):
                killed.append(part.name)
                process.kill()
        self._changed()
        return killed

    def replace(self, part: Part) -> None:
        """Put ``part`` beside the one of the same name, which is asked to stop once the new one answers.

        Both share a socket, so nobody waits. Returns at once: :meth:`tick` does the rest.
        """
        old = self._entries[part.name]
        self._launch(_Entry(part, restarts=old.restarts, predecessor=old.process))
        self._changed()

    def settled(self, name: str) -> bool:
        """The part answers, and the one that it replaced, if any, has ended."""
        entry = self._entries.get(name)
        return entry is not None and entry.answered and entry.predecessor is None

    def close(self) -> None:
        """Kill whatever still runs, and end the warden."""
        for entry in reversed(self._entries.values()):
            for process in entry.processes:
                process.kill()
        self._entries.clear()
        self._warden.close()

    def _launch(self, entry: _Entry) -> _Entry:
        part = entry.part
        environment = {**part.environment, **part.each_start()}
        entry.process = Process(
            part.argv, environment, part.log, self._warden, pass_fds=part.pass_fds
        )
        entry.next_try = None
        entry.answered = False
        self._entries[part.name] = entry
        return entry

    def _await_first_answer(self, entry: _Entry) -> None:
        part, process = entry.part, entry.process
        if process is None:  # pragma: no cover - launched above
            raise PartFailedError(part, "was not started")
        if (code := process.exit_code()) is not None:
            entry.process = None
            raise PartFailedError(part, f"ended while it started ({exit_text(code)})")
        seconds = time.monotonic() - process.started
        if _ready(entry):
            if part.after_ready is not None:
                part.after_ready()
            entry.answered = True
            self._say(
                f"{part.name:<24} {part.address:<34} {time.monotonic() - process.started:6.1f} s"
            )
            self._changed()
        elif seconds > part.ready_seconds:
            raise PartFailedError(part, f"does not answer after {seconds:.0f} s")

    def _look_after(self, entry: _Entry, now: float) -> None:
        part = entry.part
        self._see_off(entry, now)
        if entry.process is None:
            if entry.next_try is not None and now >= entry.next_try:
                entry.restarts += 1
                self._launch(entry)
                self._changed()
            return
        code = entry.process.exit_code()
        if code is not None:
            self._bury(entry, exit_text(code), now)
        elif entry.answered:
            if entry.deaths and now - entry.process.started > _RECOVERED_SECONDS:
                entry.deaths = 0
        elif _ready(entry):
            self._welcome_back(entry)
        elif now - entry.process.started > part.ready_seconds:
            entry.process.kill()
            self._bury(entry, f"no answer in {part.ready_seconds:.0f} s", now)

    def _bury(self, entry: _Entry, why: str, now: float) -> None:
        part = entry.part
        entry.process = None
        entry.deaths += 1
        wait = self._backoff.seconds(entry.deaths)
        entry.next_try = now + wait
        self._say(f"{part.name} ended ({why}); it starts again in {wait:g} s. Its log: {part.log}")
        if entry.deaths == _CRASH_LOOP:
            self._say(
                f"{part.name} ended {entry.deaths} times in a row. The last lines of {part.log}:"
            )
            for line in last_lines(part.log):
                self._say(f"    {line}")
        self._changed()

    def _welcome_back(self, entry: _Entry) -> None:
        part = entry.part
        try:
            if part.after_ready is not None:
                part.after_ready()
        except Exception as error:  # noqa: BLE001 - whatever it was, the stack must go on; it is retried at the next tick
            self._say(f"{part.name} answers, but is not ready: {error}")
            return
        entry.answered = True
        self._say(
            f"{part.name} answers{' again' if entry.predecessor is None else ', and takes over'}"
        )
        for name in part.dependents:
            dependent = self._entries.get(name)
            if dependent is not None and dependent.process is not None:
                dependent.process.signal(dependent.part.stop_signal)
        self._changed()

    @staticmethod
    def _see_off(entry: _Entry, now: float) -> None:
        old = entry.predecessor
        if old is None:
            return
        if old.exit_code() is not None:
            entry.predecessor = entry.predecessor_deadline = None
        elif entry.predecessor_deadline is None:
            if entry.answered:
                old.signal(entry.part.stop_signal)
                entry.predecessor_deadline = now + entry.part.stop_seconds
        elif now > entry.predecessor_deadline:
            old.kill()

    def _wait_for_end(self, process: Process, deadline: float) -> bool:
        while not process.wait(min(deadline, time.monotonic() + 0.2)):
            if time.monotonic() >= deadline or self._stop_requests() > 1:
                return False
        return True


def _ready(entry: _Entry) -> bool:
    return entry.part.ready is None or entry.part.ready()


def _state(entry: _Entry) -> PartState:
    running = "running" if entry.answered else "starting"
    state = "waiting" if entry.process is None else running
    pid = None if entry.process is None else entry.process.pid
    return PartState(
        entry.part.name, entry.part.address, str(entry.part.log), pid, state, entry.restarts
    )

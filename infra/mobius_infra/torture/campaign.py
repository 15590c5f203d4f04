"""Runs a campaign: brings everything up, lets the plan's faults happen while spans flow, and waits until all is stored."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mobius_infra.stack.process import Process, Warden, exit_text, last_lines
from mobius_infra.torture.actions import ACTIONS
from mobius_infra.torture.crew import Crew, Worker
from mobius_infra.torture.faults import Fault, TortureOptions
from mobius_infra.torture.ledger_view import LedgerView
from mobius_infra.torture.plan import Event, make_plan
from mobius_infra.torture.producing import Producing
from mobius_infra.torture.services import Service, environment, make_broker, make_store
from mobius_infra.torture.span_messages import REGION, make_messages
from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import TerminalError
from mobius_pipeline.failpoints import VARIABLE
from mobius_pipeline.kafka_client import end_offsets

__all__ = ["Campaign", "Tally"]

_TICK_SECONDS: Final = 0.05
_STALL_SECONDS: Final = 180.0
_MIGRATE_SECONDS: Final = 120.0
# While a fault is being made, spans trickle: each fault's share of what is left comes over about this time, so that
# workers have work however long it takes, and enough is left for the faults to come.
_TRICKLE_SECONDS: Final = 12.0
# A fault at a moment that a busy machine did not come by in time is tried again.
_ATTEMPTS: Final = 3
# Backlog, as a share of all spans, when a fault becomes due.
_AHEAD_SHARE: Final = 0.02


@dataclass(slots=True)
class Tally:
    """What really happened."""

    by_fault: Counter[Fault] = field(default_factory=Counter)
    missed: list[Event] = field(default_factory=list)
    kills: int = 0
    pauses: int = 0
    joins: int = 0
    leaves: int = 0


class Campaign:
    """One campaign over one folder. ``say`` takes lines for a person, ``show`` the number of spans stored."""

    def __init__(
        self,
        options: TortureOptions,
        folder: Path,
        warden: Warden,
        say: Callable[[str], None],
        show: Callable[[int], None],
    ) -> None:
        self.options = options
        self.folder = folder
        self.tally = Tally()
        self.plan = make_plan(options)
        self.broker = make_broker(options.broker, folder, warden)
        self.store = make_store(folder, warden)
        self.zone = self.make_zone("rum_eu")
        self.ledger = LedgerView(self.zone)
        begin = (time.time_ns() // 60_000_000_000 - 60) * 60_000_000_000
        messages = make_messages(options.seed, options.spans, options.partitions, begin)
        self.producing = Producing(self.zone.kafka[0], self.zone.spans_topic, messages)
        command = [sys.executable, "-m", "mobius_infra.cli", "ingest", "--config", str(self.config)]
        command += ["--batch-spans", str(options.batch_spans), "--batch-ms", str(options.batch_ms)]
        command += ["--lease-seconds", str(options.lease_seconds)]
        self.crew = Crew(command, folder, warden)
        self._warden = warden
        self._say = say
        self._show = show
        self._away: set[str] = set()
        self._left = len(self.plan)
        self._ahead = max(1000, int(options.spans * _AHEAD_SHARE))
        self._allowed = 0.0
        self._trickling: float | None = None
        self._stored = 0
        self._moved = time.monotonic()

    @property
    def config(self) -> Path:
        """Residency map of the campaign's zone."""
        return self.folder / "zones.toml"

    def make_zone(self, database: str) -> Zone:
        """Return the campaign's zone with a database of this name; all of them have one topic."""
        kafka = (f"127.0.0.1:{self.broker.port}",)
        return Zone("eu", (REGION,), kafka, f"http://127.0.0.1:{self.store.port}", database)

    def run(self) -> None:
        """Run it to the point where all is stored and the workers are gone; broker and store still run.

        1. Start broker and store; migrate, killed as often as the plan says.
        2. Start producing and the workers.
        3. Make each fault when it is due.
        4. Wait until all that was produced is stored, and stop the workers.

        Raises
        ------
        TerminalError
            Broker or store ended by themselves, or nothing moves any more.
        """
        write_zones(self.zone, self.config)
        self.broker.start()  # 1
        self.store.start()
        self._migrate()
        self.producing.start()  # 2
        for _ in range(self.options.workers):
            self.crew.add()
        for event in self.plan:  # 3
            if event.fault != "during_migration":
                self._left -= 1
                self._make(event)
        self._allowed = math.inf
        self._drain()  # 4
        self.crew.close()

    def close(self) -> None:
        """End all processes, wherever the campaign stands."""
        if self.producing.is_alive():
            self.producing.stop()
        self.crew.close()
        self.ledger.close()
        self.store.stop()
        self.broker.stop()

    def wait(
        self,
        condition: Callable[[], bool],
        seconds: float,
        *,
        untouched: Collection[Worker] = (),
        every: float = _TICK_SECONDS,
    ) -> bool:
        """Let the campaign go on until ``condition`` holds, at most ``seconds``; True when it does.

        Workers that end are started again meanwhile, except ``untouched``.
        """
        deadline = time.monotonic() + seconds
        while True:
            if condition():
                return True
            if time.monotonic() >= deadline:
                return False
            self._tick(untouched)
            time.sleep(every)

    def be_without(self, service: Service, seconds: float) -> None:
        """Let the campaign go on without a service that was killed."""
        self._away.add(service.name)
        self.wait(lambda: False, seconds)
        self._away.discard(service.name)
        self._moved = time.monotonic()

    def _make(self, event: Event) -> None:
        due = int(event.share * self.options.spans)
        self._allowed = max(self._allowed, due + self._ahead)
        while not self.wait(lambda: self._stored >= due, 1.0):
            self._check_moving()
        self._say(f"{self._stored} spans stored: {event.fault}")
        self._trickling = time.monotonic()
        for _ in range(_ATTEMPTS):
            if ACTIONS[event.fault](self, event):
                self.tally.by_fault[event.fault] += 1
                break
            self._say(f"{event.fault} could not be made")
        else:
            self.tally.missed.append(event)
        self._trickling = None
        self._moved = time.monotonic()

    def _tick(self, untouched: Collection[Worker] = ()) -> None:
        self.crew.keep_up(but=untouched)
        for service in (self.store, self.broker):
            if service.name not in self._away:
                service.check()
        if self.producing.failure is not None:
            raise TerminalError(f"producing failed: {self.producing.failure!r}")
        stored = None if "store" in self._away else self.ledger.spans_done()
        if stored is not None and stored > self._stored:
            self._show(stored - self._stored)
            self._stored = stored
            self._moved = time.monotonic()
        self._let_produce()

    def _let_produce(self) -> None:
        if self._trickling is not None:
            now = time.monotonic()
            share = (now - self._trickling) / (_TRICKLE_SECONDS * (self._left + 1))
            self._allowed += (self.options.spans - self._allowed) * min(1.0, share)
            self._trickling = now
        self.producing.allowed = self._allowed

    def _drain(self) -> None:
        while not self.wait(lambda: self.producing.done, 1.0):
            self._check_moving()
        ends = end_offsets(self.zone, self.zone.spans_topic, range(self.options.partitions))
        wanted = {part: end for part, end in ends.items() if end}

        def is_all() -> bool:
            found = self.ledger.ends()
            return found is not None and all(
                found.get(part, 0) >= end for part, end in wanted.items()
            )

        while not self.wait(is_all, 1.0):
            self._check_moving()

    def _check_moving(self) -> None:
        if time.monotonic() - self._moved > _STALL_SECONDS:
            logs = "\n".join(
                f"{worker.log}:\n" + "\n".join(f"    {line}" for line in last_lines(worker.log, 4))
                for worker in self.crew.workers
            )
            raise TerminalError(
                f"nothing was stored for {_STALL_SECONDS:g} s ({self._stored} of {self.producing.published} published "
                f"spans are); the workers' last words:\n{logs}"
            )

    def _migrate(self) -> None:
        command = [
            sys.executable,
            "-m",
            "mobius_infra.cli",
            "migrate",
            "--config",
            str(self.config),
        ]
        command += ["--partitions", str(self.options.partitions)]
        log = self.folder / "migrate.log"
        for event in self.plan:
            if event.fault != "during_migration":
                continue
            self._left -= 1
            trap = f"during_migration:{event.visit}=kill"
            if (
                self._finish(Process(command, environment(**{VARIABLE: trap}), log, self._warden))
                == -9
            ):
                self.tally.kills += 1
                self.tally.by_fault["during_migration"] += 1
            else:
                self.tally.missed.append(event)
        code = self._finish(Process(command, environment(), log, self._warden))
        if code:
            raise TerminalError(f"migrate ended with {exit_text(code)}; its log is {log}")

    @staticmethod
    def _finish(process: Process) -> int:
        if not process.wait(time.monotonic() + _MIGRATE_SECONDS):
            process.kill()
        return process.exit_code() or 0


def write_zones(zone: Zone, path: Path) -> None:
    """Write a residency map of one zone."""
    path.write_text(
        f"[zones.{zone.name}]\nregions = {list(zone.regions)}\nkafka = {list(zone.kafka)}\n"
        f'clickhouse = "{zone.clickhouse}"\ndatabase = "{zone.database}"\n',
        encoding="utf-8",
    )

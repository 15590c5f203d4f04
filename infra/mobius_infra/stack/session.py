"""One run of the local stack, from its first process to its last."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

from mobius_infra import kafka_broker
from mobius_infra.stack.closing import close_accounts, drained
from mobius_infra.stack.console import StackConsole
from mobius_infra.stack.demo_parts import DemoParts
from mobius_infra.stack.folder import DataFolder
from mobius_infra.stack.options import BrokerKind, StackOptions
from mobius_infra.stack.part import Part
from mobius_infra.stack.plan import Plan
from mobius_infra.stack.ports import check_free
from mobius_infra.stack.release import Rollout
from mobius_infra.stack.stops import StopSignals
from mobius_infra.stack.supervisor import Interrupted, Supervisor
from mobius_infra.stack.task import run_task
from mobius_instrumentation.zones import Zones
from mobius_pipeline.config import load_config
from mobius_pipeline.migrate import migrate
from mobius_pipeline.options import format_time, print_json
from mobius_pipeline.status import SpanIdentity, lag, span_identity

__all__ = ["run"]

_TICK_SECONDS: Final = 0.25
_INTERRUPTED: Final = 130


def run(options: StackOptions) -> int:
    """Run the stack until it is told to stop or its time is over; return the exit code.

    Raises
    ------
    UsageError
        The data folder is held by another stack or cannot be written, or a port is taken; nothing was
        started.
    DependencyError
        A real Kafka is wanted, and what it needs is missing; nothing was started.
    TerminalError
        A part does not start; all that had started was stopped again.
    """
    if options.broker is BrokerKind.KAFKA:
        kafka_broker.require()
    folder = DataFolder(options.data)
    folder.prepare()
    with folder.held(options.dashboard_url):
        check_free(list(options.ports().values()))
        folder.begin()
        with StopSignals() as stops, _session(options, folder, stops) as session:
            return session.run()


@contextmanager
def _session(options: StackOptions, folder: DataFolder, stops: StopSignals) -> Iterator[Session]:
    session = Session(options, folder, stops)
    try:
        yield session
    finally:
        session.close()


class Session:
    """The steps of one run. Whatever happens, call :meth:`close`."""

    def __init__(self, options: StackOptions, folder: DataFolder, stops: StopSignals) -> None:
        self.options = options
        self.folder = folder
        self.console = StackConsole(sys.stderr if options.json else sys.stdout)
        self._stops = stops
        self._began = time.monotonic()
        self._started_at = datetime.now(UTC)
        zones = tuple(options.ports()["store"].users)
        self.plan = Plan(
            options, folder, folder.secrets(["hub", *(user.split()[-1] for user in zones[1:])])
        )
        self.demo = DemoParts(self.plan) if options.demo else None
        self.supervisor = Supervisor(
            self.console.say, lambda: stops.count, changed=self._write_state
        )
        self.zones: Zones = self.plan.zones
        self.baseline: dict[str, SpanIdentity] = {}
        self.history_spans: dict[str, int] = {}
        self.starting_seconds = 0.0
        self._stopped = False

    def run(self) -> int:
        """Start, live, stop; print the document when one is wanted."""
        try:
            self.start()
        except Interrupted:
            self.console.say("stopping before everything had started")
            self.stop()
            return _INTERRUPTED
        live_seconds = self.live()
        document = self.stop(live_seconds)
        if document is not None and self.options.json:
            print_json(document)
        return 0

    def start(self) -> None:
        """Start every part in order, each as soon as those before it answer."""
        self.folder.zones_file.write_text(self.plan.zones_toml(), encoding="utf-8")
        self.zones = load_config(self.folder.zones_file)
        self.folder.remember()
        self.console.say(f"data in {self.folder.root}")
        if self._kafka and kafka_broker.find_jars() is None:
            self.task("kafka-jars", self.plan.fetch_kafka_command(), self.plan.environment())
        self._start(self.plan.broker())
        self._start(*self.plan.stores())
        self._migrate()
        self.baseline = {zone.name: span_identity(zone) for zone in self.zones}
        self._start(*self.plan.workers())
        if self._kafka:
            self._store_leftovers()
        if self.demo is not None:
            self._start_demo(self.demo)
        self._start(self.plan.jobs())
        self._start(self.plan.dashboard())
        self.starting_seconds = time.monotonic() - self._began
        self.console.end_status()
        self.console.say(
            f"\nThe dashboard: {self.options.dashboard_url}   (Ctrl-C stops everything)\n"
        )

    def live(self) -> float:
        """Look after everything until the time is over or somebody asks to stop; return the seconds."""
        began = time.monotonic()
        rollout = (
            None if self.demo is None else Rollout(self.demo, self.supervisor, self.console.say)
        )
        while not self._stops.count:
            seconds = time.monotonic() - began
            if self.options.seconds is not None and seconds >= self.options.seconds:
                break
            self.supervisor.tick()
            if rollout is not None and seconds >= self.options.release_seconds:
                rollout.step()
            self._show_status(seconds)
            time.sleep(_TICK_SECONDS)
        return time.monotonic() - began

    def stop(self, live_seconds: float | None = None) -> dict[str, Any] | None:
        """Stop everything, sources first, so that what was produced is stored before its store ends.

        With ``live_seconds`` the accounts are closed meanwhile, and returned.
        """
        self.console.end_status()
        self.console.say("stopping")
        if self.demo is not None:
            self._end(self.demo.load_names())
            self._end(self.demo.service_names())
        document = None
        if self.starting_seconds and not self._hurry():
            if not drained(self):
                left = "waits for the next start" if self._kafka else "is lost"
                self.console.say(
                    f"not everything was read from the broker in time; what is left there {left}"
                )
            if live_seconds is not None and self.options.seconds is not None and not self._hurry():
                document = close_accounts(self, live_seconds)
        self._end([f"worker-{zone.name}" for zone in self.zones])
        self._end(["jobs"])
        self._end(["dashboard"])
        self._end(
            [part.name for part in self.supervisor.states() if part.name.startswith("store-")]
        )
        self._end(["broker"])
        self._stopped = True
        self.console.say("stopped")
        return document

    def close(self) -> None:
        """Stop what is left, however the run ended."""
        try:
            if not self._stopped:
                self.stop()
        finally:
            self.supervisor.close()
            if self.demo is not None:
                self.demo.close()
            self.folder.state_file.unlink(missing_ok=True)

    def task(
        self, name: str, argv: tuple[str, ...], environment: Mapping[str, str]
    ) -> dict[str, Any]:
        """Run a command to its end, looking after the parts; say one line; return its document."""
        began = time.monotonic()
        self.console.status(f"waiting for {name}")
        document = self._run(name, argv, environment)
        self.console.say(f"{name:<24} {'done':<34} {time.monotonic() - began:6.1f} s")
        return document

    def ask(self, command: str, *arguments: str) -> dict[str, Any]:
        """Return the document of one of our own commands."""
        argv = (*self.plan.command(), command, *arguments, "--json")
        return self._run(command, argv, self.plan.full_environment())

    def _run(
        self, name: str, argv: tuple[str, ...], environment: Mapping[str, str]
    ) -> dict[str, Any]:
        return run_task(
            name,
            argv,
            environment,
            self.folder.log(name),
            self.supervisor.warden,
            meanwhile=self.look_after,
        )

    @property
    def _kafka(self) -> bool:
        return self.options.broker is BrokerKind.KAFKA

    def _store_leftovers(self) -> None:
        """Let workers store what the last run left on a broker that keeps its data: it is not of this run's account."""
        if left := sum(map(lag, self.zones)):
            self.console.say(f"{'leftovers':<24} {left} messages of the last run")
            drained(self)
            self.baseline = {zone.name: span_identity(zone) for zone in self.zones}

    def _start(self, *parts: Part) -> None:
        self.console.status(f"waiting for {', '.join(part.name for part in parts)}")
        self.supervisor.start(*parts)

    def _migrate(self) -> None:
        began = time.monotonic()
        hub = [] if self.zones.hub is None else [self.zones.hub]
        versions = {report.store: report.version for report in map(migrate, [*hub, *self.zones])}
        text = ", ".join(f"{store} at {version}" for store, version in versions.items())
        self.console.say(f"{'migrations':<24} {text:<34} {time.monotonic() - began:6.1f} s")

    def _start_demo(self, demo: DemoParts) -> None:
        if self.options.history_hours:
            self._push_history(demo)
        demo.open()
        self._start(*demo.services())
        self._start(*demo.load())

    def _push_history(self, demo: DemoParts) -> None:
        hours = self.options.history_hours
        now = time.time()
        if now - self.folder.history_reaches() < hours * 3600:
            self.console.say(f"{'history':<24} the data have one already")
            return
        document = self.task("history", demo.history_command(hours), self.plan.full_environment())
        self.history_spans = {name: zone["produced"] for name, zone in document["zones"].items()}
        self.folder.remember_history(now)

    def look_after(self) -> None:
        """Look after every part once; raises :class:`Interrupted` when waiting has to end."""
        self.supervisor.tick()
        if self._hurry() or not self.starting_seconds:
            self.supervisor.checkpoint()

    def _hurry(self) -> bool:
        return self._stops.count > 1

    def _end(self, names: list[str]) -> None:
        for name in self.supervisor.stop(names):
            self.console.say(
                f"{name} did not end in time and was killed; its log: {self.folder.log(name)}"
            )

    def _show_status(self, seconds: float) -> None:
        states = self.supervisor.states()
        waiting = [part.name for part in states if part.state != "running"]
        minutes, rest = divmod(int(seconds), 60)
        text = f"running {minutes}:{rest:02d}, {len(states) - len(waiting)} of {len(states)} parts"
        if waiting:
            text += f"; waiting for {', '.join(waiting)}"
        self.console.status(f"{text}; dashboard {self.options.dashboard_url}")

    def _write_state(self) -> None:
        self.folder.write_state(
            {
                "pid": os.getpid(),
                "started": format_time(self._started_at),
                "dashboard": self.options.dashboard_url,
                "zones_file": str(self.folder.zones_file),
                "ports": {name: block.first for name, block in self.options.ports().items()},
                "parts": [dataclasses.asdict(part) for part in self.supervisor.states()],
            }
        )

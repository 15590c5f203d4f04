"""Drives the steps, and recovers from everything in one way: begin again at the ledger."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

import structlog

from mobius_instrumentation.zones import Zone
from mobius_pipeline.dead_letters import DeadLetters
from mobius_pipeline.errors import DependencyError
from mobius_pipeline.kafka_client import Topic, describe_topic
from mobius_pipeline.ledger import Ledger, OvertakenError
from mobius_pipeline.store import Purpose, connect, store_errors
from mobius_pipeline.worker.advance import Advance
from mobius_pipeline.worker.backoff import Backoff
from mobius_pipeline.worker.batch import Batching, BatchLimits
from mobius_pipeline.worker.fetch import Fetch, TopicReplacedError
from mobius_pipeline.worker.health import Health, Timed, serve_health
from mobius_pipeline.worker.insert import Insert
from mobius_pipeline.worker.intent import Intent
from mobius_pipeline.worker.route import Route
from mobius_pipeline.worker.steps import Batch, Chain, Message
from mobius_pipeline.worker.validate import Validate

__all__ = ["WorkerOptions", "run_worker"]

# Short enough that a batch's age is kept to, long enough to be no busy loop.
_POLL_SECONDS: Final = 0.1
_REPORT_SECONDS: Final = 10.0

_log = structlog.get_logger("mobius.worker")


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How to work. ``writer`` names this process in the ledger; no two processes may share one.

    ``health_port`` 0 answers nowhere.
    """

    limits: BatchLimits = field(default_factory=BatchLimits)
    writer: str = field(
        default_factory=lambda: f"{socket.gethostname()}/{os.getpid()}/{uuid4().hex[:8]}"
    )
    health_host: str = "127.0.0.1"
    health_port: int = 0


@dataclass(slots=True)
class _Report:
    """What was stored since the last line of the log."""

    clock: Callable[[], float]
    since: float
    spans: int = 0
    messages: int = 0
    batches: int = 0
    quarantined: int = 0
    dead_letters: int = 0

    def add(self, batch: Batch) -> None:
        self.batches += 1
        self.messages += len(batch.items)
        self.spans += batch.spans
        self.quarantined += sum(foreign.spans for item in batch.items for foreign in item.foreign)
        self.dead_letters += sum(1 for item in batch.items if item.problem)

    def write(self, *, now: bool = False) -> None:
        elapsed = self.clock() - self.since
        if not self.batches or (elapsed < _REPORT_SECONDS and not now):
            return
        _log.info(
            "stored",
            seconds=round(elapsed, 1),
            spans=self.spans,
            messages=self.messages,
            batches=self.batches,
            quarantined=self.quarantined,
            dead_letters=self.dead_letters,
        )
        self.since = self.clock()
        self.spans = self.messages = self.batches = self.quarantined = self.dead_letters = 0


def run_worker(
    zone: Zone,
    stop: threading.Event,
    options: WorkerOptions | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Store the zone's spans until ``stop`` is set; then finish what was gathered, and return.

    A broker or store that is away is waited for, as long as it takes, with one line of log each ten seconds.

    Raises
    ------
    OvertakenError
        Another worker took over a partition.
    TerminalError
        Messages were deleted before they were stored, or the store refuses a batch for good.
    """
    chosen = options or WorkerOptions()
    health = Health(clock=clock)
    with serve_health(health, zone, chosen.health_host, chosen.health_port):
        _run(zone, stop, chosen, health)


def _run(zone: Zone, stop: threading.Event, chosen: WorkerOptions, health: Health) -> None:
    backoff = Backoff(stop)
    clock = health.clock
    told = -_REPORT_SECONDS
    while not stop.is_set():
        health.beat()
        try:
            _run_once(zone, stop, chosen, backoff, health)
        except TopicReplacedError:
            health.began_again("topic_replaced")
            _log.warning(
                "the topic was made anew; reading the new one from its ledger",
                topic=zone.spans_topic,
            )
        except OvertakenError as error:
            if error.by != chosen.writer:
                raise
            health.began_again("late_intent")
            _log.warning("an intent of our own arrived late; beginning again at the ledger")
        except DependencyError as error:
            health.began_again("store" if error.where == zone.clickhouse else "broker")
            if clock() - told >= _REPORT_SECONDS:
                told = clock()
                _log.warning(
                    "waiting",
                    zone=zone.name,
                    what=error.what,
                    where=error.where,
                    reason=error.reason,
                )
            backoff.wait()


def _run_once(
    zone: Zone,
    stop: threading.Event,
    options: WorkerOptions,
    backoff: Backoff,
    health: Health,
) -> None:
    """One life between two failures.

    1. Learn the topic's identity.
    2. Read from the ledger where each partition stands.
    3. Fetch from there, and push messages through the steps.
    4. On a stop, push what is gathered through the rest of the steps.
    """
    topic = describe_topic(zone, zone.spans_topic)  # 1
    if topic is None:
        raise DependencyError(
            f"topic {zone.spans_topic}",
            ", ".join(zone.kafka),
            reason="the broker has no such topic",
            remedy="make it with `mobius-rum migrate`",
        )
    client = connect(zone, Purpose.INGEST)
    dead_letters = DeadLetters(zone, client)
    fetch: Fetch | None = None
    try:
        with store_errors(zone):
            ledger = Ledger(client, topic, options.writer)
            standings = ledger.standings()  # 2
            health.answered("store")
            fetch = Fetch(zone, topic, standings, health.clock)  # 3
            chain: Chain[Message] = Chain(
                Validate(),
                Route(zone),
                Batching(topic, standings, options.limits, health.clock),
                _Checkpoint(fetch),
                Intent(ledger),
                Timed(Insert(client, dead_letters), health),
                Advance(ledger, fetch.commit),
            )
            _tell(zone, topic, standings, options.writer)
            health.metrics.assigned(zone.name, topic.name, options.writer, standings)
            health.began_reading(fetch.ends())
            _drive(chain, fetch, stop, backoff, health)
    finally:
        dead_letters.close()
        if fetch is not None:
            fetch.close()
        client.close()


def _drive(
    chain: Chain[Message],
    fetch: Fetch,
    stop: threading.Event,
    backoff: Backoff,
    health: Health,
) -> None:
    report = _Report(health.clock, health.clock())

    def count(batches: list[Batch]) -> None:
        for batch in batches:
            backoff.reset()
            report.add(batch)
            health.stored(batch)
        report.write()

    while not stop.is_set():
        for message in fetch.poll(_POLL_SECONDS):
            count(chain.submit(message))
        count(chain.poll())
        health.turned(fetch.heard, fetch.ends())
    count(chain.close())  # 4
    report.write(now=True)


def _tell(zone: Zone, topic: Topic, standings: Any, writer: str) -> None:
    _log.info(
        "reading",
        zone=zone.name,
        topic=topic.name,
        topic_id=str(topic.id),
        writer=writer,
        positions={str(number): standing.next_offset for number, standing in standings.items()},
        repeated={
            str(number): list(standing.unfinished)
            for number, standing in standings.items()
            if standing.unfinished
        },
    )


class _Checkpoint:
    """Lets a batch pass only after the topic has proved to be the one that was assigned."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch

    def submit(self, item: Batch) -> tuple[Batch]:
        self._fetch.check_identity()
        return (item,)

    def poll(self) -> tuple[()]:
        return ()

    def close(self) -> tuple[()]:
        return ()

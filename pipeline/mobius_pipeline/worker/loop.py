"""One life of a worker between two failures: the steps in their order, and the partitions that flow through them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog
from clickhouse_connect.driver.exceptions import ClickHouseError

from mobius_instrumentation.zones import Zone
from mobius_pipeline.dead_letters import DeadLetters
from mobius_pipeline.failpoints import reach
from mobius_pipeline.kafka_client import Topic
from mobius_pipeline.leases import Leases
from mobius_pipeline.ledger import Ledger, Standing
from mobius_pipeline.worker.advance import Advance
from mobius_pipeline.worker.assign import Assignment
from mobius_pipeline.worker.backoff import Backoff
from mobius_pipeline.worker.batch import Batching
from mobius_pipeline.worker.fetch import Fetch
from mobius_pipeline.worker.health import Health, Timed
from mobius_pipeline.worker.insert import Insert
from mobius_pipeline.worker.intent import Intent
from mobius_pipeline.worker.poison import PoisonGuard
from mobius_pipeline.worker.route import Route
from mobius_pipeline.worker.settings import WorkerOptions
from mobius_pipeline.worker.steps import Batch, Chain, Message
from mobius_pipeline.worker.validate import Validate

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["Loop"]

# Short enough that a batch's age is kept to, long enough to be no busy loop.
_POLL_SECONDS: Final = 0.1
_REPORT_SECONDS: Final = 10.0

_log = structlog.get_logger("mobius.worker")


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


class Loop:
    """The steps of one life, and the partitions that flow through them."""

    def __init__(
        self,
        zone: Zone,
        topic: Topic,
        options: WorkerOptions,
        health: Health,
        *,
        client: Client,
        fetch: Fetch,
        dead_letters: DeadLetters,
    ) -> None:
        self._topic = topic
        self._fetch = fetch
        self._health = health
        self._report = _Report(health.clock, health.clock())
        self._ledger = Ledger(client, topic, options.writer)
        self._batching = Batching(topic, options.limits, health.clock)
        leases = Leases(
            client,
            topic.id,
            options.writer,
            name=options.name,
            seconds=options.lease_seconds,
            clock=health.clock,
        )
        self._assignment = Assignment(leases, topic.partitions)
        fence = self._assignment.until_ms
        self._chain: Chain[Message] = Chain(
            Validate(options.wire, PoisonGuard(options.poison)),
            Route(zone, options.attributes),
            self._batching,
            _Checkpoint(fetch),
            Intent(self._ledger, fence),
            Timed(Insert(client, dead_letters, PoisonGuard(options.poison), fence), health),
            Advance(self._ledger, fetch.commit, fence),
        )
        self._who = {
            "zone": zone.name,
            "topic": topic.name,
            "topic_id": str(topic.id),
            "writer": options.writer,
            "name": options.name,
        }
        self._told = False
        health.metrics.works(zone.name, topic.name, options.writer)

    def rebalance(self) -> None:
        """Give up and take partitions, as all workers together want it.

        1. Abandon what is gathered of a partition that goes: nobody has claimed it.
        2. Give it back.
        3. Take what is ours, and go on where the ledger says.
        """
        surplus = self._assignment.look()
        if surplus:
            self._batching.drop(surplus)  # 1
            self._fetch.drop(surplus)
            reach("while_revoking")
            self._assignment.release(surplus)  # 2
            self._health.metrics.revoked(surplus)
        gained = self._assignment.gain()  # 3
        if gained:
            standings = self._ledger.standings(gained)
            self._fetch.add(standings)
            self._batching.add(standings)
            self._health.metrics.assigned(standings)
        if surplus or gained or not self._told:
            self._told = True
            _tell(self._who, surplus, standings if gained else {}, self._assignment.held)

    def drive(self, stop: threading.Event, backoff: Backoff) -> None:
        """Turn until the stop."""
        while not stop.is_set():
            if self._assignment.due:
                self.rebalance()
            self._fetch.pause(self._batching.crowded())
            for message in self._fetch.poll(_POLL_SECONDS):
                self._count(self._chain.submit(message), backoff)
            self._count(self._chain.poll(), backoff)
            self._health.turned(self._fetch.heard, self._fetch.ends(), self._fetch.paused)

    def close(self, backoff: Backoff) -> None:
        """Store what is gathered, and let others have the partitions at once."""
        self._count(self._chain.close(), backoff)
        self._report.write(now=True)
        self._assignment.leave()

    def abandon(self) -> None:
        """Let others have the partitions at once, with what is under way unfinished; best effort."""
        with contextlib.suppress(ClickHouseError, OSError):
            self._assignment.leave()

    def _count(self, batches: list[Batch], backoff: Backoff) -> None:
        for batch in batches:
            backoff.reset()
            self._report.add(batch)
            self._health.stored(batch)
        self._report.write()


def _tell(
    who: Mapping[str, str],
    surplus: Collection[int],
    standings: Mapping[int, Standing],
    held: Collection[int],
) -> None:
    _log.info(
        "reading",
        **who,
        partitions=sorted(held),
        given_up=sorted(surplus),
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

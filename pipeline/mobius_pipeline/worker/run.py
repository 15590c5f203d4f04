"""Drives the steps, and recovers from everything in one way: begin again at the ledger."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

import structlog

from mobius_instrumentation.zones import Zone
from mobius_pipeline.dead_letters import DeadLetters
from mobius_pipeline.errors import DependencyError, TerminalError
from mobius_pipeline.kafka_client import describe_topic
from mobius_pipeline.ledger import OvertakenError
from mobius_pipeline.store import Purpose, connect, store_errors
from mobius_pipeline.worker.assign import LeaseLostError, insert_timeout_seconds, lease_errors
from mobius_pipeline.worker.backoff import Backoff
from mobius_pipeline.worker.fetch import Fetch, TopicReplacedError
from mobius_pipeline.worker.health import Health, serve_health
from mobius_pipeline.worker.loop import Loop
from mobius_pipeline.worker.metrics import RetryCause
from mobius_pipeline.worker.settings import WorkerOptions

__all__ = ["run_worker"]

# A dependency that is away is told of so often.
_REPORT_SECONDS: Final = 10.0

_log = structlog.get_logger("mobius.worker")


def run_worker(
    zone: Zone,
    stop: threading.Event,
    options: WorkerOptions | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Store the zone's spans until ``stop`` is set; then finish what was gathered, give the leases back, and return.

    Workers of one zone share its partitions among them. A broker or store that is away is waited for, as long as it
    takes, with one line of log each ten seconds.

    Raises
    ------
    OustedError
        A newer worker of the same name took this one's place.
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
            cause: RetryCause = "late_intent" if error.by == chosen.writer else "overtaken"
            health.began_again(cause)
            _log.warning("beginning again at the ledger", reason=str(error))
            backoff.wait()
        except LeaseLostError as error:
            health.began_again("lease_lost")
            _log.warning("a lease has ended; beginning again at the ledger", reason=str(error))
            backoff.wait()
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
                    remedy=error.remedy,
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
    2. Take part in sharing its partitions, and read from the ledger where ours stand.
    3. Fetch from there, and push messages through the steps.
    4. On a stop, push what is gathered through the rest of the steps, and give the partitions back.
    """
    topic = describe_topic(zone, zone.spans_topic)  # 1
    if topic is None:
        raise DependencyError(
            f"topic {zone.spans_topic}",
            ", ".join(zone.kafka),
            reason="the broker has no such topic",
            remedy="make it with `mobius-rum migrate`",
        )
    timeout = insert_timeout_seconds(options.lease_seconds)
    client = connect(zone, Purpose.INGEST, timeout_seconds=timeout)
    dead_letters = DeadLetters(zone, client)
    fetch: Fetch | None = None
    try:
        with store_errors(zone), lease_errors():
            fetch = Fetch(zone, topic, health.clock)
            loop = Loop(
                zone,
                topic,
                options,
                health,
                client=client,
                fetch=fetch,
                dead_letters=dead_letters,
            )
            try:
                loop.rebalance()  # 2
                health.began_reading(fetch.ends())
                loop.drive(stop, backoff)  # 3
                loop.close(backoff)  # 4
            except TerminalError as error:
                if not isinstance(error, OvertakenError):
                    loop.abandon()
                raise
    finally:
        dead_letters.close()
        if fetch is not None:
            fetch.close()
        client.close()

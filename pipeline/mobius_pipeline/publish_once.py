"""Publishes again what was kept apart, each thing at most once: which ones were stands in the ledger.

An intent before, an end after. The intent is a compare-and-swap (:mod:`mobius_pipeline.ledger`), so of two who publish at
once one does. Who dies between the two leaves the thing *interrupted*: it may have been published, so it is never
published again by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid4

from mobius_instrumentation.zones import Zone
from mobius_pipeline.kafka_client import broker_errors, open_producer
from mobius_pipeline.store import Purpose, connect, store_errors

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["Once", "load_marks", "publish_once"]

_COLUMNS: Final = [
    "topic",
    "topic_id",
    "partition",
    "first_offset",
    "last_offset",
    "state",
    "writer",
    "spans",
]
_PUBLISH_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class Once:
    """A thing to publish, and its place in the ledger; ``id`` names it for people, in all of the zone."""

    id: str
    topic: str
    topic_id: UUID
    partition: int
    offset: int
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


def publish_once(zone: Zone, things: Iterable[Once], verb: str) -> Iterator[str]:
    """Claim, publish to the zone's spans topic, mark; one after the other. Yields the ids of those that were.

    Raises
    ------
    DependencyError
        Broker or store do not answer; what was under way is interrupted.
    """
    writer = f"{verb}/{uuid4().hex}"
    with store_errors(zone), closing(connect(zone, Purpose.INGEST)) as client, broker_errors(zone):
        producer = open_producer(
            zone,
            client_id=f"mobius-rum {verb}",
            max_request_size=64 << 20,
            delivery_timeout_ms=_PUBLISH_SECONDS * 1000,
        )
        try:
            for thing in things:
                _mark(client, thing, "intent", writer, verb)
                if not _is_mine(client, thing, writer):
                    continue
                headers = [(f"{verb}-of", thing.id.encode()), *thing.headers]
                sent = producer.send(zone.spans_topic, value=thing.value, headers=headers)
                sent.get(_PUBLISH_SECONDS)
                _mark(client, thing, "done", writer, verb)
                yield thing.id
        finally:
            producer.close(timeout=5)


def load_marks(client: Client, topic: str) -> Mapping[tuple[UUID, int, int], bool]:
    """Whether each claimed thing was published, by topic id, partition and offset; False for an interrupted one."""
    rows = client.query(
        "SELECT topic_id, partition, first_offset, max(state = 'done') FROM ingest_ledger "
        "WHERE topic = {topic:String} GROUP BY topic_id, partition, first_offset",
        parameters={"topic": topic},
    ).result_rows
    return {
        (topic_id, int(partition), int(offset)): bool(done)
        for topic_id, partition, offset, done in rows
    }


def _mark(client: Client, thing: Once, state: str, writer: str, verb: str) -> None:
    place = [thing.topic, thing.topic_id, thing.partition, thing.offset, thing.offset]
    client.insert(
        "ingest_ledger",
        [[*place, state, writer, 0]],
        _COLUMNS,
        settings={"insert_deduplication_token": f"{verb}/{thing.id}/{state}"},
    )


def _is_mine(client: Client, thing: Once, writer: str) -> bool:
    rows = client.query(
        "SELECT writer FROM ingest_ledger WHERE topic = {topic:String} AND topic_id = {id:UUID} "
        "AND partition = {partition:UInt32} AND first_offset = {offset:UInt64} AND state = 'intent' ORDER BY at LIMIT 1",
        parameters={
            "topic": thing.topic,
            "id": thing.topic_id,
            "partition": thing.partition,
            "offset": thing.offset,
        },
    ).result_rows
    return bool(rows) and rows[0][0] == writer

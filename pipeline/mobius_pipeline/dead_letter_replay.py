"""Looks through a zone's dead letters, and publishes them again: each at most once (:mod:`mobius_pipeline.publish_once`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal
from uuid import UUID, uuid5

from kafka import TopicPartition

from mobius_instrumentation.zones import Zone
from mobius_pipeline.dead_letters import CUT_HEADER
from mobius_pipeline.errors import DependencyError, UsageError
from mobius_pipeline.kafka_client import (
    broker_errors,
    content_encoding,
    describe_topic,
    end_offsets,
    open_consumer,
)
from mobius_pipeline.publish_once import Once, load_marks, publish_once
from mobius_pipeline.store import Purpose, connect, store_errors

__all__ = ["Letter", "Replayed", "find_letters", "letter_value", "replay"]

State = Literal["dead", "interrupted", "replayed"]

_POLLS_WITHOUT_ANSWER: Final = 20


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter by the position it had in the spans' topic; ``bytes`` is its size, ``at`` when it was written."""

    topic: str
    topic_id: UUID
    partition: int
    offset: int
    reason: str
    bytes: int
    at: datetime
    state: State

    @property
    def id(self) -> str:
        """Its identity, as a key: topic id, partition, offset."""
        return f"{self.topic_id}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay did, by ids.

    ``missing``: the dead-letter topic no longer has their bytes, or never had all of them.
    """

    replayed: tuple[str, ...]
    already: tuple[str, ...]
    interrupted: tuple[str, ...]
    missing: tuple[str, ...]


def find_letters(zone: Zone) -> list[Letter]:
    """All dead letters of the zone, oldest first.

    Raises
    ------
    DependencyError
        The store does not answer.
    """
    with store_errors(zone), closing(connect(zone, Purpose.ANALYSIS)) as client:
        found = client.query(
            "SELECT topic, topic_id, partition, offset, reason, bytes, at FROM dead_letters FINAL "
            "ORDER BY at, topic_id, partition, offset"
        ).result_rows
        marks = load_marks(client, zone.dead_letters_topic)
    return [
        Letter(
            topic,
            topic_id,
            int(partition),
            int(offset),
            reason,
            int(size),
            at.replace(tzinfo=UTC),
            _state(marks, (_mark_id(topic_id), int(partition), int(offset))),
        )
        for topic, topic_id, partition, offset, reason, size, at in found
    ]


def letter_value(zone: Zone, letter: Letter) -> tuple[bytes, str] | None:
    """Bytes and content encoding of a letter; None where the dead-letter topic has none.

    Raises
    ------
    DependencyError
        The broker does not answer.
    """
    return _values(zone, [letter.id]).get(letter.id)


def replay(zone: Zone, ids: Sequence[str] = (), *, dry_run: bool = False) -> Replayed:
    """Publish dead letters again to the zone's spans topic, all that were not yet, or those with these ids.

    A letter that still cannot be read becomes another dead letter, at its new offset.

    Raises
    ------
    UsageError
        There is no dead letter of such an id; nothing was published.
    DependencyError
        Broker or store do not answer; letters that were under way are interrupted.
    """
    letters = find_letters(zone)
    if unknown := set(ids) - {letter.id for letter in letters}:
        raise UsageError(f"no dead letter {min(unknown)} in zone {zone.name}")
    chosen = [letter for letter in letters if not ids or letter.id in ids]
    dead = [letter for letter in chosen if letter.state == "dead"]
    values = _values(zone, [letter.id for letter in dead])
    ready = [_once(zone, letter, *values[letter.id]) for letter in dead if letter.id in values]
    done = [one.id for one in ready] if dry_run else list(publish_once(zone, ready, "replay"))
    return Replayed(
        replayed=tuple(done),
        already=tuple(letter.id for letter in chosen if letter.state == "replayed"),
        interrupted=tuple(letter.id for letter in chosen if letter.state == "interrupted"),
        missing=tuple(letter.id for letter in dead if letter.id not in values),
    )


def _mark_id(topic_id: UUID) -> UUID:
    return uuid5(topic_id, "replayed dead letters")


def _once(zone: Zone, letter: Letter, value: bytes, encoding: str) -> Once:
    headers = (("content-encoding", encoding.encode()),) if encoding else ()
    return Once(
        letter.id,
        zone.dead_letters_topic,
        _mark_id(letter.topic_id),
        letter.partition,
        letter.offset,
        value,
        headers,
    )


def _state(marks: Mapping[tuple[UUID, int, int], bool], place: tuple[UUID, int, int]) -> State:
    done = marks.get(place)
    return "dead" if done is None else "replayed" if done else "interrupted"


def _values(zone: Zone, ids: Iterable[str]) -> dict[str, tuple[bytes, str]]:
    """Bytes and content encoding by id, from the dead-letter topic."""
    wanted = set(ids)
    topic = describe_topic(zone, zone.dead_letters_topic) if wanted else None
    if topic is None:
        return {}
    ends = end_offsets(zone, topic.name, topic.partitions)
    found: dict[str, tuple[bytes, str]] = {}
    with (
        closing(open_consumer(zone, max_partition_fetch_bytes=64 << 20)) as consumer,
        broker_errors(zone),
    ):
        keys = [TopicPartition(topic.name, number) for number in topic.partitions]
        consumer.assign(keys)
        begins = consumer.beginning_offsets(keys)
        for key in keys:
            consumer.seek(key, begins[key])
        silent = 0
        while any(consumer.position(key) < ends[key.partition] for key in keys):
            polled = consumer.poll(500)
            silent = 0 if polled else silent + 1
            if silent > _POLLS_WITHOUT_ANSWER:
                raise DependencyError(
                    f"the Kafka broker of zone {zone.name}",
                    ", ".join(zone.kafka),
                    reason="no answer to a fetch",
                )
            for record in (record for records in polled.values() for record in records):
                name = (record.key or b"").decode("utf-8", "replace")
                whole = all(key != CUT_HEADER for key, _ in record.headers)
                if name in wanted and record.value is not None and whole:
                    found[name] = record.value, content_encoding(record.headers)
    return found

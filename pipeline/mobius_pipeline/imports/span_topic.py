"""The zone's spans topic as an importer sees it: where it ends, what of an import it holds, publishing."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from kafka import TopicPartition

from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import DependencyError
from mobius_pipeline.kafka_client import (
    broker_errors,
    describe_topic,
    end_offsets,
    open_consumer,
    open_producer,
)

__all__ = ["Position", "SpanTopic"]

_DIGEST_HEADER: Final = "mobius-import"
_SEQUENCE_HEADER: Final = "mobius-import-sequence"
# Messages under way at once; they bound the memory that a slow broker can make us hold (1 MB each).
_UNDER_WAY: Final = 16
_ANSWER_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Position:
    """Place of one message in the topic."""

    partition: int
    offset: int


class SpanTopic:
    """The spans topic of one zone. Every failure of the broker becomes a DependencyError that names it."""

    def __init__(self, zone: Zone, clock: Callable[[], float] = time.monotonic) -> None:
        self._zone = zone
        self._clock = clock
        topic = describe_topic(zone, zone.spans_topic)
        if topic is None:
            raise DependencyError(
                f"topic {zone.spans_topic} of zone {zone.name}",
                ", ".join(zone.kafka),
                reason="the broker has no such topic",
                remedy="make it with `mobius-rum migrate`",
            )
        self._topic = topic

    @property
    def id(self) -> UUID:
        """The broker's own id of the topic: a topic that was made anew has another one."""
        return self._topic.id

    def ends(self) -> Mapping[int, int]:
        """Return the offset behind the last message of each partition."""
        return end_offsets(self._zone, self._topic.name, self._topic.partitions)

    def find(self, digest: str, since: Mapping[int, int]) -> dict[int, Position]:
        """Find the messages of an import by its digest: sequence number to position.

        Reads each partition from ``since`` (its beginning where it has none) up to its present end.
        """
        found: dict[int, Position] = {}
        ends = {n: end for n, end in self.ends().items() if since.get(n, 0) < end}
        places = [TopicPartition(self._topic.name, number) for number in ends]
        if not places:
            return found
        consumer = open_consumer(self._zone)
        with broker_errors(self._zone), closing(consumer):
            consumer.assign(places)
            for place in places:
                consumer.seek(place, since.get(place.partition, 0))
            deadline = self._clock() + _ANSWER_SECONDS
            while any(consumer.position(place) < ends[place.partition] for place in places):
                for record in (r for records in consumer.poll(500).values() for r in records):
                    deadline = self._clock() + _ANSWER_SECONDS
                    headers = dict(record.headers)
                    if headers.get(_DIGEST_HEADER) == digest.encode():
                        position = Position(record.partition, record.offset)
                        found[int(headers[_SEQUENCE_HEADER])] = position
                if self._clock() > deadline:
                    raise DependencyError(
                        f"the Kafka broker of zone {self._zone.name}",
                        ", ".join(self._zone.kafka),
                        reason="no answer to a fetch",
                    )
        return found

    def publish(
        self,
        digest: str,
        messages: Iterable[tuple[int, int, bytes]],
        published: Callable[[int, int, Position], None],
    ) -> None:
        """Publish ``messages`` (sequence number, spans, bytes); tell ``published`` of each one acknowledged."""
        with broker_errors(self._zone):
            producer = open_producer(
                self._zone,
                bootstrap_timeout_ms=5_000,
                linger_ms=10,
                batch_size=1 << 20,
                max_request_size=2 << 20,
                delivery_timeout_ms=60_000,
                request_timeout_ms=30_000,
            )
            waiting: deque[tuple[int, int, Any]] = deque()

            def settle(limit: int) -> None:
                while len(waiting) > limit:
                    sequence, spans, future = waiting.popleft()
                    answer = future.get(timeout=60)
                    published(sequence, spans, Position(answer.partition, answer.offset))

            try:
                for sequence, spans, message in messages:
                    future = producer.send(
                        self._zone.spans_topic,
                        value=message,
                        partition=self._topic.partitions[sequence % len(self._topic.partitions)],
                        headers=[
                            ("content-type", b"application/x-protobuf"),
                            (_DIGEST_HEADER, digest.encode()),
                            (_SEQUENCE_HEADER, str(sequence).encode()),
                        ],
                    )
                    waiting.append((sequence, spans, future))
                    settle(_UNDER_WAY)
                settle(0)
            finally:
                producer.close(timeout=5)

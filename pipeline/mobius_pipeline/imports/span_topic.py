"""The zone's spans topic as an importer sees it: where it ends, what of an import it holds, publishing."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import DependencyError

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
        with self._named():
            admin = KafkaAdminClient(
                bootstrap_servers=list(zone.kafka),
                bootstrap_timeout_ms=5_000,
                request_timeout_ms=10_000,
            )
            try:
                (topic,) = admin.describe_topics([zone.spans_topic])
            finally:
                admin.close()
        if topic["error_code"] or not topic["partitions"]:
            raise DependencyError(
                f"topic {zone.spans_topic} of zone {zone.name}",
                ", ".join(zone.kafka),
                reason="the broker has no such topic",
                remedy="make it with `mobius-rum migrate`",
            )
        self.topic_id = UUID(str(topic["topic_id"]))
        self.partitions = tuple(sorted(p["partition_index"] for p in topic["partitions"]))

    def ends(self) -> dict[int, int]:
        """Return an offset per partition that is at or before its end; new messages come after it.

        Some brokers report the begin of the last batch as the end, hence "at or before".
        """
        with self._named(), self._consumer() as consumer:
            ends = consumer.end_offsets(self._all())
        return {place.partition: offset for place, offset in ends.items()}

    def find(self, digest: str, since: Mapping[int, int]) -> dict[int, Position]:
        """Find the messages of an import by its digest: sequence number to position.

        Reads each partition from ``since`` (its beginning where it has none) up to its high watermark.
        """
        found: dict[int, Position] = {}
        with self._named(), self._consumer() as consumer:
            for place in (places := self._all()):
                consumer.seek(place, since.get(place.partition, 0))
            deadline = self._clock() + _ANSWER_SECONDS
            while any(
                (end := consumer.highwater(place)) is None or consumer.position(place) < end
                for place in places
            ):
                for record in (r for records in consumer.poll(500).values() for r in records):
                    deadline = self._clock() + _ANSWER_SECONDS
                    headers = dict(record.headers)
                    if headers.get(_DIGEST_HEADER) == digest.encode():
                        found[int(headers[_SEQUENCE_HEADER])] = Position(
                            record.partition, record.offset
                        )
                if self._clock() > deadline:
                    raise self._away("no answer to fetch requests")
        return found

    def publish(
        self,
        digest: str,
        messages: Iterable[tuple[int, int, bytes]],
        published: Callable[[int, int, Position], None],
    ) -> None:
        """Publish ``messages`` (sequence number, spans, bytes); tell ``published`` of each one acknowledged."""
        with self._named():
            producer = KafkaProducer(
                bootstrap_servers=list(self._zone.kafka),
                bootstrap_timeout_ms=5_000,
                acks="all",
                enable_idempotence=True,
                linger_ms=10,
                batch_size=1 << 20,
                max_request_size=2 << 20,
                delivery_timeout_ms=60_000,
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
                        partition=self.partitions[sequence % len(self.partitions)],
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

    def _all(self) -> list[TopicPartition]:
        return [TopicPartition(self._zone.spans_topic, number) for number in self.partitions]

    @contextmanager
    def _consumer(self) -> Iterator[Any]:
        consumer = KafkaConsumer(
            bootstrap_servers=list(self._zone.kafka),
            bootstrap_timeout_ms=5_000,
            group_id=None,
            enable_auto_commit=False,
            fetch_max_wait_ms=500,
            auto_offset_reset="earliest",
        )
        try:
            consumer.assign(self._all())
            yield consumer
        finally:
            consumer.close()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except (KafkaError, OSError) as error:
            raise self._away(str(error) or type(error).__name__) from error

    def _away(self, reason: str) -> DependencyError:
        return DependencyError(
            f"the broker of zone {self._zone.name}", ", ".join(self._zone.kafka), reason=reason
        )

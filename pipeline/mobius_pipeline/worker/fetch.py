"""Step 1: read the topic's partitions from where the ledger stands; no group decides, the ledger does.

Partitions are assigned by hand, by leases in the store: a worker starts in milliseconds (joining a group takes
seconds), and what keeps two workers from storing the same data in two ways is the ledger, not the broker's view of who
is alive.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from kafka import TopicPartition
from kafka.errors import KafkaError, OffsetOutOfRangeError
from kafka.structs import OffsetAndMetadata

from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import DependencyError, TerminalError
from mobius_pipeline.kafka_client import (
    Topic,
    broker_errors,
    content_encoding,
    end_offsets,
    open_admin,
    open_consumer,
    topic_from,
)
from mobius_pipeline.ledger import Standing
from mobius_pipeline.worker.steps import Message

__all__ = ["Fetch", "TopicReplacedError"]

# A broker that was started anew, or is away, is noticed this soon although no message comes.
_IDLE_CHECK_SECONDS: Final = 2.0
_COMMIT_SECONDS: Final = 5.0
# Between two looks at how much is gathered, and at who works.
MOST_POLLED: Final = 2_000


class TopicReplacedError(Exception):
    """The topic is another one now than the one that was assigned: begin again at the ledger."""


class Fetch:
    """Messages of one topic, from given offsets on, in offset order within each partition."""

    def __init__(
        self, zone: Zone, topic: Topic, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Open the clients; nothing is read before :meth:`add`.

        Raises
        ------
        DependencyError
            The broker does not answer.
        """
        self._zone = zone
        self._topic = topic
        self._clock = clock
        self._committed = clock()
        self._stored: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._paused: frozenset[int] = frozenset()
        self._heard = clock()
        self._consumer: Any = open_consumer(
            zone,
            # For the commit that monitors read; no group is joined.
            group_id=f"mobius-ingest-{zone.name}",
            # A fetch of the embedded broker returns no more than this.
            max_partition_fetch_bytes=5 << 20,
            # What one broker sends at a time; it is held beside what the batches hold.
            fetch_max_bytes=16 << 20,
            max_poll_records=MOST_POLLED,
        )
        self._admin: Any = None
        try:
            self._admin = open_admin(zone)
        except BaseException:
            self.close()
            raise

    def add(self, standings: Mapping[int, Standing]) -> None:
        """Read these partitions too, each from where it stands.

        Raises
        ------
        DependencyError
            The broker does not answer.
        TerminalError
            The broker no longer has, or does not have yet, an offset that the ledger continues from.
        """
        positions = {
            partition: standing.unfinished[0] if standing.unfinished else standing.next_offset
            for partition, standing in standings.items()
        }
        with broker_errors(self._zone):
            keys = {number: self._key(number) for number in positions}
            begins = self._consumer.beginning_offsets(list(keys.values()))
            ends = end_offsets(self._zone, self._topic.name, positions)
            for number, position in positions.items():
                if not int(begins[keys[number]]) <= position <= ends[number]:
                    raise self._cut_off(number, position, begins[keys[number]], ends[number])
            self._ends |= ends
            self._assign()
            for number, position in positions.items():
                self._consumer.seek(keys[number], position)

    def drop(self, partitions: Iterable[int]) -> None:
        """Read these partitions no more; what is fetched of them and not yet given is forgotten."""
        for number in partitions:
            del self._ends[number]
            self._stored.pop(number, None)
        self._paused &= frozenset(self._ends)
        self._assign()

    def pause(self, partitions: frozenset[int]) -> None:
        """Fetch nothing of these partitions for now, and of all others again; positions stay as they are."""
        if resumed := self._paused - partitions:
            self._consumer.resume(*map(self._key, resumed))
        if paused := partitions - self._paused:
            self._consumer.pause(*map(self._key, paused))
        self._paused = partitions

    @property
    def paused(self) -> frozenset[int]:
        """Partitions that are paused."""
        return self._paused

    def poll(self, seconds: float) -> list[Message]:
        """Wait for messages, at most ``seconds``.

        Raises
        ------
        DependencyError
            The broker does not answer.
        TopicReplacedError
            The topic was made anew.
        TerminalError
            The broker no longer has the next offset.
        """
        if not self._ends:
            time.sleep(seconds)
        try:
            with broker_errors(self._zone):
                records = self._consumer.poll(int(seconds * 1000)) if self._ends else {}
        except (DependencyError, TerminalError) as error:
            if isinstance(error.__cause__, OffsetOutOfRangeError):
                raise self._gone(error.__cause__) from error
            raise
        messages = [
            Message(key.partition, record.offset, record.value, content_encoding(record.headers))
            for key, batch in records.items()
            for record in batch
        ]
        if messages:
            self._heard = self._clock()
        elif self._clock() - self._heard >= _IDLE_CHECK_SECONDS:
            self.check_identity()
        return messages

    def check_identity(self) -> None:
        """Make sure that what was fetched so far came from the topic that was assigned.

        A topic's id never comes back, so when it is unchanged now, it was unchanged at every fetch before.

        Raises
        ------
        DependencyError
            The broker does not answer.
        TopicReplacedError
            The topic was deleted, or made anew.
        """
        with broker_errors(self._zone):
            now = topic_from(self._admin, self._topic.name)
        if now is None or now.id != self._topic.id:
            raise TopicReplacedError(self._topic.name)
        self._heard = self._clock()

    @property
    def heard(self) -> float:
        """When the broker last answered, by the clock given."""
        return self._heard

    def ends(self) -> Mapping[int, int]:
        """Offset after the last message of each partition, as far as the broker has told with what was fetched."""
        for number in self._ends:
            end = self._consumer.highwater(self._key(number))
            self._ends[number] = max(self._ends[number], end or 0)
        return self._ends

    def commit(self, partition: int, offset: int) -> None:
        """Let lag monitors of the consumer group see how far the store is; now and then, and best effort."""
        self._stored[partition] = offset
        if self._clock() - self._committed < _COMMIT_SECONDS:
            return
        self._committed = self._clock()
        with contextlib.suppress(KafkaError, OSError, AssertionError):
            self._consumer.commit_async(
                {
                    self._key(number): OffsetAndMetadata(end, "", -1)
                    for number, end in self._stored.items()
                }
            )

    def close(self) -> None:
        """Close the connections."""
        for client in (self._consumer, self._admin):
            if client is not None:
                with contextlib.suppress(KafkaError, OSError):
                    client.close()

    def _key(self, number: int) -> Any:
        return TopicPartition(self._topic.name, number)

    def _assign(self) -> None:
        self._consumer.assign([self._key(number) for number in self._ends])

    def _cut_off(self, number: int, position: int, begin: int, end: int) -> TerminalError:
        return TerminalError(
            f"partition {number} of {self._topic.name} (topic id {self._topic.id}): the ledger goes on at "
            f"offset {position}, but the broker has {begin} to {end} only. "
            "Messages were deleted before they were stored, or the log was cut; nothing is skipped. "
            "Raise the topic's retention; make the topic anew to begin again"
        )

    def _gone(self, error: Exception) -> TerminalError:
        return TerminalError(
            f"{self._topic.name}: the broker no longer has the next offset ({error}): messages were deleted before they "
            "were stored; nothing is skipped. Raise the topic's retention; make the topic anew to begin again"
        )

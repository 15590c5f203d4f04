"""Messages that cannot be read: their bytes go to the zone's dead-letter topic, their position and reason to the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import DependencyError
from mobius_pipeline.kafka_client import REFUSED_SIZES, Topic, broker_errors, open_producer

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["CUT_HEADER", "DeadLetter", "DeadLetters"]

CUT_HEADER: Final = "whole-size"
"""Header of a dead letter that holds the begin of its message alone: the whole message's bytes."""

_COLUMNS: Final = ["topic", "topic_id", "partition", "offset", "reason", "bytes"]
_FLUSH_SECONDS: Final = 30
_KEPT_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One unreadable message; ``encoding`` is its content-encoding header, "" where it has none.

    ``whole_size`` is the message's size where ``value`` is its begin alone, else None.
    """

    offset: int
    reason: str
    value: bytes | None
    encoding: str = ""
    whole_size: int | None = None

    @property
    def size(self) -> int:
        """Bytes of the message, also where ``value`` is its begin alone."""
        return len(self.value or b"") if self.whole_size is None else self.whole_size

    def cut(self) -> DeadLetter:
        """Return the letter with the begin of its value alone, saying so in its reason."""
        kept = (self.value or b"")[:_KEPT_BYTES]
        reason = f"{self.reason}; of its {self.size} bytes the dead-letter topic takes no more than the first {len(kept)}"
        return replace(self, reason=reason, value=kept, whole_size=self.size)


class DeadLetters:
    """Writes dead letters of one zone. A message that is written again is one row still, known by its position."""

    def __init__(self, zone: Zone, client: Client) -> None:
        self._zone = zone
        self._client = client
        self._producer: Any = None

    def write(
        self, topic: Topic, partition: int, letters: Sequence[DeadLetter], token: str
    ) -> None:
        """Write the letters; returns when broker and store hold them. The same ``token`` again is no second row.

        Raises
        ------
        DependencyError
            The broker does not take them.
        """
        if not letters:
            return
        with broker_errors(self._zone):
            try:
                self._publish(topic, partition, letters)
            except REFUSED_SIZES:
                letters = [self._publish_one(topic, partition, letter) for letter in letters]
        rows = [
            [topic.name, topic.id, partition, letter.offset, letter.reason, letter.size]
            for letter in letters
        ]
        self._client.insert(
            "dead_letters", rows, _COLUMNS, settings={"insert_deduplication_token": token}
        )

    def _publish(self, topic: Topic, partition: int, letters: Sequence[DeadLetter]) -> None:
        """Publish the letters; returns when the broker holds them."""
        producer = self._open()
        sent = [
            producer.send(
                self._zone.dead_letters_topic,
                # A record without a value needs a key; and a compacted topic keeps one of each.
                key=f"{topic.id}/{partition}/{letter.offset}".encode(),
                value=letter.value,
                headers=_headers(topic, partition, letter),
            )
            for letter in letters
        ]
        producer.flush(timeout=_FLUSH_SECONDS)
        for future in sent:
            if not future.is_done:
                raise DependencyError(
                    f"the Kafka broker of zone {self._zone.name}",
                    ", ".join(self._zone.kafka),
                    reason="dead letters were not taken in time",
                )
            future.get(timeout=0)

    def _publish_one(self, topic: Topic, partition: int, letter: DeadLetter) -> DeadLetter:
        """Publish one letter, its begin alone where the broker does not take the whole; returns what was published.

        A batch that was compressed can hold a message that is far beyond any limit: it must not stop the worker.
        """
        # After one refusal kafka-python's idempotent producer refuses all that follows.
        self.close()
        try:
            self._publish(topic, partition, [letter])
        except REFUSED_SIZES:
            self.close()
            cut = letter.cut()
            self._publish(topic, partition, [cut])
            return cut
        return letter

    def close(self) -> None:
        """Close the producer, if one was needed."""
        if self._producer is not None:
            self._producer.close(timeout=5)
            self._producer = None

    def _open(self) -> Any:
        if self._producer is None:
            self._producer = open_producer(
                self._zone,
                client_id="mobius-rum dead letters",
                max_request_size=64 << 20,
                # What came in a compressed batch may be larger than the topic takes otherwise.
                compression_type="gzip",
                delivery_timeout_ms=_FLUSH_SECONDS * 1000,
            )
        return self._producer


def _headers(topic: Topic, partition: int, letter: DeadLetter) -> list[tuple[str, bytes]]:
    headers = {
        "topic": topic.name,
        "topic-id": str(topic.id),
        "partition": str(partition),
        "offset": str(letter.offset),
        "reason": letter.reason,
    }
    if letter.encoding:
        headers["content-encoding"] = letter.encoding
    if letter.whole_size is not None:
        headers[CUT_HEADER] = str(letter.whole_size)
    return [(name, value.encode()) for name, value in headers.items()]

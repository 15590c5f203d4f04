"""Messages that cannot be read: their bytes go to the zone's dead-letter topic, their position and reason to the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from kafka import KafkaProducer

from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import DependencyError
from mobius_pipeline.kafka_client import Topic, broker_errors

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["DeadLetter", "DeadLetters"]

_COLUMNS: Final = ["topic", "topic_id", "partition", "offset", "reason", "bytes"]
_FLUSH_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One unreadable message; ``encoding`` is its content-encoding header, "" where it has none."""

    offset: int
    reason: str
    value: bytes | None
    encoding: str = ""


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
            producer = self._open()
            sent = [
                producer.send(
                    self._zone.dead_letters_topic,
                    # A record without a value needs a key; and a compacted topic keeps one of each.
                    key=f"{topic.id}/{partition}/{letter.offset}".encode(),
                    value=letter.value,
                    headers=[
                        ("topic", topic.name.encode()),
                        ("topic-id", str(topic.id).encode()),
                        ("partition", str(partition).encode()),
                        ("offset", str(letter.offset).encode()),
                        ("reason", letter.reason.encode()),
                        *(
                            [("content-encoding", letter.encoding.encode())]
                            if letter.encoding
                            else []
                        ),
                    ],
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
        rows = [
            [
                topic.name,
                topic.id,
                partition,
                letter.offset,
                letter.reason,
                len(letter.value or b""),
            ]
            for letter in letters
        ]
        self._client.insert(
            "dead_letters", rows, _COLUMNS, settings={"insert_deduplication_token": token}
        )

    def close(self) -> None:
        """Close the producer, if one was needed."""
        if self._producer is not None:
            self._producer.close(timeout=5)
            self._producer = None

    def _open(self) -> Any:
        if self._producer is None:
            self._producer = KafkaProducer(
                bootstrap_servers=list(self._zone.kafka),
                client_id="mobius-rum dead letters",
                acks="all",
                max_request_size=64 << 20,
                delivery_timeout_ms=_FLUSH_SECONDS * 1000,
                request_timeout_ms=10_000,
            )
        return self._producer

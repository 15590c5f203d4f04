"""Send encoded messages to a zone's topic and count exactly what the broker took."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Any, Final, Self

from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import DependencyError
from mobius_pipeline.kafka_client import broker_errors, describe_topic, open_producer

__all__ = ["Push"]

_MAX_REQUEST_BYTES: Final = 4 * 1024 * 1024
_MOST_PENDING: Final = 256  # messages of about 60 kB: the client itself sets no bound
_ACK_SECONDS: Final = 60
_HEADERS: Final = [("content-type", b"application/x-protobuf")]


class Push:
    """Messages on their way to one zone's spans topic; use it as a context manager.

    Partitions are taken in turn, so that workers share the load evenly.
    """

    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        self._topic = zone.spans_topic
        self._pending: deque[tuple[Any, int]] = deque()
        self._spans = 0
        self._sent = 0
        topic = describe_topic(zone, self._topic)
        if topic is None:
            reason = f"it has no topic {self._topic}"
            raise DependencyError(
                f"the Kafka broker of zone {zone.name}", ", ".join(zone.kafka), reason=reason
            )
        self._partitions = topic.partitions
        with broker_errors(zone):
            self._producer = open_producer(
                zone,
                linger_ms=20,
                batch_size=512 * 1024,
                max_request_size=_MAX_REQUEST_BYTES,
                client_id="mobius-demo-history",
                request_timeout_ms=30_000,
            )

    def send(self, octets: bytes, spans: int) -> None:
        """Queue one message that holds ``spans`` spans; waits while too many are on their way."""
        partition = self._partitions[self._sent % len(self._partitions)]
        with broker_errors(self._zone):
            sent = self._producer.send(self._topic, octets, partition=partition, headers=_HEADERS)
            while len(self._pending) >= _MOST_PENDING:
                self._settle()
        self._sent += 1
        self._pending.append((sent, spans))

    def acknowledged(self) -> int:
        """Wait for every message and return the number of spans that the broker has acknowledged.

        Raises
        ------
        DependencyError
            The broker did not take a message.
        """
        with broker_errors(self._zone):
            self._producer.flush(timeout=_ACK_SECONDS)
            while self._pending:
                self._settle()
        return self._spans

    def _settle(self) -> None:
        """Wait for the oldest message and count its spans."""
        sent, spans = self._pending.popleft()
        sent.get(timeout=_ACK_SECONDS)
        self._spans += spans

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connection; what is not acknowledged by then is given up."""
        self._producer.close(timeout=5)

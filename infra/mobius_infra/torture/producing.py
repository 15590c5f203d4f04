"""Publishes the campaign's messages beside everything else, over every death of the broker."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from kafka import KafkaProducer
from kafka.errors import KafkaError

from mobius_infra.torture.span_messages import Made

__all__ = ["Producing"]

_IN_FLIGHT: Final = 200
_WAIT_SECONDS: Final = 0.05
# Longer than any death of the broker; a message that is given up all the same is sent again by us.
_DELIVERY_MS: Final = 1_200_000


class Producing(threading.Thread):
    """Publishes as long as fewer than ``allowed`` spans are published; idempotent, all acknowledged.

    What is published counts as acknowledged only.
    """

    def __init__(self, address: str, topic: str, messages: Iterator[Made]) -> None:
        super().__init__(name="producer", daemon=True)
        self._address = address
        self._topic = topic
        self._messages = messages
        self._ended = threading.Event()
        self.allowed = 0.0
        self.published = 0
        self.repeated = 0
        self.failure: Exception | None = None
        self.done = False

    def stop(self) -> None:
        """End early."""
        self._ended.set()
        self.join(timeout=30)

    def run(self) -> None:
        """Publish; what goes wrong for good is in ``failure``."""
        try:
            self._publish()
            self.done = True
        except Exception as error:  # noqa: BLE001 - a thread has nobody else to tell
            self.failure = error

    def _publish(self) -> None:
        producer: Any = None
        waiting: deque[tuple[Made, Any]] = deque()
        again: deque[Made] = deque()
        sent = 0
        more = True
        while (more or waiting or again) and not self._ended.is_set():
            if producer is None:
                producer = self._open()
                if producer is None:
                    continue
            while len(waiting) < _IN_FLIGHT and (again or (more and sent < self.allowed)):
                made = again.popleft() if again else next(self._messages, None)
                if made is None:
                    more = False
                    break
                sent += made.spans
                waiting.append((made, self._send(producer, made)))
            if not waiting:
                self._ended.wait(_WAIT_SECONDS)
                continue
            made, future = waiting.popleft()
            try:
                future.get(timeout=1)
                self.published += made.spans
            except KafkaError:
                if not future.is_done:
                    waiting.appendleft((made, future))
                    continue
                # Given up by the client. Maybe the broker has it: then it has it twice, as the topic will tell.
                self.repeated += 1
                again.append(made)
                sent -= made.spans
                # An idempotent producer that has failed once fails for ever.
                producer.close(timeout=0)
                producer = None
        if producer is not None:
            producer.close(timeout=5)

    def _send(self, producer: Any, made: Made) -> Any:
        return producer.send(self._topic, value=made.value, partition=made.partition)

    def _open(self) -> Any:
        try:
            return KafkaProducer(
                bootstrap_servers=[self._address],
                client_id="mobius-rum torture",
                acks="all",
                enable_idempotence=True,
                linger_ms=5,
                delivery_timeout_ms=_DELIVERY_MS,
                request_timeout_ms=10_000,
                max_block_ms=_DELIVERY_MS,
            )
        except (KafkaError, OSError):
            time.sleep(_WAIT_SECONDS)
            return None

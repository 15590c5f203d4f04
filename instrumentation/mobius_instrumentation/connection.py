"""The exporter's Kafka client: made when it is needed, replaced when it breaks, quiet in the logs."""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import kafka.errors
from kafka import KafkaProducer

from mobius_instrumentation.kafka_probe import knock

__all__ = ["REFUSALS", "THREAD_NAME", "TOO_BIG", "KafkaConnection"]

_log: Final = logging.getLogger("mobius_instrumentation")

THREAD_NAME: Final = "mobius-exporter"
"""Name of the exporter's thread, and part of the names of its client's threads."""

REFUSALS: Final = (
    kafka.errors.CorruptRecordError,
    kafka.errors.InvalidRecordError,
    kafka.errors.MessageSizeTooLargeError,
    kafka.errors.RecordListTooLargeError,
    kafka.errors.UnsupportedCompressionTypeError,
)
"""Errors that say that the broker will never take this message; all others are worth another try."""

TOO_BIG: Final = (
    kafka.errors.MessageSizeTooLargeError,
    kafka.errors.RecordListTooLargeError,
)
"""Those of :data:`REFUSALS` that a smaller message does not meet."""

_HEADERS: Final = [("content-type", b"application/x-protobuf")]
_SETTINGS: Final[dict[str, Any]] = {
    # A span counts as sent when no single broker can lose it; a retry does not store it twice.
    "acks": "all",
    "enable_idempotence": True,
    # The client's own retries keep idempotence, a new client's would not: so it gets time for a
    # broker's restart or a change of leader. Not more, because kafka-python tries for ever with a
    # session that the broker has forgotten; a new client then sends the message again.
    "request_timeout_ms": 10_000,
    "delivery_timeout_ms": 30_000,
    "max_in_flight_requests_per_connection": 5,
    # A message is a batch already: waiting for more would only delay it.
    "linger_ms": 0,
    # Nor are several put into one record batch: that is what a topic's max.message.bytes bounds.
    "batch_size": 0,
    "max_request_size": 1_048_576,
    # Topics are made with the zone, by whoever runs it, never by a service's typing error.
    "allow_auto_create_topics": False,
    # Short, so that the thread notices a shutdown while the broker is away.
    "bootstrap_timeout_ms": 2_000,
    "max_block_ms": 2_000,
    "reconnect_backoff_max_ms": 2_000,
    "metrics_enabled": False,
    "client_id": THREAD_NAME,
}

_KNOCK_SECONDS: Final = 2.0


class _OwnThreadsQuiet(logging.Filter):
    """Keeps what our client says from the service's log, where it would fill pages in an outage.

    The exporter reports the last problem itself, once a minute. Other Kafka clients of the service
    log as before, and ours too where the logger ``mobius_instrumentation`` is set to DEBUG.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is shown."""
        return THREAD_NAME not in (record.threadName or "") or _log.isEnabledFor(logging.DEBUG)


_QUIET: Final = _OwnThreadsQuiet()


def _quieten() -> None:
    # A filter acts on its own logger only, not on those below it.
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("kafka."):
            logging.getLogger(name).addFilter(_QUIET)


class KafkaConnection:
    """One topic's client. Used by one thread, except :meth:`report_failure`.

    ``options`` is asked for the client's settings before each new one; ``on_connect`` is called in that thread after it.
    """

    def __init__(
        self,
        servers: Sequence[str],
        topic: str,
        options: Callable[[], Mapping[str, Any]],
        on_connect: Callable[[], None],
    ) -> None:
        self._servers = list(servers)
        self._topic = topic
        self._options = options
        self._on_connect = on_connect
        self._lock = threading.Lock()
        self._producer: KafkaProducer | None = None
        self._broken: KafkaProducer | None = None
        self._turn = 0
        self._refused = False

    @property
    def broken(self) -> bool:
        """Whether the client failed a message, so that a new one will take its place."""
        return self._broken is not None and self._broken is self._producer

    def send(self, payload: bytes) -> tuple[KafkaProducer, Any]:
        """Hand a message to the client; returns it, and the future of the broker's acknowledgement.

        Blocks up to a few seconds while the broker is away.

        Raises
        ------
        Exception
            Whatever the client raises; :data:`REFUSALS` say that trying again is useless.
        """
        producer = self._connect()
        # In turn rather than at random, so that every partition's worker gets the same load.
        partitions = sorted(producer.partitions_for(self._topic))
        self._turn += 1
        future = producer.send(
            self._topic,
            value=payload,
            headers=_HEADERS,
            partition=partitions[self._turn % len(partitions)],
        )
        return producer, future

    def report_failure(self, producer: KafkaProducer) -> bool:
        """Say that ``producer`` failed a message: it is replaced before the next one. True the first time."""
        with self._lock:
            first = self._broken is not producer
            self._broken = producer
        return first

    def _connect(self) -> KafkaProducer:
        if self.broken:
            self.close()
        if self._producer is None:
            _quieten()
            settings = {"bootstrap_servers": self._servers, **_SETTINGS, **self._options()}
            if self._refused or "sasl_mechanism" in settings:
                # One attempt that says why it failed, where the client would make many and not say; brokers lock out
                # users for that.
                knock(settings, _KNOCK_SECONDS)
            try:
                self._producer = KafkaProducer(**settings)
            except kafka.errors.KafkaTimeoutError:
                self._refused = True
                raise
            self._refused = False
            self._on_connect()
        return self._producer

    def close(self) -> None:
        """Close the client; messages that it still has fail."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        try:
            producer.close(timeout=1)
        except Exception as error:  # noqa: BLE001  # it is given up in any case
            _log.debug("closing the Kafka client: %s", error)
            # Its close() stops half-way when it cannot flush, and leaves its thread running.
            producer._sender.force_close()  # noqa: SLF001  # the client has no public door for it

    def disown(self) -> None:
        """Forget the client in a forked child without touching the sockets shared with the parent."""
        producer, self._producer = self._producer, None
        if producer is not None:
            atexit.unregister(producer._cleanup)  # noqa: SLF001  # it would wait for the parent's messages
            producer._closed = True  # noqa: SLF001  # nor may its finalizer

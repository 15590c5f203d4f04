"""Sends spans to a Kafka topic as OTLP protobuf, from a background thread, with an exact account.

Spans are encoded where they end (about ten microseconds; an encoded span takes a tenth of the memory,
and the bound in bytes is exact). A thread of its own, started by the first span, does all that can
block: it connects, retries with backoff, and waits for acknowledgements. A service never waits for it.
"""

from __future__ import annotations

import atexit
import logging
import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import kafka.errors
from kafka import KafkaProducer
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from mobius_instrumentation.allowlist import AttributePolicy
from mobius_instrumentation.buffer import Batch, Limits, SpanBuffer
from mobius_instrumentation.stats import ExportStats, StatsFile
from mobius_instrumentation.wire import SpanEncoder, build_request

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["KafkaSpanExporter"]

_log: Final = logging.getLogger("mobius_instrumentation")

_HEADERS: Final = [("content-type", b"application/x-protobuf")]
_LOG_SECONDS: Final = 60.0
_BACKOFF_SECONDS: Final = (0.1, 5.0)
_PATIENCE_SECONDS: Final = 10.0
_FOR_GOOD: Final = (
    # The broker will not take this message, however often it is sent.
    kafka.errors.MessageSizeTooLargeError,
    kafka.errors.RecordListTooLargeError,
    kafka.errors.CorruptRecordError,
    kafka.errors.InvalidRecordError,
)
_PRODUCER: Final[dict[str, Any]] = {
    # A span counts as sent when no single broker can lose it; a retry does not store it twice.
    "acks": "all",
    "enable_idempotence": True,
    # The client's own retries keep idempotence, ours would not: so it may take its time, and the
    # bound is the buffer's. What it gives up nevertheless is sent again by a new client.
    "delivery_timeout_ms": 3_600_000,
    "max_in_flight_requests_per_connection": 5,
    # A message is a batch already: waiting for more would only delay it.
    "linger_ms": 0,
    "max_request_size": 1_048_576,
    # Topics are made with the zone, by whoever runs it, never by a service's typing error.
    "allow_auto_create_topics": False,
    # Short, so that the thread notices a shutdown while the broker is away.
    "bootstrap_timeout_ms": 2_000,
    "max_block_ms": 2_000,
    "reconnect_backoff_max_ms": 2_000,
    "metrics_enabled": False,
}


class KafkaSpanExporter(SpanExporter):
    """Exports spans to one topic.

    Parameters
    ----------
    bootstrap_servers
        Addresses of brokers, ``host:port``.
    topic
        Kafka topic. Messages go to its partitions in turn, without a key.
    policy
        The allow-list; what is not on it never leaves the process.
    limits
        Bounds of memory and messages. In an outage the buffer fills, then new spans are dropped:
        raise ``queue_spans`` and ``queue_bytes`` to bridge longer ones.
    compression
        None, or ``"gzip"``: a tenth of the bytes on the wire for about twice the processor time.
    kafka_options
        Further settings of ``kafka.KafkaProducer``, such as ``security_protocol``.
    stats_file
        Path of a file that gets the account once a second; see :class:`StatsFile`.
    shutdown_timeout_millis
        Longest time that :meth:`shutdown`, and so the end of the process, waits for the broker.
    clock
        Monotonic seconds.

    Notes
    -----
    Delivery is at least once over the life of the process and exactly once while one producer session
    lasts. Use :meth:`offer` where waiting is forbidden, :meth:`export` where losing is.
    """

    def __init__(
        self,
        bootstrap_servers: Sequence[str],
        topic: str,
        *,
        policy: AttributePolicy | None = None,
        limits: Limits | None = None,
        compression: str | None = None,
        kafka_options: Mapping[str, Any] | None = None,
        stats_file: str | None = None,
        shutdown_timeout_millis: float = 5_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.topic = topic
        self._servers = list(bootstrap_servers)
        self._options = {**_PRODUCER, "compression_type": compression, **(kafka_options or {})}
        self._limits = limits or Limits()
        self._clock = clock
        self._encoder = SpanEncoder(policy or AttributePolicy())
        self._stats_path = stats_file
        self._shutdown_timeout = shutdown_timeout_millis
        self._begin()
        # Weak references: neither fork nor exit handlers keep an exporter alive.
        own = weakref.WeakMethod(self._begin)
        os.register_at_fork(after_in_child=lambda: (begin := own()) and begin())

    def _begin(self) -> None:
        """Start afresh: also in a forked child, whose buffer and connection belong to the parent."""
        self._buffer = SpanBuffer(self._limits, self._clock)
        self._start = threading.Lock()
        self._thread: threading.Thread | None = None
        self._producer: KafkaProducer | None = None
        self._broken = False
        self._broken_at = 0.0
        self._turn = 0
        self._failures = 0
        self._problem = ""
        self._logged_at: float | None = None
        self._logged: dict[str, int] = {}
        self._give_up_at: float | None = None
        self._file = StatsFile(self._stats_path, self.stats) if self._stats_path else None
        if self._file is not None:
            self._file.write()

    # ------------------------------------------------------------------ what callers see

    def offer(self, span: ReadableSpan) -> bool:
        """Take a span over, or drop and count it: never blocks, never raises. True if taken."""
        buffer = self._buffer
        if buffer.full:
            # The answer is known before the work of encoding is done.
            buffer.refuse("queue_full")
            return False
        try:
            encoded, removed = self._encoder.span(span)
        except Exception as error:  # noqa: BLE001  # a span of any make must not break a request
            self._problem = f"a span cannot be encoded: {type(error).__name__}: {error}"
            buffer.refuse("encode_error")
            return False
        taken = buffer.put(encoded, removed)
        if self._thread is None:
            self._ensure_thread()
        return taken

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Take spans over, waiting for room in the buffer as long as it takes.

        For loads and importers, which would rather wait than lose. SUCCESS means that all are taken
        over; :meth:`force_flush` waits until the broker has them.
        """
        taken = True
        for span in spans:
            while self._buffer.full and not self._buffer.closing:
                self._buffer.wait_for_room(1.0)
            taken &= self.offer(span)
        return SpanExportResult.SUCCESS if taken else SpanExportResult.FAILURE

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """Send what is in the buffer and wait for acknowledgements; False when time is up before."""
        done = self._buffer.flush(timeout_millis / 1000)
        if self._file is not None:
            self._file.write()
        return done

    def shutdown(self, timeout_millis: float | None = None) -> None:
        """Send what is in the buffer, at most for ``timeout_millis``; drop and count the rest."""
        limit = self._shutdown_timeout if timeout_millis is None else timeout_millis
        deadline = self._clock() + limit / 1000
        self._give_up_at = deadline
        self._buffer.close()
        if self._thread is not None:
            self._thread.join(max(0.0, deadline - self._clock()) + 0.1)
        self._buffer.abandon("shutdown")
        self._log_drops(final=True)
        if self._file is not None:
            self._file.stop()
        atexit.unregister(self._at_exit)

    def stats(self) -> ExportStats:
        """Return the account at this moment."""
        return self._buffer.account()

    # ------------------------------------------------------------------ the thread

    def _ensure_thread(self) -> None:
        with self._start:
            if self._thread is not None or self._buffer.closing:
                return
            thread = threading.Thread(target=self._run, name="mobius-exporter", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter is ending: nothing can be sent any more
                self._buffer.close()
                self._buffer.abandon("shutdown")
                return
            self._thread = thread
            atexit.register(self._at_exit)
            if self._file is not None:
                self._file.start()

    def _at_exit(self) -> None:
        if not self._buffer.closing:
            self.shutdown()

    def _run(self) -> None:
        buffer = self._buffer
        while not self._over():
            self._log_drops()
            batch = buffer.take(timeout=1.0)
            if batch is None:
                if buffer.closing and not buffer.account().pending:
                    break
                continue
            self._send(batch)
        self._close_producer()

    def _over(self) -> bool:
        return self._give_up_at is not None and self._clock() >= self._give_up_at

    def _send(self, batch: Batch) -> None:
        """Hand one message to the client; whatever fails is tried again after a pause."""
        buffer = self._buffer
        try:
            producer = self._connect()
            partitions = sorted(producer.partitions_for(self.topic))
            self._turn += 1
            future = producer.send(
                self.topic,
                value=build_request(batch.spans),
                headers=_HEADERS,
                partition=partitions[self._turn % len(partitions)],
            )
        except _FOR_GOOD as error:
            self._problem = f"the broker refuses a message: {type(error).__name__}: {error}"
            buffer.drop(batch, "refused")
        except Exception as error:  # noqa: BLE001  # the client raises many kinds; none may end the thread
            self._problem = f"{type(error).__name__}: {error}"
            buffer.put_back(batch)
            self._pause()
        else:
            future.add_callback(self._acknowledged, batch)
            future.add_errback(self._failed, batch)

    def _connect(self) -> KafkaProducer:
        if self._broken and self._producer is not None:
            # Let the old client finish what it still may: a new one would send it a second time.
            if (
                self._buffer.others_in_flight()
                and self._clock() < self._broken_at + _PATIENCE_SECONDS
            ):
                raise ConnectionError("the client is being replaced")
            self._close_producer()
        if self._producer is None:
            self._producer = KafkaProducer(bootstrap_servers=self._servers, **self._options)
            self._broken = False
            # Exit handlers run last registered first: ours must flush before the client closes itself.
            atexit.unregister(self._at_exit)
            atexit.register(self._at_exit)
        return self._producer

    def _close_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                producer.close(timeout=1)
            except Exception as error:  # noqa: BLE001  # it is given up in any case
                _log.debug("closing the Kafka client: %s", error)
                # Its close() gives up half-way when it cannot flush, and leaves its thread running.
                producer._sender.force_close()  # noqa: SLF001  # the client has no public door for it

    def _acknowledged(self, batch: Batch, _record: object) -> None:
        self._failures = 0
        self._buffer.sent(batch)

    def _failed(self, batch: Batch, error: BaseException) -> None:
        self._problem = f"{type(error).__name__}: {error}"
        if isinstance(error, _FOR_GOOD):
            self._buffer.drop(batch, "refused")
            return
        if not self._broken:
            self._broken_at = self._clock()
            self._broken = True
        self._buffer.put_back(batch)

    def _pause(self) -> None:
        """Back off, doubling, with jitter so that services do not return all at once."""
        low, high = _BACKOFF_SECONDS
        self._failures += 1
        seconds = min(high, low * 2 ** min(self._failures, 10)) * random.uniform(0.5, 1.0)  # noqa: S311  # jitter, no secret
        with self._buffer.changed:
            self._buffer.changed.wait_for(lambda: self._buffer.closing, seconds)
        if self._buffer.closing:
            time.sleep(0.05)  # still trying until the deadline, but not in a busy loop

    def _log_drops(self, *, final: bool = False) -> None:
        """Report new drops at most once a minute, and what is left of them at the end."""
        now = self._clock()
        if not final and self._logged_at is not None and now - self._logged_at < _LOG_SECONDS:
            return
        dropped = self._buffer.account().dropped
        new = {reason: n - self._logged.get(reason, 0) for reason, n in dropped.items()}
        new = {reason: n for reason, n in new.items() if n}
        if not new:
            return
        self._logged_at = now
        self._logged = dict(dropped)
        _log.warning(
            "%d spans were not sent to topic %s at %s (%s)%s",
            sum(new.values()),
            self.topic,
            ",".join(self._servers),
            ", ".join(f"{reason}: {n}" for reason, n in sorted(new.items())),
            f"; last problem: {self._problem}" if self._problem else "",
        )

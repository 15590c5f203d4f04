"""Sends spans to a Kafka topic as OTLP protobuf, from a background thread, with an exact account.

Spans are encoded where they end: that costs the same wherever it is done, takes no second thread's
turn at the interpreter's lock, makes the bound in bytes exact and the buffer several times smaller. A
thread of its own, started by the first span, does all that can block: it connects, retries with
backoff, and waits for acknowledgements. A service never waits for it.
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
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from mobius_instrumentation.allowlist import AttributePolicy
from mobius_instrumentation.buffer import Batch, Limits, SpanBuffer
from mobius_instrumentation.connection import REFUSALS, THREAD_NAME, TOO_BIG, KafkaConnection
from mobius_instrumentation.drop_log import DropLog
from mobius_instrumentation.kafka_probe import cause_of, reason_of
from mobius_instrumentation.stats import ExportStats, StatsFile
from mobius_instrumentation.wire import SpanEncoder, build_request

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from mobius_instrumentation.spooling import Spooling

__all__ = ["KafkaSpanExporter"]

_log: Final = logging.getLogger("mobius_instrumentation")

_BACKOFF_SECONDS: Final = (0.1, 5.0)
_PATIENCE_SECONDS: Final = 10.0


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
        None, or ``"gzip"``, which trades processor time for bytes on the wire.
    kafka_options
        Further settings of ``kafka.KafkaProducer``, such as ``security_protocol``; a function is asked for them
        before each new client, so that a renewed certificate or password is taken up.
    stats_file
        Path of a file that gets the account once a second; see :class:`StatsFile`.
    spool_folder
        Folder of the topic's zone for messages that wait while the broker is away; None keeps them in memory.
    spool_bytes
        Most bytes in it.
    shutdown_timeout_millis
        Longest time that :meth:`shutdown`, and so the end of the process, waits for the broker.
    clock
        Monotonic seconds.

    Notes
    -----
    Delivery is exactly once while one producer session lasts, and at least once when the client had to
    be replaced. Use :meth:`offer` where waiting is forbidden, :meth:`export` where losing is.
    """

    def __init__(
        self,
        bootstrap_servers: Sequence[str],
        topic: str,
        *,
        policy: AttributePolicy | None = None,
        limits: Limits | None = None,
        compression: str | None = None,
        kafka_options: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None,
        stats_file: str | None = None,
        spool_folder: Path | None = None,
        spool_bytes: int = 1024 * 1024 * 1024,
        shutdown_timeout_millis: float = 5_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.topic = topic
        self._servers = tuple(bootstrap_servers)
        self._compression = compression
        self._kafka_options = kafka_options
        self._limits = limits or Limits()
        self._clock = clock
        self._policy = policy or AttributePolicy()
        self._stats_path = stats_file
        self._spool_options = spool_folder, spool_bytes
        self._shutdown_timeout = shutdown_timeout_millis
        self._begin()
        # A weak reference: the handler must not keep the exporter alive.
        own = weakref.WeakMethod(self._after_fork)
        os.register_at_fork(after_in_child=lambda: (handler := own()) and handler())

    def _begin(self) -> None:
        self._encoder = SpanEncoder(self._policy)
        self._buffer = SpanBuffer(self._limits, self._clock)
        self._connection = KafkaConnection(
            self._servers, self.topic, self._client_options, self._flush_before_client_exits
        )
        self._spooling = self._spool()
        target = f"topic {self.topic} at {', '.join(self._servers)}"
        self._drop_log = DropLog(target, self._clock)
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._failures = 0
        self._proven = 0  # bytes of the largest message that the broker took
        self._failed_at = 0.0
        self._problem = ""
        self._give_up_at: float | None = None
        self._file = StatsFile(self._stats_path, self.stats) if self._stats_path else None
        if self._file is not None:
            self._file.write()

    def _spool(self) -> Spooling | None:
        folder, limit = self._spool_options
        if folder is None:
            return None
        from mobius_instrumentation.spool import Spool
        from mobius_instrumentation.spooling import Spooling

        return Spooling(Spool(folder, limit), self._buffer, self._clock)

    def _client_options(self) -> Mapping[str, Any]:
        given = self._kafka_options
        return {
            "compression_type": self._compression,
            **((given() if callable(given) else given) or {}),
        }

    def _after_fork(self) -> None:
        """Start afresh in a child: what waits in the buffer is the parent's, and so is the client."""
        self._connection.disown()
        if self._spooling is not None:
            self._spooling.spool.disown()
        self._begin()

    # ------------------------------------------------------------------ what callers see

    def offer(self, span: ReadableSpan, *, unweighted: bool = False) -> bool:
        """Take a span over, or drop and count it: never blocks, never raises. True if taken.

        ``unweighted`` as in :meth:`SpanEncoder.span`.
        """
        buffer = self._buffer
        if buffer.full and not buffer.closing:
            # The answer is known before the work of encoding is done.
            buffer.refuse(buffer.full_reason)
            return False
        try:
            encoded, removed = self._encoder.span(span, unweighted=unweighted)
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

    def settle(self, timeout_millis: float | None = None) -> None:
        """Flush; spool what is left, and say how many spans are left then.

        For the end of a service whose process may be ended by a signal right after it, without exit handlers. Unlike
        :meth:`shutdown` it lets the exporter go on.
        """
        limit = self._shutdown_timeout if timeout_millis is None else timeout_millis
        self._buffer.flush(limit / 1000)
        if self._spooling is not None:
            self._spooling.store_all()
        pending = self._buffer.account().pending
        if pending:
            _log.warning(
                "%d spans were not sent to topic %s within %.1f s, and are lost if the process ends now; last problem: %s",
                pending,
                self.topic,
                limit / 1000,
                self._problem or "none",
            )
        if self._file is not None:
            self._file.write()

    def shutdown(self, timeout_millis: float | None = None) -> None:
        """Send what is in the buffer, at most for ``timeout_millis``; spool the rest, or drop and count it."""
        limit = self._shutdown_timeout if timeout_millis is None else timeout_millis
        deadline = self._clock() + limit / 1000
        self._give_up_at = deadline
        self._buffer.close()
        self._buffer.flush(max(0.0, deadline - self._clock()))
        if self._spooling is not None:
            self._spooling.close()
        self._buffer.abandon("shutdown")
        if self._thread is not None:
            self._thread.join(max(0.1, deadline - self._clock()))
        self._report(final=True)
        if self._file is not None:
            self._file.stop()
        atexit.unregister(self._at_exit)

    def stats(self) -> ExportStats:
        """Return the account at this moment."""
        return replace(
            self._buffer.account(),
            values_redacted=self._encoder.redacted,
            spool_torn=0 if self._spooling is None else self._spooling.spool.torn,
        )

    # ------------------------------------------------------------------ the thread

    def _ensure_thread(self) -> None:
        with self._starting:
            if self._thread is not None or self._buffer.closing:
                return
            thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
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

    def _flush_before_client_exits(self) -> None:
        # Exit handlers run last registered first: ours must come before the new client's own.
        if not self._buffer.closing:
            atexit.unregister(self._at_exit)
            atexit.register(self._at_exit)

    def _run(self) -> None:
        buffer = self._buffer
        while not self._given_up():
            self._report()
            more = self._use_spool()
            relieved = self._spooling is not None and not self._spooling.problem
            batch = buffer.take(0.0 if more else 1.0, until_crowded=relieved)
            if batch is not None:
                self._send(batch)
            elif buffer.closing and not more:
                break
        self._connection.close()

    def _use_spool(self) -> bool:
        """Move messages to the disk or from it, as the broker fares; True if there may be more to replay."""
        spooling = self._spooling
        if spooling is None:
            return False
        spooling.look()
        spooling.relieve(away=self._failures > 0)
        if self._buffer.closing or (
            self._connection.broken
            and self._buffer.in_flight()
            and self._clock() < self._failed_at + _PATIENCE_SECONDS
        ):
            return False
        try:
            replayed = spooling.replay(self._connection, self._given_up)
        except Exception as error:  # noqa: BLE001  # as in _send
            self._problem = _describe(error)
            self._pause()
            return False
        if replayed:
            self._failures = 0
            self._problem = ""
        return replayed

    def _given_up(self) -> bool:
        return self._give_up_at is not None and self._clock() >= self._give_up_at

    def _send(self, batch: Batch) -> None:
        """Hand one message to the client; whatever fails is tried again after a pause."""
        buffer = self._buffer
        if (
            self._connection.broken
            and buffer.in_flight() > 1
            and self._clock() < self._failed_at + _PATIENCE_SECONDS
        ):
            # Let the old client finish what it still may: a new one would send it a second time.
            buffer.put_back(batch)
            self._pause()
            return
        try:
            payload = build_request(batch.spans)
            if len(payload) > self._proven:
                # Were it refused, what else is in flight would fail with it though the broker may have it.
                buffer.one_by_one = True
                if buffer.in_flight() > 1:
                    buffer.put_back(batch)
                    return
            producer, future = self._connection.send(payload)
        except REFUSALS as error:
            self._problem = _describe(error)
            self._refused(batch, error)
        except Exception as error:  # noqa: BLE001  # the client raises many kinds; none may end the thread
            self._problem = _describe(error)
            if self._spooling is None or not self._spooling.store(batch):
                buffer.put_back(batch)
            self._pause()
        else:
            future.add_callback(self._acknowledged, batch, len(payload))
            future.add_errback(self._failed, batch, producer)

    def _acknowledged(self, batch: Batch, size: int, _record: object) -> None:
        self._failures = 0
        self._problem = ""
        self._proven = max(self._proven, size)
        self._buffer.one_by_one = False
        self._buffer.sent(batch)

    def _failed(self, batch: Batch, producer: Any, error: BaseException) -> None:
        self._problem = _describe(error)
        self._failed_at = self._clock()
        # After one refusal kafka-python's idempotent producer refuses all that follows: what fails with it, or after
        # it, is not to blame, and gets another try with a new client.
        first = self._connection.report_failure(producer)
        if first and isinstance(error, REFUSALS):
            self._refused(batch, error)
        else:
            self._buffer.put_back(batch)

    def _refused(self, batch: Batch, error: BaseException) -> None:
        """Send what is too big in two parts, as often as it takes; give up what no broker of this kind takes."""
        if not (isinstance(error, TOO_BIG) and self._buffer.split(batch)):
            self._buffer.drop(batch, "refused")

    def _pause(self) -> None:
        """Back off, doubling, with jitter so that services do not return all at once."""
        low, high = _BACKOFF_SECONDS
        self._failures = min(self._failures + 1, 10)
        spread = random.uniform(0.5, 1.0)  # noqa: S311  # jitter is no secret
        seconds = min(high, low * 2**self._failures) * spread
        until = self._clock() + seconds
        while self._spooling is not None and not self._buffer.closing:
            self._spooling.relieve(away=True)
            left = until - self._clock()
            if left <= 0:
                return
            self._buffer.sleep(min(left, 0.1))
        self._buffer.sleep(max(0.0, until - self._clock()))

    def _report(self, *, final: bool = False) -> None:
        account = self._buffer.account()
        problem = self._problem
        if self._spooling is not None and self._spooling.problem:
            problem = f"{problem}; {self._spooling.problem}"
        self._drop_log.report(account.dropped, account.pending, problem, final=final)


def _describe(error: BaseException) -> str:
    return f"{type(cause_of(error)).__name__}: {reason_of(error)}"

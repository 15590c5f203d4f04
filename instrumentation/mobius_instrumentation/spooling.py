"""Moves messages between the exporter's buffer, the spool on the disk, and the broker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from mobius_instrumentation.buffer import Batch, SpanBuffer
from mobius_instrumentation.connection import REFUSALS, KafkaConnection
from mobius_instrumentation.spool import Spool
from mobius_instrumentation.stats import DropReason
from mobius_instrumentation.wire import build_request

__all__ = ["Spooling"]

_LOOK_SECONDS: Final = 30.0  # between two looks for folders of dead processes


class Spooling:
    """See the module's text. ``clock`` is monotonic, in seconds.

    Attributes
    ----------
    problem
        Why the disk did not take the last message, or "".
    """

    def __init__(self, spool: Spool, buffer: SpanBuffer, clock: Callable[[], float]) -> None:
        self.spool = spool
        self.problem = ""
        self._buffer = buffer
        self._clock = clock
        self._looked: float | None = None
        self._storing = threading.Lock()

    def store(self, batch: Batch) -> bool:
        """Write one message to the disk; False, and it stays in memory, where that is impossible."""
        with self._storing:
            if not self._buffer.holds(batch):
                return True  # the end of the process was quicker
            try:
                kept = self.spool.append(build_request(batch.spans), len(batch.spans))
                self.problem = "" if kept else "the spool is full"
            except OSError as error:
                kept = False
                self.problem = f"the spool cannot be written: {error.strerror}"
            self._buffer.full_reason = "spool_full" if self.spool.full else "queue_full"
            if kept:
                self._buffer.spooled(batch)
            return kept

    def relieve(self, *, away: bool) -> None:
        """Write to the disk what is due while the broker is ``away``; otherwise what crowds the buffer."""
        while (batch := self._buffer.take_for_spool(due=away)) is not None:
            if not self.store(batch):
                self._buffer.put_back(batch)
                return

    def look(self) -> None:
        """Take over, now and then, what dead processes left."""
        now = self._clock()
        if self._looked is None or now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            self._buffer.adopted(self.spool.adopt())

    def replay(self, connection: KafkaConnection, give_up: Callable[[], bool]) -> bool:
        """Send the oldest message of the spool, and wait for its acknowledgement; True if it is done with.

        One at a time, so that a kill can repeat one message at most.

        Raises
        ------
        Exception
            Whatever the client raises; the message stays.
        """
        found = self.spool.peek()
        if found is None:
            return False
        payload, spans = found
        try:
            producer, future = connection.send(payload)
            while not future.is_done:
                if give_up():
                    return False
                self.relieve(away=False)
                time.sleep(0.002)
            if future.failed():
                connection.report_failure(producer)
                raise future.exception
        except REFUSALS:
            return self._done(spans, "refused")
        return self._done(spans)

    def _done(self, spans: int, reason: DropReason | None = None) -> bool:
        popped = self.spool.pop()
        if popped:
            self._buffer.unspooled(spans, reason)
        return popped

    def store_all(self) -> None:
        """Write all that is pending to the disk, also what waits for an acknowledgement; keep what it does not take."""
        for batch in self._buffer.drain():
            if not self.store(batch):
                self._buffer.put_back(batch)

    def close(self) -> None:
        """Write all that is left in the buffer to the disk, and let go of it."""
        for batch in self._buffer.drain():
            if not self.store(batch) and self.spool.full:
                self._buffer.drop(batch, "spool_full")
        self.spool.close()

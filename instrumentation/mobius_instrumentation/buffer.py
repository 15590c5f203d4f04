"""The bounded buffer between a service's requests and the broker, with an exact account.

Requests put spans in; the exporter's thread takes batches out and reports what became of them. One lock
guards everything, and nothing slow happens under it. At any moment
``accepted == sent + sum(dropped) + pending + spooled``.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mobius_instrumentation.stats import DropReason, ExportStats
from mobius_instrumentation.wire import EncodedSpan

__all__ = ["Batch", "Limits", "SpanBuffer"]

_SPAN_OVERHEAD_BYTES: Final = 120  # tuple, bytes object and queue slot around an encoded span


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the buffer and of a message.

    Attributes
    ----------
    queue_spans, queue_bytes
        Spans, and bytes of encoded spans with their overhead, that may wait for the broker's
        acknowledgement; further spans are dropped as ``queue_full``.
    batch_spans, batch_bytes
        Largest message.
    delay_seconds
        Longest time that a span waits for others to fill a message.
    in_flight
        Messages that may wait for an acknowledgement at the same time.
    """

    queue_spans: int = 16_384
    queue_bytes: int = 16 * 1024 * 1024
    batch_spans: int = 512
    batch_bytes: int = 900_000
    delay_seconds: float = 1.0
    in_flight: int = 5


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Spans that travel in one message. ``first`` is the ordinal of its first span in the buffer."""

    spans: tuple[EncodedSpan, ...]
    size: int
    first: int


def _size(span: EncodedSpan) -> int:
    return len(span.field) + _SPAN_OVERHEAD_BYTES


class SpanBuffer:
    """See the module's text. ``clock`` is monotonic, in seconds."""

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self.limits = limits
        self._message_bytes = limits.batch_bytes  # less, once the broker took no such message
        self._lock = threading.Lock()
        self.changed = threading.Condition(self._lock)
        self._clock = clock
        self._queue: deque[EncodedSpan] = deque()
        self._since = 0.0  # when the oldest span of the queue came
        self._bytes = 0  # of all pending spans, in flight too
        self._queued_bytes = 0
        self._accepted = 0
        self._sent = 0
        self._pending = 0
        self._removed = 0
        self._spooled = 0
        self._dropped: Counter[str] = Counter()
        self._taken = 0  # ordinal of the first span of the queue
        self._outstanding: set[Batch] = set()  # in flight, or to be sent again
        self._again: deque[Batch] = deque()
        self._flush_until = 0
        self.closing = False
        self.one_by_one = False
        """Whether a message leaves only once no other waits for an acknowledgement."""
        self.full_reason: DropReason = "queue_full"

    @property
    def full(self) -> bool:
        """Whether a span would be dropped now: a hint, read without the lock, that saves encoding it."""
        return self._pending >= self.limits.queue_spans or self._bytes >= self.limits.queue_bytes

    def refuse(self, reason: DropReason) -> None:
        """Count a span that never entered the buffer."""
        with self.changed:
            self._accepted += 1
            self._dropped[reason] += 1

    def put(self, span: EncodedSpan, removed: int = 0) -> bool:
        """Take a span over, or count it as dropped; never blocks. Returns whether it was taken.

        ``removed`` is how many of its attributes the allow-list removed.
        """
        size = _size(span)
        with self._lock:  # the condition's own, entered without its wrapper
            self._accepted += 1
            self._removed += removed
            if self.closing:
                self._dropped["after_shutdown"] += 1
                return False
            if size > self.limits.batch_bytes:
                self._dropped["too_large"] += 1
                return False
            if (
                self._pending >= self.limits.queue_spans
                or self._bytes + size > self.limits.queue_bytes
            ):
                self._dropped[self.full_reason] += 1
                return False
            self._queue.append(span)
            self._pending += 1
            self._bytes += size
            self._queued_bytes += size
            waiting = len(self._queue)
            if waiting == 1:
                self._since = self._clock()
            if waiting in (1, self.limits.batch_spans, self.limits.queue_spans // 2):
                self.changed.notify_all()
            return True

    @property
    def crowded(self) -> bool:
        """Whether what waits to be sent takes half of the room: a hint, as :attr:`full`."""
        limits = self.limits
        return (
            len(self._queue) * 2 >= limits.queue_spans
            or self._queued_bytes * 2 >= limits.queue_bytes
        )

    def take(self, timeout: float, *, until_crowded: bool = False) -> Batch | None:
        """Wait for the next message at most ``timeout`` seconds; it is then outstanding.

        With ``until_crowded`` the wait ends early when the buffer is filling up.
        """
        deadline = self._clock() + timeout
        with self.changed:
            while True:
                # More than were in flight may be due again where one was split.
                if self._again and self._flying() < self._most():
                    return self._again.popleft()
                now = self._clock()
                wait = deadline - now
                if self._queue and len(self._outstanding) < self._most():
                    due = self._since + self.limits.delay_seconds - now
                    if due <= 0 or self._hurried():
                        return self._cut(now)
                    wait = min(wait, due)
                if until_crowded and self.crowded:
                    return None
                if wait <= 0 or (self.closing and not self._pending):
                    return None
                self.changed.wait(wait)

    def take_for_spool(self, *, due: bool) -> Batch | None:
        """Return a message that should rather be on the disk, however many wait for the broker; None if there is none.

        ``due``: all that would be sent now; otherwise only while the buffer is crowded.
        """
        with self.changed:
            if not (due or self.crowded):
                return None
            if self._again:
                return self._again.popleft()
            now = self._clock()
            if not self._queue:
                return None
            ready = self._since + self.limits.delay_seconds <= now or self._hurried()
            return self._cut(now) if ready or self.crowded else None

    def drain(self) -> list[Batch]:
        """Return all that is pending as messages, those without an acknowledgement too; they are outstanding then."""
        with self.changed:
            batches = sorted(self._outstanding, key=lambda batch: batch.first)
            self._again.clear()
            now = self._clock()
            while self._queue:
                batches.append(self._cut(now))
            return batches

    def holds(self, batch: Batch) -> bool:
        """Whether a message is not settled yet."""
        return batch in self._outstanding

    def spooled(self, batch: Batch) -> None:
        """Count a message that is on the disk now."""
        with self.changed:
            if self._settle(batch):
                self._spooled += len(batch.spans)

    def unspooled(self, spans: int, reason: DropReason | None = None) -> None:
        """Count spans of the disk that the broker acknowledged, or that are given up for a ``reason``."""
        with self.changed:
            self._spooled -= spans
            if reason is None:
                self._sent += spans
            else:
                self._dropped[reason] += spans
            self.changed.notify_all()

    def adopted(self, spans: int) -> None:
        """Count spans on the disk that a dead process accepted."""
        with self.changed:
            self._accepted += spans
            self._spooled += spans

    def _hurried(self) -> bool:
        return (
            self.closing
            or len(self._queue) >= self.limits.batch_spans
            or self._queued_bytes >= self._message_bytes
            or self._taken < self._flush_until
        )

    def _cut(self, now: float) -> Batch:
        spans: list[EncodedSpan] = []
        size = 0
        while self._queue and len(spans) < self.limits.batch_spans:
            step = _size(self._queue[0])
            if spans and size + step > self._message_bytes:
                break
            spans.append(self._queue.popleft())
            size += step
        batch = Batch(tuple(spans), size, self._taken)
        self._taken += len(spans)
        self._queued_bytes -= size
        self._since = now
        self._outstanding.add(batch)
        return batch

    def sent(self, batch: Batch) -> None:
        """Count a message that the broker acknowledged."""
        with self.changed:
            if self._settle(batch):
                self._sent += len(batch.spans)

    def drop(self, batch: Batch, reason: DropReason) -> None:
        """Count a message that is given up."""
        with self.changed:
            if self._settle(batch):
                self._dropped[reason] += len(batch.spans)

    def split(self, batch: Batch) -> bool:
        """Have a message that the broker finds too big sent again as two, and make none of its size any more.

        False for a message of one span, which cannot be split and stays outstanding.
        """
        half = len(batch.spans) // 2
        if not half:
            return False
        with self.changed:
            if batch in self._outstanding:
                self._outstanding.discard(batch)
                for begin, spans in ((0, batch.spans[:half]), (half, batch.spans[half:])):
                    part = Batch(spans, sum(map(_size, spans)), batch.first + begin)
                    self._outstanding.add(part)
                    self._again.append(part)
                self._message_bytes = min(self._message_bytes, batch.size // 2)
                self.changed.notify_all()
        return True

    def put_back(self, batch: Batch) -> None:
        """Have an unacknowledged message sent again, before anything newer."""
        with self.changed:
            if batch in self._outstanding and batch not in self._again:
                self._again.append(batch)
                self.changed.notify_all()

    def _settle(self, batch: Batch) -> bool:
        """Forget an outstanding message; False if it was settled before (a late acknowledgement)."""
        if batch not in self._outstanding:
            return False
        self._outstanding.discard(batch)
        self._pending -= len(batch.spans)
        self._bytes -= batch.size
        self.changed.notify_all()
        return True

    def flush(self, timeout: float) -> bool:
        """Wait until every span that is in the buffer now is settled.

        False when time is up before, or when spans wait on the disk instead.
        """
        with self.changed:
            target = self._taken + len(self._queue)
            self._flush_until = max(self._flush_until, target)
            self.changed.notify_all()
            settled = self.changed.wait_for(lambda: self._settled(target), timeout)
            return settled and not self._spooled

    def _settled(self, ordinal: int) -> bool:
        return self._taken >= ordinal and all(b.first >= ordinal for b in self._outstanding)

    def wait_for_room(self, timeout: float) -> bool:
        """Wait until the buffer has room, at most ``timeout`` seconds."""
        with self.changed:
            return self.changed.wait_for(lambda: self.closing or not self.full, timeout)

    def sleep(self, seconds: float) -> None:
        """Wait; once the buffer closes only briefly, to use what time is left for another try."""
        with self.changed:
            self.changed.wait_for(lambda: self.closing, seconds)
        if self.closing:
            time.sleep(min(seconds, 0.05))

    def close(self) -> None:
        """Refuse further spans from now on, and hurry those inside."""
        with self.changed:
            self.closing = True
            self.changed.notify_all()

    def in_flight(self) -> int:
        """Messages that were taken and wait for an acknowledgement."""
        with self.changed:
            return self._flying()

    def _most(self) -> int:
        return 1 if self.one_by_one else self.limits.in_flight

    def _flying(self) -> int:
        return len(self._outstanding) - len(self._again)

    def abandon(self, reason: DropReason) -> None:
        """Count everything that is pending as dropped."""
        with self.changed:
            if self._pending:
                self._dropped[reason] += self._pending
            self._pending = self._bytes = self._queued_bytes = 0
            self._taken += len(self._queue)
            self._queue.clear()
            self._again.clear()
            self._outstanding.clear()
            self.changed.notify_all()

    def account(self) -> ExportStats:
        """Return the account at this moment."""
        with self.changed:
            return ExportStats(
                accepted=self._accepted,
                sent=self._sent,
                dropped=dict(self._dropped),
                pending=self._pending,
                spooled=self._spooled,
                attributes_removed=self._removed,
            )

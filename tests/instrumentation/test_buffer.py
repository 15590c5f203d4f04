"""The account is exact whatever happens in whatever order, and the bounds hold."""

from __future__ import annotations

import threading

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mobius_instrumentation.buffer import _SPAN_OVERHEAD_BYTES, Batch, Limits, SpanBuffer
from mobius_instrumentation.wire import EncodedSpan, Group

GROUP = Group(b"", b"")
LIMITS = Limits(queue_spans=12, queue_bytes=3_000, batch_spans=4, batch_bytes=900, delay_seconds=0)


def encoded(number: int, size: int = 10) -> EncodedSpan:
    return EncodedSpan(GROUP, number.to_bytes(4, "big") + bytes(size))


def ids(batch: Batch) -> list[int]:
    return [int.from_bytes(span.field[:4], "big") for span in batch.spans]


class BufferMachine(RuleBasedStateMachine):
    """Follows each span by identity through every door of the buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = SpanBuffer(LIMITS, lambda: 0.0)
        self.next = 0
        self.message_bytes = LIMITS.batch_bytes
        self.refused: set[int] = set()
        self.sizes: dict[int, int] = {}
        self.waiting: list[int] = []
        self.flying: list[Batch] = []
        self.returned: list[list[int]] = []
        self.sent: set[int] = set()
        self.dropped: set[int] = set()

    @rule(size=st.integers(0, 1000))
    def put(self, size: int) -> None:
        number, self.next = self.next, self.next + 1
        self.sizes[number] = 4 + size + _SPAN_OVERHEAD_BYTES
        if self.buffer.put(encoded(number, size)):
            self.waiting.append(number)
        else:
            self.refused.add(number)

    @rule()
    def take(self) -> None:
        batch = self.buffer.take(timeout=0)
        if batch is None:
            return
        if self.returned:
            assert ids(batch) == self.returned.pop(0), (
                "a message is sent again before anything newer"
            )
        else:
            assert ids(batch) == self.waiting[: len(batch.spans)], "spans leave in order"
            del self.waiting[: len(batch.spans)]
            assert 0 < len(batch.spans) <= LIMITS.batch_spans
            assert batch.size <= self.message_bytes or len(batch.spans) == 1
        self.flying.append(batch)

    @rule(data=st.data(), end=st.sampled_from(["sent", "drop", "back"]))
    def settle(self, data: st.DataObject, end: str) -> None:
        if not self.flying:
            return
        batch = self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))
        if end == "sent":
            self.buffer.sent(batch)
            self.buffer.sent(batch)  # an acknowledgement that comes twice counts once
            self.sent.update(ids(batch))
        elif end == "drop":
            self.buffer.drop(batch, "refused")
            self.dropped.update(ids(batch))
        else:
            self.buffer.put_back(batch)
            self.buffer.put_back(batch)
            self.returned.append(ids(batch))

    @rule(data=st.data())
    def split(self, data: st.DataObject) -> None:
        if not self.flying:
            return
        number = data.draw(st.integers(0, len(self.flying) - 1))
        batch = self.flying[number]
        if len(batch.spans) == 1:
            assert not self.buffer.split(batch)
            return
        del self.flying[number]
        assert self.buffer.split(batch)
        assert self.buffer.split(batch)  # a refusal that comes twice changes nothing
        half = len(batch.spans) // 2
        self.returned += [ids(batch)[:half], ids(batch)[half:]]
        self.message_bytes = min(self.message_bytes, batch.size // 2)

    @rule()
    def abandon(self) -> None:
        late = [*self.flying]
        for batch in late:
            self.dropped.update(ids(batch))
        self.dropped.update(number for part in self.returned for number in part)
        self.dropped.update(self.waiting)
        self.waiting, self.flying, self.returned = [], [], []
        self.buffer.abandon("shutdown")
        for batch in late:
            self.buffer.sent(batch)  # too late: it was counted already

    @invariant()
    def the_account_is_exact(self) -> None:
        account = self.buffer.account()
        pending = len(self.waiting) + len(self.held())
        assert account.accepted == self.next
        assert account.sent == len(self.sent)
        assert account.dropped_total == len(self.refused) + len(self.dropped)
        assert account.pending == pending
        assert account.accepted == account.sent + account.dropped_total + account.pending

    @invariant()
    def the_bounds_hold(self) -> None:
        assert self.buffer._pending <= LIMITS.queue_spans
        held = self.held()
        queued = sum(self.sizes[number] for number in self.waiting)
        assert self.buffer._queued_bytes == queued
        assert self.buffer._bytes == queued + sum(self.sizes[number] for number in held)
        assert self.buffer._bytes <= LIMITS.queue_bytes
        assert self.buffer.in_flight() <= LIMITS.in_flight

    def held(self) -> list[int]:
        return [n for batch in [*map(ids, self.flying), *self.returned] for n in batch]


TestBuffer = BufferMachine.TestCase
TestBuffer.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


def test_a_span_larger_than_a_message_is_dropped_as_such() -> None:
    buffer = SpanBuffer(LIMITS, lambda: 0.0)
    assert not buffer.put(encoded(1, 900))
    assert buffer.account().dropped == {"too_large": 1}


def test_few_bytes_and_few_spans_wait_for_the_delay() -> None:
    now = 0.0
    buffer = SpanBuffer(Limits(batch_spans=3, delay_seconds=5), lambda: now)
    buffer.put(encoded(1))
    assert buffer.take(timeout=0) is None
    now = 5.0
    batch = buffer.take(timeout=0)
    assert batch is not None
    assert ids(batch) == [1]


def test_a_full_message_does_not_wait() -> None:
    buffer = SpanBuffer(Limits(batch_spans=2, delay_seconds=1e9), lambda: 0.0)
    for number in range(3):
        buffer.put(encoded(number))
    batch = buffer.take(timeout=0)
    assert batch is not None
    assert ids(batch) == [0, 1]
    assert buffer.take(timeout=0) is None


def test_a_flush_hurries_what_is_inside_and_waits_for_its_end() -> None:
    buffer = SpanBuffer(Limits(batch_spans=2, delay_seconds=1e9), lambda: 0.0)
    for number in range(3):
        buffer.put(encoded(number))
    assert not buffer.flush(timeout=0)
    batches = [buffer.take(timeout=0), buffer.take(timeout=0)]
    buffer.put(encoded(9))  # came later: not waited for
    for batch in batches:
        assert batch is not None
        assert not buffer.flush(timeout=0) or batch is not batches[0]
        buffer.sent(batch)
    waiter = threading.Thread(target=buffer.flush, args=(10,))
    waiter.start()
    last = buffer.take(timeout=10)
    assert last is not None
    assert ids(last) == [9]
    buffer.sent(last)
    waiter.join(10)
    assert not waiter.is_alive()


@pytest.mark.parametrize("reason", ["queue_full", "encode_error"])
def test_a_span_that_never_entered_is_accepted_and_dropped(reason: str) -> None:
    buffer = SpanBuffer(LIMITS, lambda: 0.0)
    buffer.refuse(reason)  # type: ignore[arg-type]  # the parameters are reasons
    account = buffer.account()
    assert (account.accepted, account.dropped, account.pending) == (1, {reason: 1}, 0)


def test_threads_do_not_lose_counts() -> None:
    buffer = SpanBuffer(
        Limits(queue_spans=500, batch_spans=16, delay_seconds=0), threading.TIMEOUT_MAX.__float__
    )

    def produce() -> None:
        for number in range(2_000):
            buffer.put(encoded(number), removed=2)

    producers = [threading.Thread(target=produce) for _ in range(4)]
    for thread in producers:
        thread.start()
    taken = 0
    while any(thread.is_alive() for thread in producers) or buffer.account().pending:
        batch = buffer.take(timeout=0)
        if batch is not None:
            taken += len(batch.spans)
            buffer.sent(batch)
    account = buffer.account()
    assert account.accepted == 8_000
    assert account.sent == taken
    assert account.sent + account.dropped_total == 8_000
    assert account.attributes_removed == 16_000

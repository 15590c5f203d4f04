"""Every step keeps the laws: each item exactly once, in order, nothing held after close."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from mobius_instrumentation.zones import Zone
from mobius_pipeline.kafka_client import Topic
from mobius_pipeline.ledger import Standing
from mobius_pipeline.wire import WireError, envelope, parse, varint
from mobius_pipeline.worker.backoff import Backoff
from mobius_pipeline.worker.batch import Batching, BatchLimits
from mobius_pipeline.worker.route import Route
from mobius_pipeline.worker.steps import Batch, Chain, Checked, Message, Routed
from mobius_pipeline.worker.validate import Validate
from tests.pipeline.otlp import key_value, make_message, make_resource, make_span

ZONE = Zone("eu", ("eu-west-1", "eu-central-1"), ("127.0.0.1:1",), "http://127.0.0.1:1", "rum_eu")
TOPIC = Topic("rum.spans.eu", UUID(int=7), (0, 1, 2))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def routed(partition: int, offset: int, spans: int = 1, size: int = 10) -> Routed:
    return Routed(Message(partition, offset, b"x" * size), b"x" * size, spans, (), "")


def route(*resources: Any, zone: Zone = ZONE) -> Routed:
    value = make_message(*resources)
    chain: Chain[Message] = Chain(Validate(), Route(zone))
    (out,) = chain.submit(Message(0, 5, value))
    assert chain.poll() == chain.close() == []
    assert isinstance(out, Routed)
    return out


# ---------------------------------------------------------------------------- validate


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, "no value"),
        (b"garbage", "not an OTLP"),
        (b"{}", "not an OTLP"),
        (make_message(make_resource([make_span()]))[:-3], "not an OTLP"),
        # A string field that is no UTF-8: ClickHouse would refuse the whole batch for it.
        (
            make_message(make_resource([make_span(name="abcdef")])).replace(
                b"abcdef", b"abc\xff\xfef"
            ),
            "not an OTLP",
        ),
        # Valid protobuf of something else: field 9, a varint.
        (b"\x48\x01", "no resource spans"),
    ],
)
def test_unreadable_is_told_with_its_reason(value: bytes | None, problem: str) -> None:
    message = Message(0, 1, value)
    (checked,) = Validate().submit(message)
    assert checked.message is message
    assert checked.request is None
    assert problem in checked.problem
    (out,) = Route(ZONE).submit(checked)
    assert (out.body, out.spans, out.foreign, out.problem) == (b"", 0, (), checked.problem)


def test_empty_message_is_no_problem() -> None:
    assert Validate().submit(Message(0, 1, b"")) == (
        Checked(Message(0, 1, b""), ExportTraceServiceRequest(), ""),
    )


# ---------------------------------------------------------------------------- route


def test_own_message_keeps_its_very_bytes() -> None:
    value = make_message(
        make_resource([make_span()]), make_resource([make_span()], region="eu-central-1")
    )
    unknown_field = value + b"\xf8\x07\x01"
    for original in (value, unknown_field):
        (checked,) = Validate().submit(Message(0, 5, original))
        (out,) = Route(ZONE).submit(checked)
        assert out.body is original
        assert (out.spans, out.foreign) == (2, ())


def test_mixed_message_is_split_without_loss() -> None:
    own, foreign, missing = make_span(), make_span(), make_span()
    out = route(
        make_resource([foreign], region="us-east-1", service="far"),
        make_resource([own]),
        make_resource([missing], region=None),
    )
    (kept,) = parse(out.body).resource_spans
    assert [span.span_id for span in kept.scope_spans[0].spans] == [own.span_id]
    assert [(f.reason, f.region, f.service, f.spans) for f in out.foreign] == [
        ("region is not of this zone", "us-east-1", "far", 1),
        ("region is missing", "", "shop", 1),
    ]
    for item, span in zip(out.foreign, (foreign, missing), strict=True):
        assert parse(item.payload).resource_spans[0].scope_spans[0].spans[0] == span
        assert own.span_id not in item.payload


def test_region_that_is_told_twice_is_never_guessed() -> None:
    resource = make_resource([make_span()])
    resource.resource.attributes.append(key_value("cloud.region", "us-east-1"))
    (item,) = route(resource).foreign
    assert (item.reason, item.region) == ("region is contradictory", "eu-west-1, us-east-1")


@pytest.mark.parametrize("first", ["", 7])
def test_region_is_contradictory_where_the_store_would_take_another(first: str | int) -> None:
    resource = make_resource([make_span()], region=None)
    for region in (first, "eu-west-1"):
        resource.resource.attributes.append(key_value("cloud.region", region))
    (item,) = route(resource).foreign
    assert (item.reason, item.region) == ("region is contradictory", "eu-west-1")


def test_region_that_is_no_text_is_missing() -> None:
    resource = make_resource([make_span()], region=None)
    resource.resource.attributes.append(key_value("cloud.region", 1))
    (item,) = route(resource).foreign
    assert item.reason == "region is missing"


# ---------------------------------------------------------------------------- batch


def standings(**unfinished: tuple[int, int]) -> dict[int, Standing]:
    return {
        number: Standing(unfinished[f"p{number}"][1] + 1, unfinished[f"p{number}"])
        if f"p{number}" in unfinished
        else Standing(10 * number, None)
        for number in TOPIC.partitions
    }


def offsets(batch: Batch) -> list[int]:
    return [item.message.offset for item in batch.items]


def batching(begin: dict[int, Standing], limits: BatchLimits, clock: Clock) -> Batching:
    step = Batching(TOPIC, limits, clock)
    step.add(begin)
    return step


@settings(max_examples=200, deadline=None)
@given(
    events=st.lists(
        st.one_of(
            st.tuples(st.integers(0, 2), st.integers(0, 9), st.integers(1, 40)), st.floats(0, 2)
        ),
        max_size=80,
    ),
    limits=st.builds(
        BatchLimits,
        st.integers(1, 20),
        st.integers(1, 120),
        st.floats(0.1, 3),
        st.integers(1, 300),
    ),
    repeat=st.booleans(),
)
def test_batches_cover_each_partition_without_gap_or_overlap(
    events: Sequence[Any], limits: BatchLimits, repeat: bool
) -> None:
    clock = Clock()
    begin = standings(p1=(4, 9)) if repeat else standings()
    step = batching(begin, limits, clock)
    upcoming = {
        number: s.unfinished[0] if s.unfinished else s.next_offset for number, s in begin.items()
    }
    submitted: dict[int, list[int]] = {number: [] for number in TOPIC.partitions}
    out: list[Batch] = []
    for event in events:
        if isinstance(event, float):
            clock.now += event
            out += step.poll()
            continue
        partition, spans, size = event
        submitted[partition].append(upcoming[partition])
        out += step.submit(routed(partition, upcoming[partition], spans, size))
        upcoming[partition] += 1
    out += step.close()
    assert list(step.close()) == list(step.poll()) == []
    for number, standing in begin.items():
        mine = [batch for batch in out if batch.partition == number]
        expected_first = standing.unfinished[0] if standing.unfinished else standing.next_offset
        for index, batch in enumerate(mine):
            assert batch.first == expected_first
            assert batch.repeated == (index == 0 and standing.unfinished is not None)
            if batch.repeated:
                assert (batch.first, batch.last) == standing.unfinished
            elif len(batch.items) > 1:
                assert batch.spans <= limits.spans
                assert sum(len(item.body) for item in batch.items) <= limits.bytes
            assert offsets(batch) == list(range(batch.first, batch.last + 1))
            expected_first = batch.last + 1
        got = [offset for batch in mine for offset in offsets(batch)]
        whole = not standing.unfinished or len(submitted[number]) >= 6
        assert got == (submitted[number] if whole else [])


def test_age_cuts_a_batch_and_not_before() -> None:
    clock = Clock()
    step = batching(standings(), BatchLimits(seconds=0.5), clock)
    assert list(step.submit(routed(0, 0))) == []
    clock.now = 0.4
    assert list(step.submit(routed(0, 1))) == []
    assert list(step.poll()) == []
    clock.now = 0.5
    (batch,) = step.poll()
    assert offsets(batch) == [0, 1]
    assert batch.token == f"{UUID(int=7)}/0/0-1"


def test_repeated_range_ends_where_it_ended_although_its_last_record_is_gone() -> None:
    step = batching(standings(p0=(0, 5)), BatchLimits(), Clock())
    assert list(step.submit(routed(0, 3))) == []
    (batch,) = step.submit(routed(0, 8))
    assert (batch.first, batch.last, offsets(batch), batch.repeated) == (0, 5, [3], True)
    (rest,) = step.close()
    assert (rest.first, rest.last, offsets(rest)) == (6, 8, [8])


def test_gathered_bytes_are_bounded_over_all_partitions() -> None:
    """The biggest open batch goes first; ranges that are repeated cannot be cut, so the others are paused."""
    step = batching(standings(), BatchLimits(gathered_bytes=100), Clock())
    assert list(step.submit(routed(0, 0, size=60))) == []
    assert list(step.submit(routed(1, 0, size=30))) == []
    assert step.crowded() == frozenset()
    (batch,) = step.submit(routed(2, 0, size=20))
    assert (batch.partition, batch.items[0].message.offset) == (0, 0)
    repeats = standings(p0=(0, 5), p1=(0, 5))
    step = batching(repeats, BatchLimits(gathered_bytes=100), Clock())
    assert list(step.submit(routed(0, 0, size=60))) == []
    assert list(step.submit(routed(1, 0, size=61))) == []
    assert step.crowded() == {0, 2}


def test_dropped_partition_is_forgotten_and_may_come_again() -> None:
    step = batching(standings(), BatchLimits(), Clock())
    assert list(step.submit(routed(0, 0))) == []
    step.drop([0])
    assert list(step.close()) == []
    step.add({0: Standing(7, None)})
    assert list(step.submit(routed(0, 7))) == []
    (batch,) = step.close()
    assert (batch.first, batch.last) == (7, 7)


# ---------------------------------------------------------------------------- chain, wire, back-off


class Doubling:
    """Holds one item back, to see that a chain pushes on what close gives."""

    def __init__(self) -> None:
        self.held: list[int] = []

    def submit(self, item: int) -> list[int]:
        given, self.held = self.held, [item, item]
        return given

    def poll(self) -> list[int]:
        return []

    def close(self) -> list[int]:
        given, self.held = self.held, []
        return given


def test_chain_pushes_everything_through_every_step() -> None:
    chain: Chain[int] = Chain(Doubling(), Doubling(), Doubling())
    out = [*chain.submit(1), *chain.submit(2), *chain.poll(), *chain.close()]
    assert out == [1] * 8 + [2] * 8
    assert chain.close() == []


@given(st.integers(0, 2**64 - 1))
def test_varint_is_protobufs(value: int) -> None:
    from google.protobuf.internal.encoder import _VarintBytes  # type: ignore[attr-defined]  # private, as oracle

    assert varint(value) == _VarintBytes(value)


def test_envelope_keeps_the_message_and_its_own_position_wins() -> None:
    message = make_message(make_resource([make_span()]))
    forged = message + b"".join(varint(tag << 3) + varint(9) for tag in (101, 102, 103))
    body = envelope([(forged, 1, 300)], 5)
    end = b"".join(varint(tag << 3) + varint(n) for tag, n in ((101, 1), (102, 300), (103, 5)))
    assert body == varint(len(forged) + len(end)) + forged + end


def test_wire_error_names_what_is_wrong() -> None:
    with pytest.raises(WireError, match="no value"):
        parse(None)


def test_backoff_grows_is_bounded_and_ends_at_once_on_stop() -> None:
    waits: list[float] = []

    class Event(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0)
            return False

    backoff = Backoff(Event(), first_seconds=0.1, most_seconds=1.0, source=random.Random(1))
    for _ in range(8):
        backoff.wait()
    bounds = [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0, 1.0]
    assert all(bound / 2 <= wait <= bound for wait, bound in zip(waits, bounds, strict=True))
    backoff.reset()
    backoff.wait()
    assert waits[-1] <= 0.1
    stopped = threading.Event()
    stopped.set()
    begin = time.monotonic()
    Backoff(stopped, first_seconds=60, most_seconds=60).wait()
    assert time.monotonic() - begin < 30

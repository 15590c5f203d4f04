"""Poison, against the real engines: it ends as dead letter or quarantine, and everything else is stored."""

from __future__ import annotations

import gzip
import os
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import zstandard
from kafka import KafkaProducer

from mobius_instrumentation.zones import Zone
from mobius_pipeline.dead_letters import DeadLetters
from mobius_pipeline.kafka_client import describe_topic
from mobius_pipeline.ledger import Ledger
from mobius_pipeline.status import lag, zone_status
from mobius_pipeline.store import Purpose, connect
from mobius_pipeline.wire import WireError, WireLimits, decode, parse, varint
from mobius_pipeline.worker import run_worker
from mobius_pipeline.worker.insert import Insert
from mobius_pipeline.worker.poison import PoisonedError, PoisonGuard, PoisonLimits
from mobius_pipeline.worker.steps import Batch, Message, Routed
from mobius_pipeline.worker.validate import Validate
from tests.conftest import ZoneFactory
from tests.pipeline.otlp import SECOND, make_message, make_resource, make_span, publish
from tests.pipeline.test_worker import drain, read_dead_letters, rows

# Field 1 (resource_spans) as a number: the protobuf runtime skips it as unknown, the engine refuses the insert.
REFUSED_TAIL = b"\x08\x01"


def refused() -> bytes:
    return make_message(make_resource([make_span()])) + REFUSED_TAIL


def with_field(extra: bytes) -> bytes:
    """A message whose one span ends with one more field."""

    def counted(number: int, payload: bytes) -> bytes:
        return varint(number << 3 | 2) + varint(len(payload)) + payload

    span = make_span().SerializeToString() + extra
    return counted(1, make_resource([]).SerializeToString() + counted(2, counted(2, span)))


def many_attributes(count: int) -> bytes:
    return make_message(make_resource([make_span(attributes={f"k{n}": "v" for n in range(count)})]))


def publish_encoded(zone: Zone, messages: list[tuple[int, bytes | None, str]]) -> list[int]:
    """Publish (partition, value, content-encoding) triples; returns their offsets."""
    producer = KafkaProducer(
        bootstrap_servers=list(zone.kafka), acks="all", max_request_size=64 << 20
    )
    offsets = [
        producer.send(
            zone.spans_topic,
            key=b"" if value is None else None,
            value=value,
            partition=number,
            headers=[("content-encoding", encoding.encode())] if encoding else [],
        )
        .get(timeout=30)
        .offset
        for number, value, encoding in messages
    ]
    producer.close()
    return offsets


# What, its bytes, its content-encoding, part of its reason; in the dead letters.
DEAD: list[tuple[str, Callable[[], bytes | None], str, str]] = [
    ("no value", lambda: None, "", "no value"),
    ("undecodable", lambda: b"no protobuf", "", "not an OTLP"),
    ("truncated", lambda: make_message(make_resource([make_span()]))[:-3], "", "not an OTLP"),
    ("other protobuf", lambda: b"\x48\x01", "", "hold no resource spans"),
    ("refused by the engine", refused, "", "the store cannot read it"),
    # Of a value's several types protobuf takes the last; the engine takes none.
    (
        "two types in one value",
        lambda: with_field(b"\x4a\x09\x0a\x01k\x12\x04\x10\x01\x18\x07"),
        "",
        "OneOf has more than one value",
    ),
    (
        "a kind of 64 bits",
        lambda: with_field(b"\x30\x89\xe6\x9e\xf5\xad\xe2\x94\x99\xea\x01"),
        "",
        "Could not convert value",
    ),
    # The engine takes the number's first byte for a length.
    (
        "a number for a message",
        lambda: refused()[:-2] + b"\x09\x02\xe3\x7fyyyyy",
        "",
        "cannot read it",
    ),
    ("100,000 attributes", lambda: many_attributes(100_000), "", "attributes; it may have 65536"),
    (
        "2 MB in one value",
        lambda: make_message(make_resource([make_span(attributes={"k": "x" * 2_000_000})])),
        "",
        "a span of 2",
    ),
    (
        "2 MB in a resource",
        lambda: make_message(make_resource([make_span()], k="x" * 2_000_000)),
        "",
        "a resource of 2",
    ),
    ("gzip bomb", lambda: gzip.compress(bytes(40 << 20), 1), "gzip", "when decompressed"),
    (
        "zstd bomb",
        lambda: zstandard.ZstdCompressor().compress(bytes(400 << 20)),
        "zstd",
        "when decompressed",
    ),
    ("not gzip", lambda: make_message(make_resource([make_span()])), "gzip", "not gzip"),
    ("unknown encoding", lambda: make_message(make_resource([make_span()])), "br", "not known"),
]
# What, the span, its reason; in the quarantine.
QUARANTINED: list[tuple[str, dict[str, Any], str]] = [
    ("trace id of 15 bytes", {"trace_id": b"t" * 15}, "trace id is not 16 bytes"),
    ("trace id of zeros", {"trace_id": bytes(16)}, "trace id is not 16 bytes"),
    ("span id of 9 bytes", {"span_id": b"s" * 9}, "span id is not 8 bytes"),
    ("parent of 3 bytes", {"parent_span_id": b"abc"}, "parent span id is not 8 bytes"),
    ("negative duration", {"duration_ns": -1}, "negative duration"),
    ("year 2262", {"start_ns": 9_223_372_036 * SECOND}, "ends more than two days ahead"),
    ("year 2554", {"start_ns": 2**64 - 2 * SECOND}, "ends more than two days ahead"),
    ("year 1970", {"start_ns": 1}, "starts before the year 2000"),
]


@pytest.mark.store
@pytest.mark.kafka
def test_every_poison_ends_where_it_is_seen_and_all_else_is_stored(
    zone_factory: ZoneFactory,
) -> None:
    zone = zone_factory()
    good = [make_span() for _ in range(len(DEAD) + len(QUARANTINED) + 2)]
    others = iter(good)
    messages: list[tuple[int, bytes | None, str]] = []
    for _, make, encoding, _ in DEAD:
        messages.append((0, make(), encoding))
        messages.append((0, make_message(make_resource([next(others)])), ""))
    for _, fields, _ in QUARANTINED:
        # The good span is in the same message.
        messages.append((0, make_message(make_resource([make_span(**fields), next(others)])), ""))
    for encoding, compress in (("gzip", gzip.compress), ("zstd", zstandard.compress)):
        messages.append((0, compress(make_message(make_resource([next(others)]))), encoding))
    offsets = publish_encoded(zone, messages)
    drain(zone)
    assert Counter(row[0] for row in rows(zone, "SELECT span_id FROM spans")) == Counter(
        span.span_id for span in good
    )
    assert rows(zone, "SELECT sum(requests) FROM latency_minute") == [(len(good),)]
    letters = {
        int(headers["offset"]): (headers, value) for headers, value in read_dead_letters(zone)
    }
    table = dict(rows(zone, "SELECT offset, reason FROM dead_letters FINAL"))
    assert letters.keys() == table.keys() == set(offsets[: 2 * len(DEAD) : 2])
    for offset, (what, _, encoding, reason), (_, value, _) in zip(
        offsets[: 2 * len(DEAD) : 2], DEAD, messages[: 2 * len(DEAD) : 2], strict=True
    ):
        assert reason in table[offset], what
        assert letters[offset][0]["reason"] == table[offset]
        assert letters[offset][0]["partition"] == "0"
        assert letters[offset][0].get("content-encoding", "") == encoding
        assert letters[offset][1] == value
    assert rows(zone, "SELECT partition, offset, reason FROM quarantine ORDER BY offset") == [
        (0, offset, reason)
        for offset, (_, _, reason) in zip(offsets[2 * len(DEAD) :], QUARANTINED, strict=False)
    ]


# ---------------------------------------------------------------------------- refused by the engine


def batch(zone: Zone, messages: list[bytes], *, repeated: bool) -> Batch:
    topic = describe_topic(zone, zone.spans_topic)
    assert topic is not None
    items = tuple(
        Routed(Message(0, offset, value), value, len(parse(value).resource_spans), (), "")
        for offset, value in enumerate(messages)
    )
    return Batch(topic, 0, 0, len(items) - 1, items, repeated)


@pytest.mark.store
@pytest.mark.kafka
def test_refused_range_has_the_same_data_on_every_repetition(zone_factory: ZoneFactory) -> None:
    zone = zone_factory()
    spans = [make_span() for _ in range(60)]
    messages = [make_message(make_resource([span])) for span in spans]
    for bad in (0, 17, 18, 59):
        messages[bad] += REFUSED_TAIL
    client = connect(zone, Purpose.INGEST)
    letters = DeadLetters(zone, client)
    given = batch(zone, messages, repeated=False)
    kept = [s.span_id for n, s in enumerate(spans) if n not in (0, 17, 18, 59)]
    for repeated in (False, False, True, True):
        (stored,) = Insert(client, letters).submit(replace(given, repeated=repeated))
        assert [item.message.offset for item in stored.items if item.problem] == [0, 17, 18, 59]
        assert (stored.spans, stored.token) == (56, given.token)
        assert Counter(row[0] for row in rows(zone, "SELECT span_id FROM spans")) == Counter(kept)
        assert rows(zone, "SELECT sum(requests) FROM latency_minute") == [(56,)]
        assert zone_status(zone).dead_letters == 4
    letters.close()


@pytest.mark.store
@pytest.mark.kafka
def test_what_was_declared_dead_stays_dead_for_a_worker_that_could_read_it(
    zone_factory: ZoneFactory,
) -> None:
    """The first worker died after the dead letter was written; the second one's engine takes the message."""
    zone = zone_factory()
    spans = [make_span() for _ in range(5)]
    publish(zone, [(0, make_message(make_resource([span]))) for span in spans])
    topic = describe_topic(zone, zone.spans_topic)
    assert topic is not None
    client = connect(zone, Purpose.INGEST)
    Ledger(client, topic, "dead").claim(0, 0, 4, 5)
    client.insert(
        "dead_letters",
        [[topic.name, topic.id, 0, 2, "an older engine refused it", 10]],
        ["topic", "topic_id", "partition", "offset", "reason", "bytes"],
    )
    drain(zone)
    assert Counter(row[0] for row in rows(zone, "SELECT span_id FROM spans")) == Counter(
        s.span_id for n, s in enumerate(spans) if n != 2
    )
    assert rows(zone, "SELECT spans FROM ingest_ledger WHERE state = 'done'") == [(4,)]


# ---------------------------------------------------------------------------- too much of it


@pytest.mark.store
@pytest.mark.kafka
@pytest.mark.parametrize("poison", [lambda: b"no protobuf", refused], ids=["garbage", "refused"])
def test_a_flood_of_poison_stops_the_worker_and_diverts_nothing(
    zone_factory: ZoneFactory, poison: Callable[[], bytes]
) -> None:
    zone = zone_factory()
    publish(zone, [(0, poison()) for _ in range(120)])
    with pytest.raises(PoisonedError, match=r"the last 1\d\d messages cannot be read") as caught:
        run_worker(zone, threading.Event())
    assert caught.value.exit_code == 1
    assert (lag(zone), zone_status(zone).dead_letters) == (120, 0)
    assert read_dead_letters(zone) == []


def guarded(share: float = 0.5, messages: int = 100) -> tuple[PoisonGuard, list[float]]:
    now = [0.0]
    return PoisonGuard(PoisonLimits(share, messages, 60), lambda: now[0]), now


def test_guard_stops_above_its_share_and_not_at_it() -> None:
    guard, _ = guarded()
    for _ in range(500):
        guard.add(1, 2)
    with pytest.raises(PoisonedError, match="501 of the last 1001") as caught:
        guard.add(1, 1, "partition 1, offset 7: garbage")
    assert "partition 1, offset 7: garbage" in str(caught.value)


def test_guard_waits_for_messages_enough() -> None:
    guard, _ = guarded()
    for _ in range(99):
        guard.add(1, 1)
    with pytest.raises(PoisonedError):
        guard.add(1, 1)


def test_guard_forgets_what_is_older_than_its_window() -> None:
    guard, now = guarded()
    guard.add(99, 99)
    now[0] = 31
    with pytest.raises(PoisonedError):
        guard.add(1, 1)
    guard, now = guarded()
    guard.add(99, 99)
    now[0] = 61
    guard.add(1, 1)
    guard, now = guarded()
    guard.add(0, 10_000)
    now[0] = 31
    guard.add(0, 10)
    now[0] = 62
    with pytest.raises(PoisonedError):
        guard.add(95, 95)


def test_validate_counts_each_message_once() -> None:
    guard, _ = guarded(messages=10)
    step = Validate(guard=guard)
    for offset in range(5):
        step.submit(Message(0, offset, b""))
    for offset in range(5):
        step.submit(Message(0, 5 + offset, b"garbage"))
    with pytest.raises(PoisonedError, match=r"6 of the last 11 .* partition 0, offset 10"):
        step.submit(Message(0, 10, b"garbage"))


# ---------------------------------------------------------------------------- decode


SMALL = WireLimits(encoded_bytes=5_000, decoded_bytes=10_000)


@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("zstd", zstandard.compress)]
)
def test_decode_has_exact_limits(encoding: str, compress: Callable[[bytes], bytes]) -> None:
    full = os.urandom(1_000) + bytes(9_000)
    assert decode(compress(full), encoding, SMALL) == full
    assert decode(compress(full[:4_000]) + compress(full[4_000:]), encoding, SMALL) == full
    for value in (compress(full + b"\0"), compress(full) + compress(b"\0")):
        with pytest.raises(WireError, match="over 10000 bytes when decompressed"):
            decode(value, encoding, SMALL)
    for cut in (1, 5, len(compress(full)) // 2):
        with pytest.raises(WireError, match=f"{encoding}"):
            decode(compress(full)[:-cut], encoding, SMALL)
    with pytest.raises(WireError, match="5001 bytes; a message may have 5000"):
        decode(bytes(5_001), encoding, SMALL)
    assert decode(b"", "") == b""
    assert decode(full[:5_000], "identity", SMALL) == full[:5_000]


@pytest.mark.timeout(100)
@pytest.mark.parametrize(
    ("encoding", "member"),
    [("gzip", gzip.compress(b"", 1)), ("zstd", zstandard.compress(b""))],
    # gzip writes the time into its header: a name made of the bytes differs between workers
    ids=["gzip", "zstd"],
)
def test_hundreds_of_thousands_of_empty_members_take_no_minutes(
    encoding: str, member: bytes
) -> None:
    """Copying what follows, for each of them, would."""
    limits = WireLimits(encoded_bytes=16 << 20)
    assert decode(member * (limits.encoded_bytes // len(member)), encoding, limits) == b""


def test_attributes_are_counted_with_events_and_links() -> None:
    limits = WireLimits(attributes=10, span_bytes=100_000)
    span = make_span(attributes={f"k{n}": "v" for n in range(5)})
    assert len(span.attributes) == 8
    span.events.add().attributes.add().key = "e"
    span.links.add().attributes.add().key = "l"
    parse(make_message(make_resource([span])), limits)
    span.events.add().attributes.add().key = "f"
    with pytest.raises(WireError, match="a span with 11 attributes; it may have 10"):
        parse(make_message(make_resource([make_span(), span])), limits)
    with pytest.raises(WireError, match="a span of"):
        parse(
            make_message(make_resource([span], ours=False)),
            WireLimits(attributes=20, span_bytes=150),
        )

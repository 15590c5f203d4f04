"""Headers of records that no well-behaved producer writes; brokers take them."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import closing
from typing import Any, Self
from uuid import UUID

import pytest
from kafka import KafkaProducer, TopicPartition

from mobius_pipeline.dead_letter_replay import find_letters, letter_value, replay
from mobius_pipeline.kafka_client import content_encoding, open_consumer
from tests.conftest import ZoneFactory, on_both_brokers
from tests.pipeline.otlp import make_message, make_resource, make_span, publish
from tests.pipeline.test_worker import drain, rows


class RawName(str):
    """A header's name that the producer writes as these bytes."""

    __slots__ = ("raw",)
    raw: bytes

    def __new__(cls, raw: bytes) -> Self:
        name = super().__new__(cls, raw.decode("latin-1"))
        name.raw = raw
        return name

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return self.raw


@pytest.mark.store
class TestRecordHeaders:
    pytestmark = on_both_brokers

    @pytest.mark.parametrize("compression", [None, "gzip"])
    def test_names_that_are_no_utf_8_hold_no_partition(
        self, zone_factory: ZoneFactory, compression: str | None
    ) -> None:
        zone = zone_factory()
        spans = [make_span() for _ in range(6)]
        producer = KafkaProducer(
            bootstrap_servers=list(zone.kafka), linger_ms=200, compression_type=compression
        )
        for number, span in enumerate(spans):
            headers = [(RawName(b"\xff\xfe"), b"\x80")] if number in (1, 4) else [("a", b"")]
            producer.send(
                zone.spans_topic, make_message(make_resource([span])), headers=headers, partition=0
            )
        producer.close()
        drain(zone)
        assert Counter(row[0] for row in rows(zone, "SELECT span_id FROM spans")) == Counter(
            span.span_id for span in spans
        )
        with closing(open_consumer(zone)) as consumer:
            key = TopicPartition(zone.spans_topic, 0)
            consumer.assign([key])
            consumer.seek(key, 0)
            found: list[Any] = []
            while len(found) < 6:
                found += consumer.poll(500).get(key, [])
        assert [record.headers[0][0] for record in found] == ["a", "��", "a", "a", "��", "a"]

    def test_a_replay_finds_its_letters_among_whatever_else_is_in_their_topic(
        self, zone_factory: ZoneFactory
    ) -> None:
        zone = zone_factory()
        publish(zone, [(0, b"no protobuf"), (1, b"nor this")])
        drain(zone)
        letters = find_letters(zone)
        numbers = random.Random(11)
        producer = KafkaProducer(bootstrap_servers=list(zone.kafka))
        names = [RawName(numbers.randbytes(n % 4)) for n in range(20)]
        names += [RawName(b"content-encoding"), RawName(b"topic-id"), RawName(b"offset")]
        for number in range(150):
            key = numbers.choice(
                [None, b"", b"/", b"a/b/c", f"{UUID(int=1)}/0/0".encode(), b"\xff"]
            )
            value = numbers.randbytes(number % 50)
            headers = [(numbers.choice(names), numbers.randbytes(9)) for _ in range(number % 4)]
            producer.send(zone.dead_letters_topic, value=value, key=key, headers=headers)
        producer.close()
        assert [letter_value(zone, letter) for letter in letters] == [
            ((b"no protobuf", b"nor this")[letter.partition], "") for letter in letters
        ]
        assert sorted(replay(zone).replayed) == sorted(letter.id for letter in letters)


@pytest.mark.parametrize(
    ("headers", "encoding"),
    [
        ([], ""),
        ([("content-encoding", None)], ""),
        ([("Content-Encoding", b" GZIP ")], "gzip"),
        ([("x", b"gzip"), ("content-encoding", b"\xff")], "\ufffd"),
    ],
)
def test_content_encoding_of_any_headers(
    headers: list[tuple[str, bytes | None]], encoding: str
) -> None:
    assert content_encoding(headers) == encoding

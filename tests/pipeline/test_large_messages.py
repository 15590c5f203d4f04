"""Messages at and beyond what a broker takes: unreadable ones are declared dead, others do not suffer for them."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import ConfigResource, NewTopic
from opentelemetry.sdk.trace import TracerProvider

from mobius_infra.kafka_broker import KafkaBroker
from mobius_instrumentation.buffer import Limits
from mobius_instrumentation.exporter import KafkaSpanExporter
from mobius_instrumentation.processor import ExportingProcessor
from mobius_instrumentation.zones import Zone
from mobius_pipeline.dead_letter_replay import find_letters, letter_value, replay
from mobius_pipeline.kafka_client import ensure_topics
from tests.conftest import ZoneFactory, on_both_brokers
from tests.pipeline.otlp import make_message, make_resource, make_span
from tests.pipeline.test_worker import drain, rows

pytestmark = pytest.mark.store

LIMIT = 8_388_608  # of a topic on the Apache Kafka of the tests; the embedded broker has none


def publish_beside(zone: Zone, value: bytes, compression: str | None = None) -> list[bytes]:
    """Publish the value between messages that are all right; returns the ids of their spans."""
    ids = [os.urandom(8) for _ in range(10)]
    good = [make_message(make_resource([make_span(span_id=each)])) for each in ids]
    producer = KafkaProducer(
        bootstrap_servers=list(zone.kafka),
        acks="all",
        max_request_size=128 << 20,
        compression_type=compression,
    )
    for message in (*good[:5], value, *good[5:]):
        producer.send(zone.spans_topic, value=message, partition=0).get(timeout=60)
    producer.close()
    return ids


def stored(zone: Zone) -> Counter[bytes]:
    return Counter(row[0] for row in rows(zone, "SELECT span_id FROM spans"))


class TestBothBrokers:
    pytestmark = on_both_brokers

    def test_the_largest_message_that_the_topic_takes_can_be_declared_dead(
        self, zone_factory: ZoneFactory
    ) -> None:
        zone = zone_factory()
        # What a record and its batch need besides is less than 100 bytes.
        poison = b"poison" + os.urandom(LIMIT - 106)
        ids = publish_beside(zone, poison)
        drain(zone)
        assert stored(zone) == Counter(ids)
        (letter,) = find_letters(zone)
        assert letter.bytes == len(poison)
        assert letter_value(zone, letter) == (poison, "")

    def test_a_message_that_was_small_only_while_it_was_compressed(
        self, zone_factory: ZoneFactory
    ) -> None:
        zone = zone_factory()
        bomb = b"\xff" * (70 << 20)
        ids = publish_beside(zone, bomb, "gzip")
        drain(zone)
        assert stored(zone) == Counter(ids)
        (letter,) = find_letters(zone)
        assert letter.bytes == len(bomb)
        assert "takes no more than the first 65536" in letter.reason
        # A part of a message is never published as one.
        assert replay(zone).missing == (letter.id,)


def limit_of(address: str, topic: str) -> int:
    admin = KafkaAdminClient(bootstrap_servers=address)
    found = admin.describe_configs(
        [ConfigResource("topic", topic, ["max.message.bytes"])], config_filter="all"
    )
    admin.close()
    return int(found["topic"][topic]["max.message.bytes"]["value"])


@pytest.mark.kafka
@pytest.mark.timeout(900)
@pytest.mark.parametrize("broker", ["kafka"], indirect=True, scope="session")
def test_the_limit_of_dead_letters_follows_that_of_spans(
    zone_factory: ZoneFactory, broker: str
) -> None:
    zone = zone_factory()
    assert limit_of(broker, zone.spans_topic) == LIMIT
    assert limit_of(broker, zone.dead_letters_topic) == LIMIT + 65_536
    admin = KafkaAdminClient(bootstrap_servers=broker)
    for topic, limit in ((zone.spans_topic, 20_000_000), (zone.dead_letters_topic, 30_000_000)):
        admin.alter_configs(
            [ConfigResource("topic", topic, {"max.message.bytes": str(limit)})],
            raise_on_unknown=False,
        )
        ensure_topics(zone)
        # What somebody made larger than it must be stays so.
        expected = 20_065_536 if topic == zone.spans_topic else 30_000_000
        assert limit_of(broker, zone.dead_letters_topic) == expected
    admin.close()


@pytest.mark.kafka
@pytest.mark.timeout(900)
def test_one_message_that_a_broker_refuses_costs_a_service_no_other(
    kafka_broker: KafkaBroker,
) -> None:
    topic = f"small-{os.urandom(4).hex()}"
    admin = KafkaAdminClient(bootstrap_servers=kafka_broker.address)
    admin.create_topics([NewTopic(topic, 2, 1, topic_configs={"max.message.bytes": "3000"})])
    admin.close()
    exporter = KafkaSpanExporter(
        [kafka_broker.address], topic, limits=Limits(batch_spans=10, delay_seconds=0.02)
    )
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(ExportingProcessor(exporter))
    tracer = provider.get_tracer("test")
    for size in (10, 4_000, 10, 1_000, 10):
        for _ in range(10):
            tracer.start_span("x" * size).end()
    assert exporter.force_flush(90_000)
    stats = exporter.stats()
    # Ten that are too big each by itself; the ten of 1,000 are so together only, and go in smaller messages.
    assert (stats.sent, stats.dropped) == (40, {"refused": 10})
    exporter.shutdown(5_000)

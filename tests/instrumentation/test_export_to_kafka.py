"""The exporter against a real broker: present, away, late, replaced, and in a forked child."""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer

from mobius_instrumentation.buffer import Limits
from mobius_instrumentation.exporter import KafkaSpanExporter
from mobius_instrumentation.processor import ExportingProcessor
from mobius_instrumentation.stats import ExportStats

if TYPE_CHECKING:
    from tests.instrumentation.conftest import Broker, ReadTopic

pytestmark = pytest.mark.kafka

MakeExporter = Callable[..., tuple[KafkaSpanExporter, Tracer]]


@pytest.fixture
def make() -> Iterator[MakeExporter]:
    made: list[KafkaSpanExporter] = []

    def exporter(address: str, topic: str, **options: Any) -> tuple[KafkaSpanExporter, Tracer]:
        exporter = KafkaSpanExporter([address], topic, **options)
        made.append(exporter)
        provider = TracerProvider(resource=Resource({"cloud.region": "eu"}), shutdown_on_exit=False)
        provider.add_span_processor(ExportingProcessor(exporter))
        return exporter, provider.get_tracer("test")

    yield exporter
    for exporter_ in made:
        exporter_.shutdown(0)


def emit(tracer: Tracer, number: int, name: str = "work") -> set[str]:
    """End spans, and return their ids."""
    made = set()
    for _ in range(number):
        with tracer.start_as_current_span(name) as span:
            made.add(f"{span.get_span_context().span_id:016x}")
    return made


def exact(stats: ExportStats) -> bool:
    return stats.accepted == stats.sent + stats.dropped_total + stats.pending


def until(condition: Callable[[], bool], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_every_span_arrives_once_in_full_messages_on_both_partitions(
    broker: str, topic: str, make: MakeExporter, read_topic: ReadTopic
) -> None:
    exporter, tracer = make(broker, topic, limits=Limits(batch_spans=100, delay_seconds=60))
    made = emit(tracer, 950)
    assert exporter.force_flush(20_000)
    stats = exporter.stats()
    assert (stats.accepted, stats.sent, stats.pending, stats.dropped) == (950, 950, 0, {})
    messages = read_topic(broker, topic)
    assert Counter(s.span_id for _, spans in messages for s in spans) == Counter(made)
    assert sorted(len(spans) for _, spans in messages) == [50] + [100] * 9
    assert Counter(partition for partition, _ in messages) == {0: 5, 1: 5}
    assert {s.resource["cloud.region"] for _, spans in messages for s in spans} == {"eu"}


def test_messages_stay_below_a_megabyte(
    broker: str, topic: str, make: MakeExporter, read_topic: ReadTopic
) -> None:
    exporter, tracer = make(broker, topic)
    made = emit(tracer, 1_200, name="x" * 4_000)
    assert exporter.force_flush(20_000)
    messages = read_topic(broker, topic)
    assert {s.span_id for _, spans in messages for s in spans} == made
    assert all(1 < len(spans) <= 225 for _, spans in messages)


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_export_waits_for_room_instead_of_dropping(
    broker: str, topic: str, make: MakeExporter, read_topic: ReadTopic, compression: str | None
) -> None:
    collected = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(collected))
    made = emit(provider.get_tracer("load"), 700)
    exporter, _ = make(
        broker, topic, limits=Limits(queue_spans=64, batch_spans=32), compression=compression
    )
    assert exporter.export(collected.get_finished_spans()) is SpanExportResult.SUCCESS
    assert exporter.force_flush(20_000)
    assert exporter.stats().sent == 700
    assert {s.span_id for _, spans in read_topic(broker, topic) for s in spans} == made


def test_away_the_buffer_bounds_memory_and_every_drop_is_counted_and_said(
    own_broker: Broker, make: MakeExporter, caplog: pytest.LogCaptureFixture
) -> None:
    exporter, tracer = make(own_broker.address, "t", limits=Limits(queue_spans=200))
    with caplog.at_level(logging.WARNING):
        emit(tracer, 1_000)
        stats = exporter.stats()
        assert stats.dropped == {"queue_full": 800}
        assert (stats.accepted, stats.pending, stats.sent) == (1_000, 200, 0)
        assert until(lambda: bool(caplog.records))
        exporter.shutdown(300)
    stats = exporter.stats()
    assert stats.dropped == {"queue_full": 800, "shutdown": 200}
    assert exact(stats)
    # One line while it went on, one at the end, and none of the Kafka client's own.
    assert [record.name for record in caplog.records] == ["mobius_instrumentation"] * 2
    assert "800 spans were dropped" in caplog.records[0].message
    assert "200 spans were dropped" in caplog.records[1].message
    assert own_broker.address in caplog.records[0].message


def test_what_ends_after_the_shutdown_is_dropped_and_counted(
    own_broker: Broker, make: MakeExporter
) -> None:
    exporter, tracer = make(own_broker.address, "t")
    exporter.shutdown(0)
    emit(tracer, 3)
    stats = exporter.stats()
    assert (stats.dropped, stats.pending) == ({"after_shutdown": 3}, 0)
    assert exact(stats)


def test_a_broker_that_comes_late_gets_all_that_the_buffer_kept(
    own_broker: Broker, make: MakeExporter, read_topic: ReadTopic
) -> None:
    exporter, tracer = make(own_broker.address, "late", limits=Limits(batch_spans=20))
    made = emit(tracer, 300)
    assert not exporter.force_flush(1_500)
    assert exporter.stats().pending == 300
    own_broker.start("late")
    assert exporter.force_flush(30_000)
    assert exporter.stats().sent == 300
    arrived = Counter(
        s.span_id for _, spans in read_topic(own_broker.address, "late") for s in spans
    )
    assert arrived == Counter(made)


def test_another_broker_at_the_same_address_gets_what_ended_meanwhile(
    own_broker: Broker, make: MakeExporter, read_topic: ReadTopic
) -> None:
    own_broker.start("t")
    exporter, tracer = make(
        own_broker.address,
        "t",
        limits=Limits(delay_seconds=0.05),
        kafka_options={"request_timeout_ms": 1_000, "delivery_timeout_ms": 2_000},
    )
    emit(tracer, 50)
    assert exporter.force_flush(20_000)
    own_broker.stop()
    made = emit(tracer, 70)
    assert not exporter.force_flush(500)
    own_broker.start("t")  # knows nothing of the producer's session
    assert exporter.force_flush(60_000)
    stats = exporter.stats()
    assert (stats.accepted, stats.sent, stats.dropped) == (120, 120, {})
    arrived = Counter(s.span_id for _, spans in read_topic(own_broker.address, "t") for s in spans)
    assert arrived == Counter(made)


def test_a_span_that_cannot_be_encoded_is_counted_and_harms_no_other(
    broker: str, topic: str, make: MakeExporter, read_topic: ReadTopic
) -> None:
    exporter, tracer = make(broker, topic)
    tracer.start_span("from the future").end(end_time=2**70)
    made = emit(tracer, 1)
    assert exporter.force_flush(20_000)
    stats = exporter.stats()
    assert (stats.accepted, stats.sent, stats.dropped) == (2, 1, {"encode_error": 1})
    assert {s.span_id for _, spans in read_topic(broker, topic) for s in spans} == made


def test_the_stats_file_holds_the_account(
    broker: str, topic: str, make: MakeExporter, tmp_path: Path
) -> None:
    file = tmp_path / "stats-{pid}.json"
    written = tmp_path / f"stats-{os.getpid()}.json"
    exporter, tracer = make(broker, topic, stats_file=str(file))
    assert json.loads(written.read_text())["accepted"] == 0
    emit(tracer, 5)
    assert exporter.force_flush(20_000)
    document = json.loads(written.read_text())
    assert {k: document[k] for k in ("accepted", "sent", "dropped", "pending")} == {
        "accepted": 5,
        "sent": 5,
        "dropped": {},
        "pending": 0,
    }
    emit(tracer, 2)
    assert until(lambda: json.loads(written.read_text())["sent"] == 7)
    exporter.shutdown()
    emit(tracer, 1)
    assert sorted(p.name for p in tmp_path.iterdir()) == [written.name]


def test_a_forked_child_sends_its_own_spans_and_the_parent_keeps_its(
    broker: str, topic: str, make: MakeExporter, read_topic: ReadTopic, tmp_path: Path
) -> None:
    exporter, tracer = make(broker, topic, limits=Limits(delay_seconds=60))
    before = emit(tracer, 20)
    assert exporter.force_flush(20_000)  # the client is connected now
    waiting = emit(tracer, 5)
    told = tmp_path / "child.json"
    child = os.fork()
    if child == 0:  # pragma: no cover  # another process
        try:
            made = emit(tracer, 7)
            done = exporter.force_flush(20_000)
            stats = exporter.stats()
            told.write_text(json.dumps([sorted(made), done, stats.accepted, stats.sent]))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    childs, done, accepted, sent = json.loads(told.read_text())
    assert (done, accepted, sent) == (True, 7, 7)
    assert exporter.force_flush(20_000)
    assert exporter.stats().accepted == exporter.stats().sent == 25
    arrived = Counter(s.span_id for _, spans in read_topic(broker, topic) for s in spans)
    assert arrived == Counter(before | waiting | set(childs))

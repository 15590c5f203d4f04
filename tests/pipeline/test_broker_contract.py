"""What the pipeline needs of a Kafka broker: the same tests on the embedded one and on Apache Kafka."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from kafka import KafkaAdminClient, KafkaProducer
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from mobius_instrumentation.buffer import Limits
from mobius_instrumentation.exporter import KafkaSpanExporter
from mobius_instrumentation.processor import ExportingProcessor
from mobius_instrumentation.zones import Zone
from mobius_pipeline.imports.span_topic import SpanTopic
from mobius_pipeline.kafka_client import describe_topic, end_offsets, ensure_topics
from mobius_pipeline.status import lag, span_identity, zone_status
from mobius_pipeline.store import Purpose, connect
from mobius_pipeline.worker import WorkerOptions, run_worker
from mobius_pipeline.worker.batch import BatchLimits
from tests.conftest import ZoneFactory, on_both_brokers
from tests.pipeline.otlp import make_message, make_resource, make_span, publish

pytestmark = on_both_brokers

SMALL = WorkerOptions(limits=BatchLimits(spans=400, seconds=0.05), name="worker-0")


def drain(zone: Zone) -> None:
    """Run a worker until it has stored everything."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            run_worker(zone, stop, SMALL)
        except BaseException as error:  # noqa: BLE001 - raised again below, in the test's own thread
            failures.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    deadline = time.monotonic() + 60
    while worker.is_alive() and lag(zone) and time.monotonic() < deadline:
        time.sleep(0.05)
    stop.set()
    worker.join(60)
    if failures:
        raise failures[0]
    assert lag(zone) == 0


def stored(zone: Zone) -> Counter[bytes]:
    client = connect(zone, Purpose.ANALYSIS)
    try:
        query = client.query("SELECT span_id FROM spans", query_formats={"FixedString": "bytes"})
        return Counter(bytes(row[0]) for row in query.result_rows)
    finally:
        client.close()


def messages_of(ids: list[bytes], size: int) -> list[tuple[int, bytes | None]]:
    """Messages of ``size`` spans, on both partitions in turn."""
    return [
        (
            begin // size % 2,
            make_message(make_resource([make_span(span_id=i) for i in ids[begin : begin + size]])),
        )
        for begin in range(0, len(ids), size)
    ]


def test_a_topic_keeps_its_identity_and_a_new_one_of_its_name_has_another(
    zone_factory: ZoneFactory,
) -> None:
    zone = zone_factory()
    first = describe_topic(zone, zone.spans_topic)
    assert first is not None
    assert first.partitions == (0, 1)
    ensure_topics(zone)
    assert describe_topic(zone, zone.spans_topic) == first
    assert describe_topic(zone, "rum.spans.nobody-made-this") is None
    old = [os.urandom(8) for _ in range(20)]
    publish(zone, messages_of(old, 5))
    drain(zone)

    admin = KafkaAdminClient(bootstrap_servers=list(zone.kafka))
    admin.delete_topics([zone.spans_topic])
    admin.close()
    deadline = time.monotonic() + 30
    while describe_topic(zone, zone.spans_topic) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    ensure_topics(zone)
    second = describe_topic(zone, zone.spans_topic)
    assert second is not None
    assert second.id != first.id
    assert end_offsets(zone, zone.spans_topic, (0, 1)) == {0: 0, 1: 0}
    # Its offsets, and so the ranges, are the same again, and are not taken for those that are stored.
    new = [os.urandom(8) for _ in range(20)]
    publish(zone, messages_of(new, 5))
    drain(zone)
    assert stored(zone) == Counter([*old, *new])


def test_ends_are_exact_after_every_batch(zone_factory: ZoneFactory) -> None:
    zone = zone_factory()
    message = make_message(make_resource([make_span()]))
    assert end_offsets(zone, zone.spans_topic, (0, 1)) == {0: 0, 1: 0}
    end = 0
    for size in (1, 1, 10, 993, 7):
        positions = publish(zone, [(1, message)] * size)
        assert positions == [(1, offset) for offset in range(end, end + size)]
        end += size
        assert end_offsets(zone, zone.spans_topic, (0, 1)) == {0: 0, 1: end}


def test_what_an_importer_published_is_found_by_its_headers(zone_factory: ZoneFactory) -> None:
    zone = zone_factory()
    topic = SpanTopic(zone)
    placed: dict[int, object] = {}
    chunks = [(number, 1, make_message(make_resource([make_span()]))) for number in range(9)]
    publish(zone, [(0, b"somebody else's")])
    topic.publish(
        "the digest", chunks, lambda number, _, position: placed.update({number: position})
    )
    assert len(placed) == 9
    assert topic.find("the digest", {}) == placed
    assert topic.find("another digest", {}) == {}
    assert topic.find("the digest", topic.ends()) == {}


def test_a_worker_killed_on_the_way_stores_each_span_once(
    zone_factory: ZoneFactory, zones_file_factory: Callable[..., Path]
) -> None:
    zone = zone_factory()
    ids = [os.urandom(8) for _ in range(10_000)]
    publish(zone, [*messages_of(ids, 50), (0, b"no protobuf")])
    command = [
        *(sys.executable, "-m", "mobius_infra.cli", "ingest", "--zone", zone.name),
        *("--config", str(zones_file_factory(zone)), "--batch-spans", "500", "--batch-ms", "20"),
        *("--name", "worker-0"),
    ]
    worker = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert worker.stderr is not None
    assert json.loads(worker.stderr.readline())["event"] == "reading"
    deadline = time.monotonic() + 60
    while not (rows := span_identity(zone).rows):
        assert time.monotonic() < deadline
    worker.kill()
    worker.wait()
    worker.stderr.close()
    assert rows < len(ids), "it was done before it was killed, so nothing was proved"
    drain(zone)
    assert stored(zone) == Counter(ids)
    status = zone_status(zone)
    assert (status.spans, status.dead_letters, status.quarantined) == (10_000, 1, 0)


def test_a_message_far_beyond_the_usual_limit_passes(zone_factory: ZoneFactory) -> None:
    zone = zone_factory()
    before, big, after = ([os.urandom(8) for _ in range(count)] for count in (1, 6, 1))
    large = [
        make_span(span_id=i, attributes={"http.request.header.x": os.urandom(250_000).hex()})
        for i in big
    ]
    producer = KafkaProducer(
        bootstrap_servers=list(zone.kafka), acks="all", max_request_size=8 << 20
    )
    for value in (
        messages_of(before, 1)[0][1],
        make_message(make_resource(large)),
        b"poison" + os.urandom(3_000_000),
        messages_of(after, 1)[0][1],
    ):
        producer.send(zone.spans_topic, value=value, partition=0).get(timeout=30)
    producer.close()
    drain(zone)
    assert stored(zone) == Counter([*before, *big, *after])
    assert zone_status(zone).dead_letters == 1
    assert end_offsets(zone, zone.dead_letters_topic, [0]) == {0: 1}


def test_what_a_service_exports_is_stored(zone_factory: ZoneFactory) -> None:
    zone = zone_factory()
    exporter = KafkaSpanExporter(
        list(zone.kafka), zone.spans_topic, limits=Limits(batch_spans=100, delay_seconds=60)
    )
    resource = Resource({"cloud.region": "eu-west-1", "service.name": "shop"})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(ExportingProcessor(exporter))
    tracer = provider.get_tracer("test")
    made = []
    for _ in range(750):
        with tracer.start_as_current_span("work") as span:
            made.append(span.get_span_context().span_id.to_bytes(8, "big"))
    assert exporter.force_flush(20_000)
    stats = exporter.stats()
    assert (stats.accepted, stats.sent, stats.dropped) == (750, 750, {})
    exporter.shutdown(5_000)
    drain(zone)
    assert stored(zone) == Counter(made)

"""The Collector's example configuration, run: what services of any language send arrives cleaned, once, or not at all."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from kafka import KafkaConsumer, TopicPartition
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from mobius_infra.benchmarks._collector import CollectorMissingError, build
from mobius_instrumentation.testing import RecordedSpan, decode_request
from tests.conftest import on_both_brokers
from tests.instrumentation.conftest import make_topics

# Building it takes minutes.
pytestmark = [
    *on_both_brokers,
    pytest.mark.system,
    pytest.mark.soak,
    pytest.mark.timeout(2400),
]

FOLDER = Path(__file__).parents[2] / "infra" / "collector"
REGION = "eu-west-1"


@pytest.fixture(scope="module")
def program() -> Path:
    try:
        return build(FOLDER / "manifest.yaml")
    except CollectorMissingError as error:
        pytest.skip(f"NOT TESTED WITH THE COLLECTOR: {error}")


@pytest.fixture
def zone_name() -> str:
    return f"z{uuid4().hex[:12]}"


@pytest.fixture
def collector(
    program: Path, broker: str, zone_name: str, tmp_path: Path
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A running Collector of the zone, on a loopback address of its own, as its ports are fixed."""
    make_topics(broker, f"rum.spans.{zone_name}")
    host = (
        f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(250)}.{secrets.randbelow(250) + 1}"
    )
    log = tmp_path / "collector.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [str(program), "--config", str(FOLDER / "traces.yaml")],
            env={
                **os.environ,
                "MOBIUS_ZONE": zone_name,
                "MOBIUS_ZONE_REGION": REGION,
                "MOBIUS_KAFKA_BROKER": broker,
                "MOBIUS_COLLECTOR_HOST": host,
            },
            stdout=errors,
            stderr=errors,
        )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection((host, 4318), timeout=1).close()
            break
        except OSError:
            time.sleep(0.05)
    else:
        raise AssertionError(log.read_text())
    yield f"http://{host}:4318/v1/traces", process
    process.kill()
    process.wait()


def send(url: str, region: str | None, number: int) -> set[str]:
    """Send spans as an SDK does, with what must not arrive; returns their ids."""
    attributes = {"service.name": "checkout", "host.name": "alice-laptop"}
    resource = Resource(attributes | ({"cloud.region": region} if region else {}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=url)))
    made = set[str]()
    for _ in range(number):
        with provider.get_tracer("net/http").start_as_current_span("GET /orders/{id}") as span:
            span.set_attributes({"http.route": "/orders/{id}", "enduser.id": "alice"})
            span.record_exception(ValueError("alice is unknown"))
            made.add(f"{span.get_span_context().span_id:016x}")
    provider.shutdown()
    return made


def read(address: str, topic: str) -> list[RecordedSpan]:
    consumer = KafkaConsumer(
        bootstrap_servers=address, auto_offset_reset="earliest", consumer_timeout_ms=2000
    )
    consumer.assign([TopicPartition(topic, number) for number in (0, 1)])
    spans = [span for record in consumer for span in decode_request(record.value)]
    consumer.close()
    return spans


def test_spans_of_the_region_arrive_cleaned_and_others_do_not(
    collector: tuple[str, subprocess.Popen[bytes]], broker: str, zone_name: str
) -> None:
    url, process = collector
    made = send(url, REGION, 30)
    send(url, "us-east-1", 3)
    send(url, None, 3)
    process.terminate()  # sends what it holds
    assert process.wait(timeout=60) == 0
    spans = read(broker, f"rum.spans.{zone_name}")
    assert sorted(span.span_id for span in spans) == sorted(made)
    for span in spans:
        assert span.resource["cloud.region"] == REGION
        assert span.attributes["http.route"] == "/orders/{id}"
        assert "alice" not in repr(span)

"""TLS and passwords towards a real Kafka: what works, and what is said where it does not."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from kafka import KafkaProducer
from kafka.errors import KafkaError
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from mobius_instrumentation import tls
from mobius_instrumentation.buffer import Limits
from mobius_instrumentation.exporter import KafkaSpanExporter
from mobius_instrumentation.kafka_options import kafka_settings
from mobius_instrumentation.processor import ExportingProcessor
from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import DependencyError
from mobius_pipeline.kafka_client import describe_topic, end_offsets, ensure_topics
from tests.conftest import ZoneFactory
from tests.pipeline.otlp import make_message, make_resource, make_span, publish
from tests.pipeline.proxy import proxied
from tests.pipeline.test_worker import SMALL, drain, rows, wait_for, working
from tests.secured import USER, SecuredKafka, kafka_variables

pytestmark = [pytest.mark.store, pytest.mark.kafka, pytest.mark.timeout(900)]


@pytest.fixture
def plain_zone(zone_factory: ZoneFactory, secured_kafka: SecuredKafka) -> Zone:
    """A zone with topics on the secured broker, reached over its port without TLS and password."""
    zone = replace(zone_factory(topics=False), kafka=(secured_kafka.broker.address,))
    ensure_topics(zone)
    return zone


@pytest.fixture
def sasl(
    plain_zone: Zone, secured_kafka: SecuredKafka, monkeypatch: pytest.MonkeyPatch
) -> dict[str, object]:
    """Variables with which the port SASL takes us; set already."""
    values: dict[str, object] = {
        "SECURITY_PROTOCOL": "SASL_SSL",
        "SASL_MECHANISM": "SCRAM-SHA-512",
        "SASL_USERNAME": USER,
        "SASL_PASSWORD": secured_kafka.password,
        "SSL_CA_FILE": secured_kafka.authority.cert,
    }
    kafka_variables(plain_zone, monkeypatch, values)
    return values


def publish_and_poison(zone: Zone) -> list[bytes]:
    ids = [os.urandom(8) for _ in range(40)]
    messages = [
        (n % 2, make_message(make_resource([make_span(span_id=each)])))
        for n, each in enumerate(ids)
    ]
    publish(zone, [*messages, (0, b"no protobuf")])
    return ids


@pytest.mark.parametrize(
    ("port", "mechanism"),
    [
        ("SASL", "SCRAM-SHA-512"),
        ("SASL", "SCRAM-SHA-256"),
        ("SASL", "PLAIN"),
        ("CLEAR", "SCRAM-SHA-512"),
    ],
)
def test_worker_and_dead_letters_with_a_password(
    plain_zone: Zone,
    secured_kafka: SecuredKafka,
    monkeypatch: pytest.MonkeyPatch,
    port: str,
    mechanism: str,
) -> None:
    ids = publish_and_poison(plain_zone)
    zone = secured_kafka.zone(plain_zone, port)
    values = {
        "SECURITY_PROTOCOL": "SASL_SSL" if port == "SASL" else "SASL_PLAINTEXT",
        "SASL_MECHANISM": mechanism,
        "SASL_USERNAME": USER,
        "SASL_PASSWORD": secured_kafka.password,
    }
    if port == "SASL":
        values["SSL_CA_FILE"] = str(secured_kafka.authority.cert)
    kafka_variables(zone, monkeypatch, values)
    drain(zone)
    assert Counter(row[0] for row in rows(zone, "SELECT span_id FROM spans")) == Counter(ids)
    assert end_offsets(zone, zone.dead_letters_topic, [0]) == {0: 1}


def test_worker_with_a_certificate_of_its_own(
    plain_zone: Zone, secured_kafka: SecuredKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = publish_and_poison(plain_zone)
    zone = secured_kafka.zone(plain_zone, "TLS")
    kafka_variables(
        zone,
        monkeypatch,
        {
            "SECURITY_PROTOCOL": "SSL",
            "SSL_CA_FILE": secured_kafka.authority.cert,
            "SSL_CERT_FILE": secured_kafka.client.cert,
            "SSL_KEY_FILE": secured_kafka.client.key,
            "SSL_KEY_PASSWORD": secured_kafka.key_password,
        },
    )
    drain(zone)
    assert Counter(row[0] for row in rows(zone, "SELECT span_id FROM spans")) == Counter(ids)


def make_spans(exporter: KafkaSpanExporter, count: int) -> list[bytes]:
    resource = Resource({"cloud.region": "eu-west-1", "service.name": "shop"})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(ExportingProcessor(exporter))
    made = []
    for _ in range(count):
        with provider.get_tracer("test").start_as_current_span("work") as span:
            made.append(span.get_span_context().span_id.to_bytes(8, "big"))
    return made


def exporter_of(zone: Zone) -> KafkaSpanExporter:
    return KafkaSpanExporter(
        zone.kafka,
        zone.spans_topic,
        limits=Limits(batch_spans=100, delay_seconds=0.05),
        kafka_options=lambda: kafka_settings(zone, os.environ),
    )


def test_what_a_service_exports_with_a_password_is_stored(
    plain_zone: Zone, secured_kafka: SecuredKafka, sasl: dict[str, object]
) -> None:
    zone = secured_kafka.zone(plain_zone, "SASL")
    exporter = exporter_of(zone)
    made = make_spans(exporter, 250)
    assert exporter.force_flush(30_000)
    assert exporter.stats().sent == 250
    exporter.shutdown(5_000)
    drain(zone)
    assert Counter(row[0] for row in rows(zone, "SELECT span_id FROM spans")) == Counter(made)


# ---------------------------------------------------------------------------- what is said where it does not work


@pytest.mark.parametrize(
    ("port", "changed", "said"),
    [
        ("SASL", {"SASL_PASSWORD": "another"}, "correct {0}SASL_USERNAME and {0}SASL_PASSWORD"),
        ("SASL", {"SASL_USERNAME": "nobody"}, "correct {0}SASL_USERNAME and {0}SASL_PASSWORD"),
        ("SASL", {"SSL_CA_FILE": "OTHER"}, "name the right one in {0}SSL_CA_FILE"),
        ("SASL", {"SSL_CA_FILE": ""}, "name the right one in {0}SSL_CA_FILE"),
        ("EXPIRED", {}, "certificate has expired"),
        ("ELSEWHERE", {}, "{0}SSL_CHECK_HOSTNAME=false"),
        ("PLAIN", {}, "is it a port of TLS?"),
    ],
)
def test_what_is_wrong_is_said_with_its_variable(  # noqa: PLR0917 - pytest passes them by name
    plain_zone: Zone,
    secured_kafka: SecuredKafka,
    sasl: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
    zones_file_factory: Callable[..., Path],
    port: str,
    changed: dict[str, str],
    said: str,
) -> None:
    zone = plain_zone if port == "PLAIN" else secured_kafka.zone(plain_zone, port)
    values = {
        name: secured_kafka.other.cert if value == "OTHER" else value
        for name, value in changed.items()
    }
    kafka_variables(zone, monkeypatch, values)
    with pytest.raises(DependencyError) as wrong:
        describe_topic(zone, zone.spans_topic)
    assert said.format(f"MOBIUS_{zone.name.upper()}_KAFKA_") in str(wrong.value)
    command = [sys.executable, "-m", "mobius_infra.cli", "migrate", "--zone", zone.name]
    answer = subprocess.run(
        [*command, "--config", str(zones_file_factory(zone))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 3
    assert answer.stderr == f"mobius-rum: {wrong.value}\n"


def test_a_certificate_of_another_host_is_taken_only_when_asked_for(
    plain_zone: Zone,
    secured_kafka: SecuredKafka,
    sasl: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    zone = secured_kafka.zone(plain_zone, "ELSEWHERE")
    kafka_variables(zone, monkeypatch, {"SSL_CHECK_HOSTNAME": "false"})
    assert describe_topic(zone, zone.spans_topic) is not None
    # The signature is checked all the same.
    kafka_variables(zone, monkeypatch, {"SSL_CA_FILE": secured_kafka.other.cert})
    with pytest.raises(DependencyError, match="known authorities"):
        describe_topic(zone, zone.spans_topic)


def test_a_broker_that_wants_our_certificate_or_tls(
    plain_zone: Zone, secured_kafka: SecuredKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone = secured_kafka.zone(plain_zone, "TLS")
    with pytest.raises(DependencyError, match="KAFKA_SECURITY_PROTOCOL"):
        describe_topic(zone, zone.spans_topic)
    kafka_variables(
        zone,
        monkeypatch,
        {"SECURITY_PROTOCOL": "SSL", "SSL_CA_FILE": secured_kafka.authority.cert},
    )
    with pytest.raises(DependencyError, match="KAFKA_SSL_CERT_FILE"):
        describe_topic(zone, zone.spans_topic)


def free_port() -> int:
    from mobius_infra.kafka_broker import free_ports

    return free_ports(0)[0]


def test_a_worker_with_a_wrong_password_knocks_once_a_try_and_goes_on_with_the_right_one(
    plain_zone: Zone,
    secured_kafka: SecuredKafka,
    sasl: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = publish_and_poison(plain_zone)
    options = replace(SMALL, health_port=free_port())

    def retries() -> float:
        address = f"http://127.0.0.1:{options.health_port}/metrics"
        with urllib.request.urlopen(address, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return sum(
            float(line.split()[-1])
            for line in lines
            if line.startswith("mobius_worker_retries_total{")
        )

    with proxied(secured_kafka.ports["SASL"]) as proxy:
        zone = replace(plain_zone, kafka=(proxy.address,))
        kafka_variables(zone, monkeypatch, {"SASL_PASSWORD": "another"})
        with working(zone, options) as worker:
            wait_for(lambda: proxy.accepted >= 4)
            # Each knock is counted as a retry a moment later.
            wait_for(lambda: retries() >= 4)
            tried = proxy.accepted
            assert tried <= retries() + 1
            assert worker.is_alive()
            kafka_variables(zone, monkeypatch, {"SASL_PASSWORD": secured_kafka.password})
            wait_for(lambda: len(rows(zone, "SELECT span_id FROM spans")) == len(ids))
    assert Counter(row[0] for row in rows(zone, "SELECT span_id FROM spans")) == Counter(ids)


def test_a_service_with_a_wrong_password_says_so_and_goes_on_with_the_right_one(
    plain_zone: Zone,
    secured_kafka: SecuredKafka,
    sasl: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    zone = secured_kafka.zone(plain_zone, "SASL")
    kafka_variables(zone, monkeypatch, {"SASL_PASSWORD": "another"})
    exporter = exporter_of(zone)
    make_spans(exporter, 10)
    wait_for(lambda: "Sasl" in exporter._problem)
    assert "SaslAuthenticationFailed" in exporter._problem
    kafka_variables(zone, monkeypatch, {"SASL_PASSWORD": secured_kafka.password})
    assert exporter.force_flush(60_000)
    assert exporter.stats().sent == 10
    exporter.shutdown(5_000)


def test_a_broker_that_never_answers_the_handshake_holds_no_client(
    plain_zone: Zone,
    secured_kafka: SecuredKafka,
    sasl: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """kafka-python alone would wait for ever; a client made after the knock may meet such a broker too."""
    monkeypatch.setattr(tls, "HANDSHAKE_SECONDS", 0.5)
    failures: list[BaseException] = []
    with proxied(secured_kafka.ports["SASL"]) as proxy:
        proxy.hang()
        zone = replace(plain_zone, kafka=(proxy.address,))
        with pytest.raises(DependencyError, match="no TLS handshake"):
            describe_topic(zone, zone.spans_topic)

        def make() -> None:
            try:
                KafkaProducer(**kafka_settings(zone, os.environ), bootstrap_timeout_ms=1_500)
            except KafkaError as error:
                failures.append(error)

        client = threading.Thread(target=make, daemon=True)
        client.start()
        client.join(60)
        assert not client.is_alive()
        assert failures

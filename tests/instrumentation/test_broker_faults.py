"""A service whose broker fails while requests are in flight: each is answered, and each span is accounted for by id."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from kafka.admin import KafkaAdminClient, NewTopic

from mobius_infra.kafka_broker import free_ports
from tests.conftest import start_broker, stop_process
from tests.instrumentation.conftest import make_topics
from tests.instrumentation.served import HERE, UVICORN, Server
from tests.pipeline.proxy import Fault, Proxy, proxied

if TYPE_CHECKING:
    from mobius_infra.kafka_broker import KafkaBroker
    from tests.instrumentation.conftest import ReadTopic
    from tests.secured import SecuredKafka

pytestmark = [pytest.mark.kafka, pytest.mark.system]

# The test's own clients, by the names that kafka-python gives them.
SPARED = b"kafka-python-"
REQUESTS = 240

Serve = Callable[..., Server]


@pytest.fixture(scope="module")
def behind_proxy() -> Iterator[Proxy]:
    (port,) = free_ports(0)
    with proxied(f"127.0.0.1:{port}", SPARED) as proxy:
        process, _ = start_broker(port, proxy.address)
        yield proxy
        stop_process(process)


@pytest.fixture
def serve(zone_name: str, tmp_path: Path) -> Iterator[Serve]:
    """Starts the service for a broker at an address."""
    servers: list[Server] = []

    def start(address: str, **variables: str) -> Server:
        map_file = tmp_path / "zones.toml"
        map_file.write_text(
            f'[zones.{zone_name}]\nregions = ["eu-west-1"]\nkafka = ["{address}"]\n'
            'clickhouse = "http://127.0.0.1:1"\n[instrumentation]\nruntime_interval_ms = 0\n'
        )
        common = {
            "MOBIUS_CONFIG": str(map_file),
            "MOBIUS_REGION": "eu-west-1",
            "OTEL_SERVICE_NAME": "shop",
            "MOBIUS_STATS_FILE": str(tmp_path / "stats.json"),
            "DELAY_MS": "20",
            "PYTHONPATH": str(HERE.parents[1]),
        }
        argv = (*UVICORN, "service_under_test:app")
        servers.append(Server(argv, tmp_path / f"log-{len(servers)}", common | variables))
        return servers[-1]

    yield start
    for server in servers:
        server.clean_up()


def account(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "stats.json").read_text()))


def wait_for(condition: Callable[[], bool], seconds: float = 90) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def ask(server: Server, first: int, number: int = REQUESTS) -> None:
    """Ask from eight clients at once, and see that each gets its answer."""
    with ThreadPoolExecutor(8) as clients:
        wanted = range(first, first + number)
        assert list(clients.map(server.get, [f"/orders/{n}" for n in wanted])) == [*wanted]


@pytest.mark.parametrize("fault", ["hang", "slow", "reset", "half-open", "flapping"])
def test_requests_are_answered_while_the_broker_fails_and_their_spans_arrive_once(
    *,
    behind_proxy: Proxy,
    zone_name: str,
    serve: Serve,
    read_topic: ReadTopic,
    tmp_path: Path,
    fault: Fault | str,
) -> None:
    topic = f"rum.spans.{zone_name}"
    make_topics(behind_proxy.address, topic)
    server = serve(behind_proxy.address)
    ask(server, 0)
    assert wait_for(lambda: account(tmp_path)["sent"] == REQUESTS), server.said
    ended = threading.Event()
    suffered = behind_proxy.suffered

    def flap() -> None:
        for each in cycle(("refuse", None)):
            behind_proxy.fault = each
            if ended.wait(0.3):
                return

    flapping = threading.Thread(target=flap)
    if fault == "flapping":
        flapping.start()
    else:
        behind_proxy.fault = fault  # type: ignore[assignment]  # one of them, by the parameters
    try:
        ask(server, REQUESTS)
        assert wait_for(lambda: behind_proxy.suffered > suffered)
        if fault in {"hang", "half-open"}:
            # Answered although the broker had acknowledged none of them.
            assert account(tmp_path)["sent"] < 2 * REQUESTS
    finally:
        ended.set()
        if flapping.is_alive():
            flapping.join()
        behind_proxy.fault = None
    ask(server, 2 * REQUESTS)
    total = 3 * REQUESTS
    assert wait_for(lambda: account(tmp_path)["sent"] == total), (account(tmp_path), server.said)
    server.end()
    spans = Counter(s.span_id for _, each in read_topic(behind_proxy.address, topic) for s in each)
    assert len(spans) == spans.total() == total
    assert account(tmp_path)["dropped"] == {}


def test_messages_that_the_broker_finds_too_big_go_in_smaller_ones(
    kafka_broker: KafkaBroker, zone_name: str, serve: Serve, read_topic: ReadTopic, tmp_path: Path
) -> None:
    topic = f"rum.spans.{zone_name}"
    admin = KafkaAdminClient(bootstrap_servers=kafka_broker.address)
    admin.create_topics([NewTopic(topic, 2, 1, topic_configs={"max.message.bytes": "8000"})])
    admin.close()
    server = serve(kafka_broker.address, DELAY_MS="400")
    ask(server, 0)
    ask(server, REQUESTS)
    total = 2 * REQUESTS
    assert wait_for(lambda: account(tmp_path)["sent"] == total), (account(tmp_path), server.said)
    server.end()
    messages = read_topic(kafka_broker.address, topic)
    spans = Counter(s.span_id for _, each in messages for s in each)
    assert len(spans) == spans.total() == total
    assert account(tmp_path)["dropped"] == {}
    assert len(messages) < total / 4, "as few as the broker's limit allows, not one a span"


def test_a_refused_password_harms_no_request_and_every_span_is_counted(
    *, secured_kafka: SecuredKafka, zone_name: str, serve: Serve, tmp_path: Path
) -> None:
    prefix = f"MOBIUS_{zone_name.upper()}_KAFKA_"
    server = serve(
        secured_kafka.ports["SASL"],
        MOBIUS_MAX_QUEUE_SPANS="100",
        MOBIUS_SHUTDOWN_TIMEOUT_MS="500",
        **{
            f"{prefix}SECURITY_PROTOCOL": "SASL_SSL",
            f"{prefix}SASL_MECHANISM": "SCRAM-SHA-512",
            f"{prefix}SASL_USERNAME": "rum",
            f"{prefix}SASL_PASSWORD": "a-wrong-one",
            f"{prefix}SSL_CA_FILE": str(secured_kafka.authority.cert),
        },
    )
    ask(server, 0)
    server.end()
    told = account(tmp_path)
    assert (told["accepted"], told["sent"]) == (REQUESTS, 0)
    assert told["pending"] + sum(told["dropped"].values()) == REQUESTS
    assert told["dropped"]["queue_full"] == REQUESTS - 100
    assert "authentication" in server.said.lower()
    assert "a-wrong-one" not in server.said

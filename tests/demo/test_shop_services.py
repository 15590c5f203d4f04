"""The live shop: real services, users and a real Locust run, checked span by span from the topic."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from kafka import KafkaConsumer, TopicPartition
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from mobius_infra.demo import shop
from mobius_instrumentation.zones import Zone

pytestmark = [pytest.mark.kafka, pytest.mark.system]

REGION = "eu-central-1"
KEY = "a key of the test's own"
REQUESTS = 80  # so many that no endpoint is missed by chance


@dataclass(frozen=True)
class Seen:
    """One span as it arrived in the topic."""

    service: str
    version: str
    name: str
    kind: int
    trace: str
    span: str
    parent: str
    ms: float
    attributes: dict[str, Any]


def spans_of(zone: Zone) -> list[Seen]:
    consumer = KafkaConsumer(bootstrap_servers=list(zone.kafka), enable_auto_commit=False)
    partitions = [
        TopicPartition(zone.spans_topic, p)
        for p in consumer.partitions_for_topic(zone.spans_topic) or ()
    ]
    consumer.assign(partitions)
    consumer.seek_to_beginning()
    seen: list[Seen] = []
    idle = 0
    while idle < 2:
        records = [r for part in consumer.poll(timeout_ms=700).values() for r in part]
        idle = 0 if records else idle + 1
        for record in records:
            for group in ExportTraceServiceRequest.FromString(record.value).resource_spans:
                resource = values(group.resource.attributes)
                seen += [
                    Seen(
                        resource["service.name"],
                        resource["service.version"],
                        span.name,
                        span.kind,
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6,
                        values(span.attributes),
                    )
                    for scope in group.scope_spans
                    for span in scope.spans
                ]
    consumer.close()
    return seen


def values(attributes: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_for(url: str, seconds: float = 120) -> dict[str, str]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            return dict(httpx.get(f"{url}/healthz", trust_env=False).json())
        except httpx.TransportError:
            time.sleep(0.1)
    raise TimeoutError(url)


@dataclass(frozen=True)
class Story:
    """What happened in the shop, and what its spans say about it."""

    spans: list[Seen]
    users: dict[str, int]
    results: list[dict[str, Any]]
    run: str


@pytest.fixture(scope="module")
def story(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Story:
    from mobius_pipeline.kafka_client import ensure_topics

    folder = tmp_path_factory.mktemp("shop")
    zone = Zone("eu_shop", (REGION,), (broker,), "http://127.0.0.1:1", "rum_eu_shop")
    config = folder / "zones.toml"
    config.write_text(
        f'[zones.{zone.name}]\nregions = ["{REGION}"]\nkafka = ["{broker}"]\n'
        f'clickhouse = "{zone.clickhouse}"\ndatabase = "{zone.database}"\n'
    )
    ensure_topics(zone)
    environment = {
        **os.environ,
        "MOBIUS_CONFIG": str(config),
        "MOBIUS_REGION": REGION,
        "MOBIUS_SERVICE_VERSION": "1.5.0",
        "MOBIUS_SYNTHETIC_KEY": KEY,
    }
    with ExitStack() as stack:

        def start(module: str, *arguments: str) -> str:
            port = free_port()
            command = [sys.executable, "-m", f"mobius_infra.demo.{module}", "--port", str(port)]
            process = subprocess.Popen([*command, *arguments], env=environment)
            stack.callback(stop, process)
            return f"http://127.0.0.1:{port}"

        catalog = start("catalog", "--database", str(folder / "new" / "shop.sqlite"))
        storefront = start("storefront", "--catalog-url", catalog)
        wait_for(catalog)
        health = wait_for(storefront)
        assert (health["version"], health["region"]) == ("1.5.0", REGION)
        users = use(storefront, folder)
        results, run = run_suite(storefront, folder, environment)
    # The services have ended, and with them everything that they had still to send has been sent.
    return Story(spans_of(zone), users, results, run)


def use(storefront: str, folder: Path) -> dict[str, int]:
    stats = folder / "traffic.json"
    target = f"{REGION}={storefront}"
    command = [sys.executable, "-m", "mobius_infra.demo.traffic", "--target", target]
    command += ["--rate", "25", "--seed", "4", "--stats-file", str(stats)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while asked(stats) < REQUESTS and time.monotonic() < deadline:
        time.sleep(0.1)
    stop(process)
    assert process.returncode == 0
    assert process.stdout is not None
    counters: dict[str, int] = json.loads(process.stdout.read())["regions"][REGION]
    assert json.loads(stats.read_text())["regions"][REGION] == counters
    return counters


def asked(stats: Path) -> int:
    """Requests of the users so far, by their own count."""
    if not stats.is_file():
        return 0
    return int(json.loads(stats.read_text())["regions"][REGION].get("requests", 0))


def run_suite(
    storefront: str, folder: Path, environment: dict[str, str]
) -> tuple[list[dict[str, Any]], str]:
    from mobius_infra.demo import synthetic

    file = folder / "run.jsonl"
    locustfile = Path(synthetic.__file__).with_name("locustfile.py")
    command = [sys.executable, "-m", "locust", "-f", str(locustfile), "--headless"]
    command += ["--host", storefront, "-u", "4", "-r", "4", "-t", "6s", "-s", "5", "--only-summary"]
    # As the demo runs it: the payment provider fails now and then, and that is no fault of the run.
    command += ["--exit-code-on-error", "0"]
    marked = {**environment, "MOBIUS_TEST_RESULTS": str(file), "MOBIUS_TEST_RUN": "run-1"}
    subprocess.run(command, env=marked, check=True, timeout=120, capture_output=True)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert (lines[0]["test"], lines[-1]["kind"]) == (shop.TEST_NAME, "end")
    return lines[1:-1], lines[0]["run"]


def servers(story: Story, service: str) -> list[Seen]:
    return [s for s in story.spans if s.kind == 2 and s.service == service]


def test_every_span_arrives_once(story: Story) -> None:
    ids = [span.span for span in story.spans]
    assert len(ids) == len(set(ids)) > 100


def test_users_requests_are_unmarked_and_none_is_missing(story: Story) -> None:
    users = [
        s for s in servers(story, "storefront") if "user_agent.synthetic.type" not in s.attributes
    ]
    answered = sum(number for status, number in story.users.items() if status.isdigit())
    # Requests cut off when the users were sent home may have reached the shop or not.
    assert answered <= len(users) <= story.users["requests"]
    assert {s.name for s in users} == {f"{e.method} {e.route}" for e in shop.ENDPOINTS}


def test_each_request_of_the_test_joins_its_marked_server_span(story: Story) -> None:
    marked = {
        s.parent: s for s in servers(story, "storefront") if s.attributes.get("mobius.test.run")
    }
    assert {r["span_id"] for r in story.results} == set(marked)
    for result in story.results:
        span = marked[result["span_id"]]
        assert span.trace == result["trace_id"]
        assert span.attributes["mobius.test.run"] == story.run
        assert span.name == f"{result['method']} {result['name']}"
        assert span.ms <= result["duration_ms"] + 1
    tested = {f"{e.method} {e.route}" for e in shop.ENDPOINTS if e.tests}
    assert {s.name for s in marked.values()} <= tested
    assert marked


def test_the_marker_reaches_the_catalog_and_its_database_shows(story: Story) -> None:
    by_id = {s.span: s for s in story.spans}
    for span in servers(story, "catalog"):
        client = by_id[span.parent]
        outer = by_id[client.parent]
        assert (client.kind, outer.kind, outer.service) == (3, 2, "storefront")
        assert span.attributes.get("mobius.test.run") == outer.attributes.get("mobius.test.run")
    queries = [s for s in story.spans if s.attributes.get("db.system.name") == "sqlite"]
    assert {s.name for s in queries} >= {"SELECT", "INSERT"}


def test_the_tests_search_is_cached_and_the_users_are_not(story: Story) -> None:
    """The cause of the story, as a cause: what it does to latency is for the product to find."""
    searches = [s for s in servers(story, "catalog") if s.name == "GET /index"]
    hits = {True: [], False: []}  # type: dict[bool, list[bool]]
    for span in searches:
        hits["mobius.test.run" in span.attributes].append(span.attributes["shop.cache.hit"])
    assert sum(hits[True]) >= len(hits[True]) - 1
    assert sum(hits[False]) < len(hits[False]) / 2


def test_health_checks_are_not_traced(story: Story) -> None:
    assert not [s for s in story.spans if "healthz" in s.name]

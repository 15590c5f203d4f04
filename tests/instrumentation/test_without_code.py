"""The way in without code: real servers under ``opentelemetry-instrument``."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.instrumentation.served import UVICORN, Server

if TYPE_CHECKING:
    from tests.instrumentation.conftest import ReadTopic

pytestmark = [pytest.mark.kafka, pytest.mark.system]

Serve = Callable[..., Server]
INSTRUMENT = str(Path(sys.executable).with_name("opentelemetry-instrument"))


@pytest.fixture
def variables(broker: str, zone_name: str, tmp_path: Path) -> dict[str, str]:
    map_file = tmp_path / "zones.toml"
    map_file.write_text(
        f'[zones.{zone_name}]\nregions = ["eu-west-1"]\nkafka = ["{broker}"]\n'
        'clickhouse = "http://127.0.0.1:1"\n[instrumentation]\nruntime_interval_ms = 0\n'
    )
    return {
        "MOBIUS_CONFIG": str(map_file),
        "MOBIUS_REGION": "eu-west-1",
        "OTEL_SERVICE_NAME": "shop",
    }


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    servers: list[Server] = []

    def start(*argv: str, **options: object) -> Server:
        servers.append(Server(argv, tmp_path / f"log-{len(servers)}", automatic=True, **options))  # type: ignore[arg-type]
        return servers[-1]

    yield start
    for server in servers:
        server.clean_up()


@pytest.mark.parametrize("middleware", ["mobius", "opentelemetry"])
def test_each_request_becomes_one_server_span(
    *,
    broker: str,
    topic: str,
    variables: dict[str, str],
    serve: Serve,
    read_topic: ReadTopic,
    middleware: str,
) -> None:
    variables["MOBIUS_HTTP_INSTRUMENTATION"] = middleware
    server = serve(*UVICORN, "plain_service:app", variables=variables)
    for number in range(10):
        assert server.get(f"/orders/{number}")["order"] == number
    assert server.get("/inner/parts/7") == {"part": "7"}
    server.end()
    spans = [s for _, message in read_topic(broker, topic) for s in message if s.kind == 2]
    assert len({s.span_id for s in spans}) == len(spans) == 11, server.said
    routes = Counter(s.route for s in spans)
    assert routes["/orders/{order_id}"] == 10
    if middleware == "mobius":
        assert routes["/inner/parts/{part}"] == 1
        assert all("mobius.queue.duration" in s.attributes for s in spans)
    assert {s.resource["service.name"] for s in spans} == {"shop"}
    assert {s.attributes["http.response.status_code"] for s in spans} == {200}


def test_starlette_works_and_an_application_that_its_code_instruments_has_one_span_too(
    broker: str, topic: str, variables: dict[str, str], serve: Serve, read_topic: ReadTopic
) -> None:
    plain = serve(*UVICORN, "plain_service:starlette_app", variables=variables)
    both = serve(*UVICORN, "service_under_test:app", variables=variables)
    assert plain.get("/shop/items/9") == {"item": "9"}
    assert both.get("/orders/3") == 3
    plain.end()
    both.end()
    spans = [s for _, message in read_topic(broker, topic) for s in message]
    assert Counter(s.route for s in spans) == {"/shop/items/{item}": 1, "/orders/{order_id}": 1}


def started(variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [INSTRUMENT, sys.executable, "-c", "print('serves')"],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"MOBIUS_REGOIN": "x"}, "MOBIUS_REGOIN: unknown variable"),
        ({"MOBIUS_CONFIG": "/no/such/zones.toml"}, "/no/such/zones.toml"),
    ],
)
def test_a_wrong_configuration_ends_the_process_at_its_start(
    variables: dict[str, str], wrong: dict[str, str], says: str
) -> None:
    done = started(variables | wrong)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("mobius_instrumentation cannot start: ")
    assert says in line


def test_opentelemetrys_switch_leaves_the_process_alone() -> None:
    done = started({"OTEL_TRACES_EXPORTER": "none"})
    assert (done.returncode, done.stdout) == (0, "serves\n")


def test_opentelemetrys_own_set_up_can_use_our_exporter(
    broker: str, topic: str, variables: dict[str, str], read_topic: ReadTopic
) -> None:
    code = (
        "from opentelemetry.sdk._configuration import _OTelSDKConfigurator as C; C().configure()\n"
        "from opentelemetry import trace\n"
        "for _ in range(40): trace.get_tracer('own').start_span('work').end()\n"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        env=variables | {"OTEL_TRACES_EXPORTER": "mobius_kafka"},
        check=True,
    )
    spans = [s for _, message in read_topic(broker, topic) for s in message]
    assert Counter(s.name for s in spans) == {"work": 40}
    assert len({s.span_id for s in spans}) == 40

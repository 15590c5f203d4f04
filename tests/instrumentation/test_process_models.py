"""Real servers of several process models: no span is lost, none arrives twice, by span id."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.instrumentation.served import HERE, UVICORN, Server

if TYPE_CHECKING:
    from tests.instrumentation.conftest import Broker, ReadTopic

pytestmark = [pytest.mark.kafka, pytest.mark.system]

GUNICORN = (
    *(
        "-m",
        "gunicorn",
        "--preload",
        "--workers",
        "3",
        "--worker-class",
        "uvicorn_worker.UvicornWorker",
    ),
    *("--bind", "127.0.0.1:0", "--chdir", str(HERE), "service_under_test:app"),
)

Serve = Callable[..., Server]


def variables_of(address: str, zone_name: str, folder: Path) -> dict[str, str]:
    map_file = folder / "zones.toml"
    map_file.write_text(
        f'[zones.{zone_name}]\nregions = ["eu-west-1"]\nkafka = ["{address}"]\n'
        'clickhouse = "http://127.0.0.1:1"\n[instrumentation]\nruntime_interval_ms = 0\n'
    )
    return {
        "MOBIUS_CONFIG": str(map_file),
        "MOBIUS_REGION": "eu-west-1",
        "OTEL_SERVICE_NAME": "shop",
        "MOBIUS_STATS_FILE": str(folder / "stats-{pid}.json"),
        "PYTHONPATH": str(HERE.parents[1]),
    }


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    servers: list[Server] = []

    def start(*argv: str, variables: dict[str, str]) -> Server:
        servers.append(Server(argv, tmp_path / f"log-{len(servers)}", variables))
        return servers[-1]

    yield start
    for server in servers:
        server.clean_up()


def accounts(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in folder.glob("stats-*.json")]


@pytest.mark.parametrize("model", ["workers", "gunicorn", "preload"])
def test_several_processes_lose_nothing_and_share_no_id(
    *,
    broker: str,
    topic: str,
    zone_name: str,
    serve: Serve,
    read_topic: ReadTopic,
    tmp_path: Path,
    model: str,
) -> None:
    argv = {
        "workers": (*UVICORN, "service_under_test:app", "--workers", "4"),
        "gunicorn": GUNICORN,
        "preload": (str(HERE / "forking_server.py"), "3"),
    }[model]
    server = serve(*argv, variables=variables_of(broker, zone_name, tmp_path))
    with ThreadPoolExecutor(8) as clients:
        assert list(clients.map(server.get, [f"/orders/{n}" for n in range(240)])) == [*range(240)]
    server.end()
    spans = [s for _, message in read_topic(broker, topic) for s in message]
    assert Counter(s.name for s in spans) == {"GET /orders/{order_id}": 240} | (
        {"parent": 5} if model == "preload" else {}
    ), server.said
    assert len({s.span_id for s in spans}) == len(spans)
    assert len({s.trace_id for s in spans}) == len(spans)
    told = accounts(tmp_path)
    assert sum(account["sent"] for account in told) == len(spans)
    assert all(account["pending"] == 0 and not account["dropped"] for account in told)


def test_threads_and_an_exit_without_shutdown_lose_nothing(
    broker: str, topic: str, zone_name: str, read_topic: ReadTopic, tmp_path: Path
) -> None:
    code = (
        "from threading import Thread\n"
        "from service_under_test import app\n"
        "from opentelemetry import trace\n"
        "tracer = trace.get_tracer('own')\n"
        "def work():\n"
        "    for _ in range(200): tracer.start_span('work').end()\n"
        "threads = [Thread(target=work) for _ in range(8)]\n"
        "for thread in threads: thread.start()\n"
    )  # ends while its threads run; nobody flushes
    variables = variables_of(broker, zone_name, tmp_path)
    subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **variables, "PYTHONPATH": str(HERE)},
        check=True,
        timeout=60,
    )
    spans = [s for _, message in read_topic(broker, topic) for s in message]
    assert len(spans) == len({s.span_id for s in spans}) == 1_600


@pytest.mark.parametrize("spool", [False, True])
def test_sigterm_with_a_full_queue_ends_within_the_deadline_and_says_how_many_are_left(
    *,
    own_broker: Broker,
    zone_name: str,
    serve: Serve,
    read_topic: ReadTopic,
    tmp_path: Path,
    spool: bool,
) -> None:
    variables = variables_of(own_broker.address, zone_name, tmp_path) | {
        "MOBIUS_MAX_QUEUE_SPANS": "30",
        "MOBIUS_SHUTDOWN_TIMEOUT_MS": "700",
    }
    if spool:
        variables["MOBIUS_SPOOL_DIR"] = str(tmp_path / "spool")
    server = serve(*UVICORN, "service_under_test:app", variables=variables)
    for number in range(50):
        assert server.get(f"/orders/{number}") == number
    server.end(signal.SIGTERM, seconds=30)
    (account,) = accounts(tmp_path)
    assert (account["accepted"], account["sent"]) == (50, 0)
    if not spool:
        assert (account["dropped"], account["pending"]) == ({"queue_full": 20}, 30)
        assert "30 spans were not sent" in server.said
        return
    assert account["pending"] == 0
    # The thread may be busy looking for the broker while the queue fills.
    kept = account["spooled"]
    assert kept >= 30
    assert account["accepted"] == kept + sum(account["dropped"].values())
    topic = f"rum.spans.{zone_name}"
    own_broker.start(topic)
    later = serve(*UVICORN, "service_under_test:app", variables=variables)
    assert later.get("/orders/50") == 50
    file = tmp_path / f"stats-{later.process.pid}.json"
    deadline = time.monotonic() + 60
    while json.loads(file.read_text())["sent"] < kept:
        assert time.monotonic() < deadline, later.said
        time.sleep(0.05)
    later.end()
    spans = [s for _, message in read_topic(own_broker.address, topic) for s in message]
    assert len(spans) == len({s.span_id for s in spans}) == kept + 1

"""The package inside a real uvicorn: SIGTERM, and a real Locust run against it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import pytest

from mobius_instrumentation.marker import verify

if TYPE_CHECKING:
    from tests.instrumentation.conftest import ReadTopic

pytestmark = [pytest.mark.kafka, pytest.mark.system]

HERE = Path(__file__).parent
KEY = "shared by runner and service"
Serve = Callable[..., tuple[subprocess.Popen[str], str]]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    running: list[subprocess.Popen[str]] = []

    def start(**variables: str) -> tuple[subprocess.Popen[str], str]:
        log = tmp_path / "uvicorn.log"
        process = subprocess.Popen(
            [
                *(
                    sys.executable,
                    "-m",
                    "uvicorn",
                    "service_under_test:app",
                    "--app-dir",
                    str(HERE),
                ),
                *("--host", "127.0.0.1", "--port", "0", "--no-access-log"),
            ],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **variables},
        )
        running.append(process)
        assert process.stderr is not None
        for line in process.stderr:
            log.open("a").write(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                return process, found[0]
        raise AssertionError(log.read_text())

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def variables(broker: str, topic: str, zone_name: str, tmp_path: Path) -> dict[str, str]:
    map_file = tmp_path / "zones.toml"
    map_file.write_text(
        f'[zones.{zone_name}]\nregions = ["eu-west-1"]\nkafka = ["{broker}"]\n'
        'clickhouse = "http://127.0.0.1:1"\n'
    )
    return {
        "MOBIUS_CONFIG": str(map_file),
        "MOBIUS_REGION": "eu-west-1",
        "OTEL_SERVICE_NAME": "shop",
        "MOBIUS_SYNTHETIC_KEY": KEY,
        "MOBIUS_STATS_FILE": str(tmp_path / "stats.json"),
        "MOBIUS_RUNTIME_INTERVAL_MS": "0",  # its spans would be counted with the others
    }


def test_sigterm_loses_nothing(
    *,
    broker: str,
    topic: str,
    variables: dict[str, str],
    serve: Serve,
    read_topic: ReadTopic,
    tmp_path: Path,
) -> None:
    process, address = serve(**variables)
    for number in range(20):
        with urlopen(f"{address}/orders/{number}") as response:
            assert response.status == 200
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode in (0, -signal.SIGTERM)
    spans = [s for _, message in read_topic(broker, topic) for s in message]
    assert [s.route for s in spans] == ["/orders/{order_id}"] * 20
    assert len({s.span_id for s in spans}) == 20
    stats = json.loads((tmp_path / "stats.json").read_text())
    assert (stats["accepted"], stats["sent"], stats["dropped"], stats["pending"]) == (20, 20, {}, 0)


LOCUSTFILE = """
from locust import FastHttpUser, HttpUser, constant, task
from mobius_instrumentation.locust import listen

listen(test="smoke", run="run-1")

class Slow(HttpUser):
    wait_time = constant(0.05)
    @task
    def order(self):
        self.client.get("/orders/1", name="/orders/[id]", headers={"Baggage": "own=1"})
    @task
    def broken(self):
        self.client.get("/broken")
    @task
    def judged(self):
        with self.client.get("/orders/2", catch_response=True, context={"mine": 1}) as response:
            response.failure("not what I wanted")

class Fast(FastHttpUser):
    wait_time = constant(0.05)
    @task
    def order(self):
        self.client.get("/orders/3?q=1")
    @task
    def refused(self):
        self.client.get("http://127.0.0.1:1/nobody")
"""


NAMES = {"/orders/[id]", "/broken", "/orders/2", "/orders/3?q=1", "http://127.0.0.1:1/nobody"}


def _has_all(results: Path) -> bool:
    return results.exists() and all(json.dumps(name) in results.read_text() for name in NAMES)


def test_each_line_of_a_locust_run_joins_its_span(
    *,
    broker: str,
    topic: str,
    variables: dict[str, str],
    serve: Serve,
    read_topic: ReadTopic,
    tmp_path: Path,
) -> None:
    process, address = serve(**variables, SEEN=str(tmp_path / "seen.jsonl"))
    results = tmp_path / "run.jsonl"
    (tmp_path / "locustfile.py").write_text(LOCUSTFILE)
    locust = subprocess.Popen(
        [
            *(sys.executable, "-m", "locust", "-f", str(tmp_path / "locustfile.py"), "--headless"),
            *("--users", "4", "--spawn-rate", "4", "--host", address),
        ],
        env={**os.environ, "MOBIUS_TEST_RESULTS": str(results), "MOBIUS_SYNTHETIC_KEY": KEY},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not _has_all(results):
        time.sleep(0.1)
    # Stopped as a person or an orchestrator does: the file must end well all the same.
    locust.send_signal(signal.SIGTERM)
    assert locust.wait(timeout=20) == 1, "failures make Locust exit with 1"
    header, *requests, end = [json.loads(line) for line in results.read_text().splitlines()]
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)

    assert (header["mobius_synthetic"], header["kind"]) == (1, "run")
    assert (header["tool"], header["test"], header["run"]) == ("locust", "smoke", "run-1")
    assert (end["kind"], end["requests"]) == ("end", len(requests))
    assert end["failed"] == sum(r["failed"] for r in requests)
    started, ended = (datetime.fromisoformat(text) for text in (header["started"], end["ended"]))
    assert all(started <= datetime.fromisoformat(r["start"]) <= ended for r in requests)
    assert {r["name"] for r in requests} == NAMES
    for request in requests:
        _check_line(request, address)
    assert len({r["trace_id"] for r in requests}) == len(requests)

    spans = [s for _, message in read_topic(broker, topic) for s in message]
    by_parent = {(s.trace_id, s.parent_span_id): s for s in spans}
    for request in requests:
        span = by_parent.get((request["trace_id"], request["span_id"]))
        assert (span is None) == (request["status"] is None)
        if span is not None:
            assert span.status == request["status"]
            begun = datetime.fromisoformat(request["start"]).timestamp() * 1000
            assert begun - 1 <= span.start_ns / 1e6 <= begun + request["duration_ms"] + 1
    assert {s.attributes["mobius.test.run"] for s in spans} == {"run-1"}
    seen = [json.loads(line) for line in (tmp_path / "seen.jsonl").read_text().splitlines()]
    own = Counter((h["baggage"] or "").startswith("own=1,mobius-synthetic=") for h in seen)
    assert own[True] > 0, "the test's own baggage stays"
    token = str(seen[0]["baggage"]).rpartition("=")[2]
    assert verify(token, key=KEY, now=started.timestamp()) is not None


def _check_line(request: dict[str, Any], address: str) -> None:
    assert re.fullmatch(r"[0-9a-f]{32}", request["trace_id"])
    assert re.fullmatch(r"[0-9a-f]{16}", request["span_id"])
    assert request["method"] == "GET"
    expected = {
        "/orders/[id]": (200, False, f"{address}/orders/1", None),
        "/broken": (503, True, f"{address}/broken", "503"),
        "/orders/2": (200, True, f"{address}/orders/2", "not what I wanted"),
        "/orders/3?q=1": (200, False, f"{address}/orders/3?q=1", None),
        "http://127.0.0.1:1/nobody": (None, True, "http://127.0.0.1:1/nobody", "refused"),
    }[request["name"]]
    status, failed, url, error = expected
    assert (request["status"], request["failed"], request["url"]) == (status, failed, url)
    assert (request["duration_ms"] is None) == (status is None)
    assert (error is None and request["error"] is None) or error in request["error"]

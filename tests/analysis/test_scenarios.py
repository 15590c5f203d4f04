"""Scenarios from production's own mix: they hold nothing of a user, they run, and what they send is that mix."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from mobius_analysis import parity_commands
from mobius_analysis.pair_history import load_runs
from mobius_analysis.parity_load import compare
from mobius_analysis.rollup import Window
from mobius_analysis.scenario_k6 import k6_script
from mobius_analysis.scenario_locust import locustfile
from mobius_analysis.scenario_mix import Mix, load_mix
from mobius_analysis.testing import Requests, insert_rollup, rollup_rows
from mobius_instrumentation.marker import verify
from mobius_pipeline.errors import MobiusError, UsageError
from mobius_pipeline.imports.synthetic import import_synthetic
from tests.analysis.conftest import Shop, store_of

pytestmark = pytest.mark.store

KEY = "a key of the test"
END = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=10)
WINDOW = Window.of(END - timedelta(minutes=30), END)
# Method, route and requests a minute.
TRAFFIC = [
    ("GET", "/products/{product_id}", 1200),
    ("GET", "/search", 600),
    ("POST", "/checkout", 300),
    ("GET", "/files/{name:path}", 90),
]
# Routes that are none, as a framework without templates would report them.
PERSONAL = [
    ("GET", "/users/lovelace@example.org", 60),
    ("GET", "/orders/8812345", 60),
    ("GET", "/reset/9f8a7c6b5d4e3f2a1b0c9d8e?token=secret", 60),
]


@pytest.fixture(scope="module")
def production(store_server: str) -> Iterator[Shop]:
    with store_of(store_server) as shop:
        first, end = WINDOW.minutes
        groups = []
        services = [("storefront", TRAFFIC), ("legacy", PERSONAL)]
        for service, (method, route, rate) in ((s, one) for s, many in services for one in many):
            minutes = np.repeat(np.arange(first, end), rate)
            seconds = np.full(len(minutes), 0.01)
            groups.append(Requests(minutes, seconds, route=route, method=method, service=service))
        insert_rollup(shop.client, rollup_rows(groups))
        yield shop


@pytest.fixture(scope="module")
def mix(production: Shop) -> Mix:
    return load_mix(production.client, WINDOW, service="storefront", region="eu-west-1")


class Recorder(BaseHTTPRequestHandler):
    """Answers every request and remembers it."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, str, dict[str, str], bytes]]

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.seen.append(
            (self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
        )
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_POST = do_GET  # noqa: N815  # the base class looks for this name

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        pass


class QuietServer(ThreadingHTTPServer):
    """Says nothing of connections that end with their client."""

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@contextmanager
def server() -> Iterator[tuple[str, list[tuple[str, str, dict[str, str], bytes]]]]:
    handler = type("Handler", (Recorder,), {"seen": []})
    with QuietServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}", handler.seen  # type: ignore[attr-defined]  # made above
        httpd.shutdown()


def data_file(folder: Path) -> Path:
    file = folder / "data.json"
    file.write_text(
        json.dumps(
            {
                "parameters": {"product_id": ["p 1", "p2"], "name": ["x"]},
                "requests": {
                    "POST /checkout": [{"json": {"lines": 3}, "body": {"lines": 3}}],
                    "GET /search": [{"params": {"q": "tea"}, "query": {"q": "tea"}}],
                },
            }
        )
    )
    return file


def locust_data(folder: Path) -> Path:
    file = data_file(folder)
    content = json.loads(file.read_text())
    for alternatives in content["requests"].values():
        for one in alternatives:
            one.pop("body", None)
            one.pop("query", None)
    file.write_text(json.dumps(content))
    return file


def expected(mix: Mix) -> dict[tuple[str, str], float]:
    return {(one.method, one.route): one.rate / mix.rate for one in mix.endpoints}


def test_the_mix_holds_rates_and_nothing_of_a_user(production: Shop, mix: Mix) -> None:
    assert {(one.method, one.route): one.rate for one in mix.endpoints} == {
        ("GET", "/products/{product_id}"): pytest.approx(20),
        ("GET", "/search"): pytest.approx(10),
        ("POST", "/checkout"): pytest.approx(5),
        ("GET", "/files/{name}"): pytest.approx(1.5),
    }
    assert mix.left_out == 0
    known = [factor for factor in mix.hours if factor is not None]
    assert known
    assert all(factor == pytest.approx(1, abs=0.01) for factor in known)

    legacy = load_mix(production.client, WINDOW, service="legacy", region="eu-west-1")
    assert sorted(one.route for one in legacy.endpoints) == [
        "/orders/{id}",
        "/reset/{id}",
        "/users/{id}",
    ]
    for text in (locustfile(legacy, test="mix"), k6_script(legacy, test="mix")):
        for secret in ("lovelace", "example.org", "8812345", "9f8a7c", "secret"):
            assert secret not in text


def test_locust_runs_it_and_parity_finds_it_alike(
    production: Shop, mix: Mix, tmp_path: Path
) -> None:
    file, results = tmp_path / "locustfile.py", tmp_path / "run.jsonl"
    file.write_text(locustfile(mix, test="production-mix"))
    with server() as (address, seen):
        environment = {
            **os.environ,
            "MOBIUS_DATA": str(locust_data(tmp_path)),
            "MOBIUS_SYNTHETIC_KEY": KEY,
            "MOBIUS_TEST_RESULTS": str(results),
            "MOBIUS_SCALE": "2",
        }
        command = [
            sys.executable, "-m", "locust", "-f", str(file), "--host", address, "--headless",
            "-u", "40", "-r", "40", "-t", "120s", "--only-summary",
        ]  # fmt: skip
        with subprocess.Popen(
            command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True
        ) as process:
            # A number of requests, not a time: a busy machine sends them more slowly.
            deadline = time.monotonic() + 110
            while len(seen) < 600 and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.1)
            process.terminate()
            errors = process.communicate(timeout=60)[1]
    assert process.returncode == 0, errors[-2000:]
    assert len(seen) >= 600
    for method, path, headers, body in seen:
        marker = dict(e.split("=", 1) for e in headers["baggage"].split(","))["mobius-synthetic"]
        assert verify(marker, key=KEY, now=datetime.now(UTC).timestamp()) is not None
        assert "{" not in path
        if method == "POST":
            assert json.loads(body) == {"lines": 3}
    assert {path for _, path, _, _ in seen} >= {"/products/p%201", "/products/p2", "/search?q=tea"}

    counts = Counter(
        (line["method"], line["name"])
        for line in map(json.loads, results.read_text().splitlines())
        if "duration_ms" in line
    )
    assert_by_chance(counts, mix)
    import_synthetic(production.zone, [results], region="eu-west-1", environment="production")
    imported = production.client.query(
        "SELECT DISTINCT toString(method), toString(route) FROM synthetic_results"
    ).result_rows
    assert {tuple(row) for row in imported} == {(method, route) for method, route, _ in TRAFFIC}
    runs = load_runs(
        production.client, WINDOW.start, END + timedelta(hours=1), test="production-mix"
    )
    found = compare(production.client, "eu", runs, WINDOW)
    by_name = {dimension.name: dimension for dimension in found.dimensions}
    endpoints = by_name["endpoints"]
    assert endpoints.outcome == "alike", endpoints
    assert by_name["regions"].outcome == "alike"
    assert by_name["environment"].outcome == "alike"
    assert by_name["cache"].score is None
    assert by_name["versions"].text.startswith("no run names its release")


def assert_by_chance(counts: Counter[tuple[str, str]], mix: Mix) -> None:
    shares = expected(mix)
    assert set(counts) == set(shares)
    total = sum(counts.values())
    # Pearson's statistic; 3 degrees of freedom are beyond 21.1 in 1 of 10,000 cases.
    statistic = sum((counts[key] - total * p) ** 2 / (total * p) for key, p in shares.items())
    assert statistic < 21.1


def test_k6_script_is_a_module_and_signs_as_the_marker_does(mix: Mix, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node to check the script with")
    script = tmp_path / "mix.mjs"
    script.write_text(k6_script(mix, test="mix") + "\nexport { baggage };\n")
    done = subprocess.run([node, "--check", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    # k6's modules, as node has them.
    parts = {
        "k6": "export const sleep = () => {};",
        "k6/crypto": (
            "import { createHmac } from 'node:crypto';\n"
            "export default { hmac: (a, k, b, f) => createHmac(a, k).update(b).digest(f) };"
        ),
        "k6/execution": "export default {};",
        "k6/http": "export default {};",
    }
    text = script.read_text()
    for name, source in parts.items():
        file = tmp_path / f"{hashlib.sha256(name.encode()).hexdigest()[:8]}.mjs"
        file.write_text(source)
        text = text.replace(f"from '{name}'", f"from './{file.name}'")
    script.write_text(
        f"globalThis.__ENV = {{ MOBIUS_SYNTHETIC_KEY: {json.dumps(KEY)} }};\n"
        f"const {{ options, baggage }} = await import('./inner.mjs');\n"
        "console.log(JSON.stringify([options, baggage('run-1')]));\n"
    )
    (tmp_path / "inner.mjs").write_text(text)
    done = subprocess.run([node, script], capture_output=True, text=True, check=True)
    options, baggage = json.loads(done.stdout)
    found = verify(baggage.split("=", 1)[1], key=KEY, now=datetime.now(UTC).timestamp())
    assert found is not None
    assert (found.run, found.test) == ("run-1", "mix")
    rates = [scenario["rate"] for scenario in options["scenarios"].values()]
    assert rates == [round(one.rate * 3600) for one in mix.endpoints]


def command(shop: Shop, folder: Path, *arguments: str) -> tuple[int, str]:
    file = folder / "zones.toml"
    zone = shop.zone
    file.write_text(
        f"[zones.{zone.name}]\nregions = {json.dumps(zone.regions)}\nkafka = {json.dumps(zone.kafka)}\n"
        f'clickhouse = "{zone.clickhouse}"\ndatabase = "{zone.database}"\n'
    )
    app = typer.Typer()
    parity_commands.register(app)
    until = END.isoformat()
    result = CliRunner().invoke(
        app,
        [*arguments, "--since", WINDOW.start.isoformat(), "--until", until, "--config", str(file)],
    )
    if isinstance(result.exception, MobiusError):
        return result.exception.exit_code, str(result.exception)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def test_the_command_writes_both_scenarios(production: Shop, tmp_path: Path) -> None:
    k6, locust = tmp_path / "mix.js", tmp_path / "mix.py"
    given = ("--service", "storefront", "--region", "eu-west-1", "--test", "mix")
    code, out = command(
        production, tmp_path, *given, "--write-k6", str(k6), "--write-locust", str(locust), "--json"
    )
    assert code == 0
    document = json.loads(out)
    assert document["written"] == [str(k6), str(locust)]
    assert document["scenario"]["requests_per_second"] == pytest.approx(36.5)
    compile(locust.read_text(), "mix.py", "exec")
    code, out = command(production, tmp_path, *given, "--write-k6", str(k6))
    assert code == 0
    assert "GET     /products/{product_id}" in out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--write-k6", "x.js"), "--service"),
        (("--write-k6", "x.js", "--service", "storefront"), "--region"),
        (("--write-k6", "x.js", "--service", "nobody", "--region", "eu-west-1"), "nobody"),
        (("--write-k6", "x.js", "--service", "storefront", "--region", "mars"), "mars"),
        (
            ("--write-k6", "/nowhere/x.js", "--service", "storefront", "--region", "eu-west-1"),
            "--write-k6",
        ),
        (
            (
                "--write-k6",
                "x.js",
                "--service",
                "storefront",
                "--region",
                "eu-west-1",
                "--test",
                "a b",
            ),
            "--test",
        ),
        (("--test", "nothing"), "--test"),
        (("--run", "nothing"), "--run"),
    ],
)
def test_bad_input_is_named(
    production: Shop, tmp_path: Path, arguments: tuple[str, ...], problem: str
) -> None:
    code, text = command(production, tmp_path, *arguments)
    assert code == UsageError.exit_code
    assert problem in text

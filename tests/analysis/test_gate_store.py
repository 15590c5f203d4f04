"""The gate on a real store: history in, verdicts, documents, exit codes and stored predictions out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import typer
from clickhouse_connect.driver.client import Client
from typer.testing import CliRunner

from mobius_analysis import gate_commands
from mobius_analysis.rollup import query
from mobius_analysis.testing import Requests, insert_rollup, rollup_rows
from mobius_pipeline.errors import MobiusError
from tests.analysis.conftest import Shop, store_of

pytestmark = pytest.mark.store

BEGIN = datetime(2026, 3, 2, 8, tzinfo=UTC)
RELEASES = 6
UNTIL = BEGIN + timedelta(days=RELEASES + 1)
# Users get 1.5 times what the test measures, in every endpoint.
RATIO = 1.5
SECONDS = {"/fast": 0.020, "/slow": 0.100}
REGIONS = ("eu-central-1", "eu-west-1")


def requests_of(
    rng: np.random.Generator, start: datetime, count: int, minutes: int, median: float
) -> tuple[np.ndarray, np.ndarray]:
    minute = np.sort(rng.integers(0, minutes, count)) + int(start.timestamp() // 60)
    return minute, median * np.exp(0.5 * rng.standard_normal(count))


def release(number: int) -> str:
    return f"1.{number}.0"


def name_of_run(region: str, number: int) -> str:
    return f"{region}-{number}"


def insert_test(
    client: Client,
    rng: np.random.Generator,
    region: str,
    number: int,
    *,
    requests: int = 900,
    factor: float = 1.0,
) -> None:
    start = BEGIN + timedelta(days=number)
    run = name_of_run(region, number)
    groups = [
        Requests(
            *requests_of(rng, start, requests, 5, seconds * factor),
            route=route,
            region=region,
            source="synthetic",
            vantage="client",
            version=release(number),
            test_run=run,
        )
        for route, seconds in SECONDS.items()
    ]
    insert_rollup(client, rollup_rows(groups))
    columns = [
        "run", "digest", "test", "tool", "format", "region", "service", "release", "environment",
        "start", "end", "requests", "failed", "generated", "summary",
    ]  # fmt: skip
    row = [
        run, f"{region}{number}".ljust(64, "0"), "nightly", "k6", "k6-json", region, "storefront",
        release(number), "production", start, start + timedelta(minutes=5), 2 * requests, 0, True,
        json.dumps({"percentiles": "of_answered"}),
    ]  # fmt: skip
    client.insert("synthetic_runs", [row], column_names=columns)


def insert_users(client: Client, rng: np.random.Generator, region: str, number: int) -> None:
    start = BEGIN + timedelta(days=number, minutes=-50)
    groups = [
        Requests(
            *requests_of(rng, start, 3000, 110, seconds * RATIO * np.exp(rng.normal(0, 0.02))),
            route=route,
            region=region,
            version=release(number),
        )
        for route, seconds in SECONDS.items()
    ]
    insert_rollup(client, rollup_rows(groups))


@pytest.fixture(scope="module")
def history(store_server: str) -> Iterator[Shop]:
    """Six releases that were tested and used, and a seventh that was tested only."""
    with store_of(store_server) as shop:
        rng = np.random.default_rng(5)
        for region in REGIONS:
            for number in range(RELEASES + 1):
                insert_test(shop.client, rng, region, number)
                if number < RELEASES:
                    insert_users(shop.client, rng, region, number)
        yield shop


@dataclass
class Answer:
    code: int
    out: str
    error: str = ""

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


def gate(shop: Shop, folder: Path, *arguments: str) -> Answer:
    zone = shop.zone
    file = folder / "zones.toml"
    file.write_text(
        f"[zones.{zone.name}]\nregions = {json.dumps(zone.regions)}\nkafka = {json.dumps(zone.kafka)}\n"
        f'clickhouse = "{zone.clickhouse}"\ndatabase = "{zone.database}"\n'
    )
    app = typer.Typer()
    gate_commands.register(app)
    given = [*arguments, "--config", str(file)]
    if "--until" not in arguments:
        given += ["--since", "2026-03-01", "--until", UNTIL.isoformat()]
    result = CliRunner().invoke(app, given)
    if isinstance(result.exception, MobiusError):
        return Answer(result.exception.exit_code, "", str(result.exception))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Answer(result.exit_code, result.stdout)


NEW = ("--test", "nightly", "--release", release(RELEASES))


def test_a_build_that_keeps_its_budgets_passes(history: Shop, tmp_path: Path) -> None:
    (tmp_path / "budgets.toml").write_text(
        '[[budget]]\nroute = "/f*"\np95 = "120ms"\n[[budget]]\nservice = "storefront"\np95 = "0.6s"\n'
    )
    answer = gate(history, tmp_path, *NEW, "--budgets", str(tmp_path / "budgets.toml"), "--json")
    document = answer.document
    assert (answer.code, document["verdict"]) == (0, "pass")
    assert len(document["cells"]) == 4
    for cell in document["cells"]:
        # Lognormal: p95 = median e^(0.5 1.645).
        truth = SECONDS[cell["route"]] * RATIO * np.exp(0.5 * 1.645) * 1e3
        assert cell["predicted_ms"]["low"] < truth < cell["predicted_ms"]["high"]
        assert cell["predicted_ms"]["value"] == pytest.approx(truth, rel=0.12)
        assert cell["pairs"] == RELEASES
        assert cell["actual_ms"] is None
        assert cell["budget_ms"] == {"/fast": 120.0, "/slow": 600.0}[cell["route"]]
    past = document["past_predictions"]["p95"]
    assert past["left_out_runs"]["predictions"] == 4 * RELEASES
    assert past["left_out_runs"]["inside"] >= 4 * RELEASES - 3
    assert document["history"] == {"pairs": 4 * RELEASES, "releases": RELEASES}


def test_a_budget_below_the_interval_fails_and_the_reports_say_so(
    history: Shop, tmp_path: Path
) -> None:
    junit, comment = tmp_path / "gate.xml", tmp_path / "gate.md"
    (tmp_path / "b.toml").write_text(
        '[[budget]]\nroute = "/slow"\np95 = "200ms"\n[[budget]]\np95 = "120ms"\n'
    )
    reports = ("--junit", str(junit), "--markdown", str(comment))
    answer = gate(history, tmp_path, *NEW, "--budgets", str(tmp_path / "b.toml"), *reports)
    assert answer.code == 1
    assert answer.out.startswith(
        "FAIL  release 1.6.0 of test nightly: of 4 budgets 2 broken, 2 kept"
    )
    suite = ET.parse(junit).getroot()  # noqa: S314  # our own file
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("4", "2", "0")
    failed = {
        case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None
    }
    assert failed == {"GET /slow p95"}
    assert comment.read_text().startswith("### FAIL: release 1.6.0")


def test_few_requests_cannot_be_told_and_say_how_many_more(history: Shop, tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    insert_test(history.client, rng, REGIONS[0], 20, requests=80)
    truth_ms = SECONDS["/slow"] * RATIO * np.exp(0.5 * 1.645) * 1e3
    (tmp_path / "b.toml").write_text(
        f'[[budget]]\nroute = "/slow"\np95 = "{truth_ms * 1.25:.1f}ms"\n'
    )
    later = ("--since", "2026-03-01", "--until", "2026-04-01", "--no-save", "--json")
    wanted = ("--budgets", str(tmp_path / "b.toml"), *later)
    answer = gate(history, tmp_path, "--run", name_of_run(REGIONS[0], 20), *wanted)
    (cell,) = answer.document["cells"]
    assert (answer.code, answer.document["verdict"]) == (1, "cannot_tell")
    assert cell["needs"]["what"] == "requests"
    assert 50 < cell["needs"]["requests"] < 10_000


def test_no_data_is_never_green(history: Shop, tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    insert_test(history.client, rng, REGIONS[1], 30, requests=20)
    later = ("--since", "2026-03-01", "--until", "2026-05-01", "--no-save", "--json")
    answer = gate(
        history, tmp_path, "--run", name_of_run(REGIONS[1], 30), "--budget", "p95=99s", *later
    )
    assert answer.code == 1
    for cell in answer.document["cells"]:
        assert cell["verdict"] == "cannot_tell"
        assert cell["needs"] == {"what": "requests", "requests": 52, "releases": None}
    # Without any history, whatever the budget.
    alone = ("--since", "2026-03-30", "--until", "2026-05-01", "--no-save", "--json")
    answer = gate(history, tmp_path, *NEW, "--budget", "p95=99s", *alone)
    assert {cell["needs"]["what"] for cell in answer.document["cells"]} == {"history"}
    # A budget for something that was not tested.
    (tmp_path / "b.toml").write_text('[[budget]]\nroute = "/elsewhere"\np95 = "1s"\n')
    answer = gate(history, tmp_path, *NEW, "--budgets", str(tmp_path / "b.toml"), "--json")
    assert (answer.code, answer.document["verdict"]) == (1, "cannot_tell")
    assert answer.document["unused_budgets"][0]["pattern"] == "/elsewhere"
    assert len(answer.document["without_budget"]) == 4


def test_regression_against_production_now(history: Shop, tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    insert_test(history.client, rng, REGIONS[0], 40, requests=5000, factor=1.6)
    client = history.client
    start = BEGIN + timedelta(days=40, minutes=-200)
    groups = [
        Requests(
            *requests_of(rng, start, 5000, 190, seconds * RATIO),
            route=route,
            region=REGIONS[0],
            version="1.5.0",
        )
        for route, seconds in SECONDS.items()
    ]
    insert_rollup(client, rollup_rows(groups))
    now = (BEGIN + timedelta(days=40, minutes=10)).isoformat()
    run = (
        "--run",
        name_of_run(REGIONS[0], 40),
        "--since",
        "2026-03-01",
        "--until",
        now,
        "--no-save",
    )
    answer = gate(history, tmp_path, *run, "--max-regression", "10%", "--json")
    assert {cell["verdict"] for cell in answer.document["cells"]} == {"fail"}
    assert all(cell["current_ms"]["low"] for cell in answer.document["cells"])
    answer = gate(history, tmp_path, *run, "--max-regression", "150%", "--json")
    assert {cell["verdict"] for cell in answer.document["cells"]} == {"pass"}


def test_predictions_are_kept_and_scored_once_production_is_known(
    store_server: str, tmp_path: Path
) -> None:
    with store_of(store_server) as shop:
        rng = np.random.default_rng(9)
        region = REGIONS[0]
        for number in range(5):
            insert_test(shop.client, rng, region, number)
            insert_users(shop.client, rng, region, number)
        insert_test(shop.client, rng, region, 5)
        run = ("--run", name_of_run(region, 5), "--budget", "p95=1s", "--json")
        before = gate(shop, tmp_path, *run).document
        assert before["past_predictions"]["p95"]["stored"]["predictions"] == 0
        insert_users(shop.client, rng, region, 5)
        after = gate(shop, tmp_path, *run).document
        assert after["past_predictions"]["p95"]["stored"] | {"share": None} == {
            "inside": 2, "predictions": 2, "share": None,
        }  # fmt: skip
        assert all(cell["actual_ms"]["low"] is not None for cell in after["cells"])
        kept = query(shop.client, "SELECT unseen, count() AS n FROM predictions GROUP BY unseen")
        # The second gate's predictions came too late to count as such.
        assert dict(kept.iter_rows()) == {True: 2, False: 2}


def test_a_result_file_is_imported_and_judged(history: Shop, tmp_path: Path) -> None:
    rng = np.random.default_rng(10)
    start = BEGIN + timedelta(days=50)
    lines: list[dict[str, Any]] = [
        {
            "mobius_synthetic": 1, "kind": "run", "tool": "locust", "tool_version": "2", "test": "nightly",
            "run": "from-a-file", "started": start.isoformat(),
        }
    ]  # fmt: skip
    lines += [
        {
            "start": (start + timedelta(seconds=i / 5)).isoformat(),
            "duration_ms": float(1e3 * SECONDS["/slow"] * np.exp(0.5 * rng.standard_normal())),
            "method": "GET", "name": "/slow", "url": "http://x/slow", "status": 200, "failed": False,
            "error": None, "trace_id": None, "span_id": None,
        }
        for i in range(600)
    ]  # fmt: skip
    lines.append({"kind": "end", "ended": start.isoformat(), "requests": 600, "failed": 0})
    file = tmp_path / "run.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    later = ("--since", "2026-03-01", "--until", "2026-06-01", "--no-save", "--json")
    given = (str(file), "--region", REGIONS[0], "--release", "2.0.0", "--budget", "p95=600ms")
    document = gate(history, tmp_path, *given, *later).document
    assert document["runs"][0]["run"] == "from-a-file"
    (cell,) = document["cells"]
    assert (cell["verdict"], cell["service"], cell["answered"]) == ("pass", "storefront", 600)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--budget", "p95=1s"), "--run"),
        (("--run", "nothing", "--budget", "p95=1s"), "newest runs are"),
        ((*NEW, "--budget", "p94=1s"), "--budget"),
        ((*NEW, "--budget", "p95=0ms"), "--budget"),
        ((*NEW, "--max-regression", "lots"), "--max-regression"),
        (NEW, "no budget"),
        (("run.json", "--budget", "p95=1s"), "--region"),
        ((*NEW, "--budgets", "/nowhere/b.toml"), "/nowhere/b.toml"),
        ((*NEW, "--budget", "p95=1s", "--junit", "/nowhere/x.xml"), "--junit"),
    ],
)
def test_bad_input_is_named(
    history: Shop, tmp_path: Path, arguments: tuple[str, ...], problem: str
) -> None:
    answer = gate(history, tmp_path, *arguments)
    assert answer.code == 2
    assert problem in answer.error

"""One endpoint's document: its keys, its agreement with the cell, the command on a real store."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from mobius_analysis import commands
from mobius_analysis.cells import load_cells
from mobius_analysis.endpoint_detail import load_detail
from mobius_analysis.explain_commands import split_endpoint
from mobius_analysis.rollup import Only, Window
from mobius_pipeline.errors import MobiusError, UsageError
from tests.analysis.conftest import END, START, Shop

pytestmark = pytest.mark.store

SEARCH = Only("eu-central-1", "storefront", "GET", "/search")
TIMES = ("--since", "2026-03-01T00:00:00Z", "--until", "2026-03-01T12:00:00Z")


@pytest.fixture(scope="module")
def zones_toml(settled: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    zone = settled.zone
    file = tmp_path_factory.mktemp("zones") / "zones.toml"
    file.write_text(
        f"[zones.{zone.name}]\nregions = {list(zone.regions)!r}\nkafka = {list(zone.kafka)!r}\n"
        f'clickhouse = "{zone.clickhouse}"\ndatabase = "{zone.database}"\n'.replace("'", '"')
    )
    return file


def run(*arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    commands.register(app)
    result = CliRunner().invoke(app, list(arguments))
    if isinstance(result.exception, MobiusError):
        return result.exception.exit_code, str(result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout


def insert_run(shop: Shop, name: str, model: str, omission: dict[str, float] | None) -> None:
    endpoint = {"method": "GET", "route": "/search", "service": "storefront"}
    summary = {"endpoints": [endpoint], "load": {"model": model, "omission": omission}}
    row = [name, name * 32, "eu-central-1", START, START + timedelta(hours=1), model]
    shop.client.insert(
        "synthetic_runs",
        [[*row, json.dumps(summary)]],
        column_names=["run", "digest", "region", "start", "end", "load_model", "summary"],
    )


def test_the_document_agrees_with_the_cell(settled: Shop) -> None:
    result = load_cells(settled.client, settled.zone, START, END)
    document = load_detail(
        settled.client, settled.zone, SEARCH, Window.of(START, END), result=result
    )
    json.dumps(document, allow_nan=False)
    cells = result.document()["cells"]
    assert document["cell"] in cells
    assert document["cell"]["verdict"] == "optimistic"
    levels = {level["quantile"]: level for level in document["shift"]["levels"]}
    for name in ("p50", "p95", "p99"):
        assert levels[name]["ratio"] == document["cell"]["ratio"][name]
        assert levels[name]["production_ms"] == document["cell"]["production"][f"{name}_ms"]
    assert document["shift"]["where"] == "everywhere"
    for side in ("production", "synthetic"):
        buckets = document["distributions"][side]
        assert sum(one["share"] for one in buckets) == pytest.approx(1, abs=1e-3)
        assert buckets[-1]["cumulative"] == 1
        assert all(one["lower_ms"] < one["upper_ms"] for one in buckets)
    assert document["load"]["runs"] == 0


def test_an_endpoint_without_tests_has_a_document_too(settled: Shop) -> None:
    only = Only("eu-west-1", "storefront", "GET", "/orders/{order_id}")
    document = load_detail(settled.client, settled.zone, only, Window.of(START, END))
    assert document["cell"]["verdict"] == "untested"
    assert document["shift"]["levels"] == []
    assert document["distributions"]["synthetic"] == []
    assert document["cell"]["errors"]["verdict"] is None
    with pytest.raises(UsageError, match="neither users nor tests"):
        load_detail(settled.client, settled.zone, Only("eu-west-1", "x", "GET", "/"), Window.of(START, END))  # fmt: skip


def test_closed_loops_are_told_with_the_greatest_correction(stored: Shop) -> None:
    tail = {"p95_ms": 50.0, "p99_ms": 100.0, "corrected_p95_ms": 60.0, "corrected_p99_ms": 200.0}
    insert_run(stored, "a", "closed", tail)
    insert_run(stored, "b", "open", None)
    window = Window.of(START, END)
    load = load_detail(stored.client, stored.zone, SEARCH, window)["load"]
    assert (load["runs"], load["closed_runs"], load["open_runs"]) == (2, 1, 1)
    assert load["understated"] == {"p95": 1.2, "p99": 2.0}
    assert "x2.00" in load["text"]


def test_the_command_prints_the_library_s_document(settled: Shop, zones_toml: Path) -> None:
    arguments = ("explain", "get /search", "--region", "eu-central-1", "--config", str(zones_toml))
    code, out = run(*arguments, *TIMES, "--json")
    assert code == 0
    window = Window.of(START, END)
    assert json.loads(out) == load_detail(settled.client, settled.zone, SEARCH, window)
    code, out = run(*arguments, *TIMES)
    assert code == 0
    assert "optimistic" in out
    assert "users are slower" in out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("GET /search",), "say which: --region eu-central-1 --service storefront"),
        (("GET /serch", "--region", "eu-west-1"), "GET /search"),
        (("GET /search", "--region", "moon"), "no zone has the region"),
        (("GET /search", "--service", "other"), "no endpoint"),
        (("",), "no endpoint"),
    ],
)
def test_what_is_meant_has_to_be_one_endpoint(
    zones_toml: Path, arguments: tuple[str, ...], problem: str
) -> None:
    code, text = run("explain", *arguments, "--config", str(zones_toml), *TIMES)
    assert code == 2
    assert problem in text


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("GET /search", ("GET", "/search")),
        ("/search", (None, "/search")),
        (" POST  /a b ", ("POST", "/a b")),
        ("grpc shop.Cart/Get", ("grpc", "shop.Cart/Get")),
        ("shop.Cart/Get", (None, "shop.Cart/Get")),
    ],
)
def test_endpoints_are_split(text: str, parts: tuple[Any, ...]) -> None:
    assert split_endpoint(text) == parts


def test_the_detail_is_matched_as_the_cell_is(settled: Shop, zones_toml: Path) -> None:
    arguments = ("--config", str(zones_toml), *TIMES, "--match", "load", "--json")
    code, out = run("correlate", *arguments)
    assert code == 0
    cells = json.loads(out)["cells"]
    code, out = run("explain", "GET /search", "--region", "eu-central-1", *arguments)
    assert code == 0
    document = json.loads(out)
    assert document["cell"] in cells
    assert document["match"] == document["cell"]["match"]
    assert document["match"]["by"] == "load"
    assert 0 < document["match"]["matched_minutes"] <= document["match"]["production_minutes"]
    levels = {level["quantile"]: level["ratio"] for level in document["shift"]["levels"]}
    assert levels["p95"] == document["cell"]["ratio"]["p95"]
    code, out = run("correlate", "--config", str(zones_toml), "--match", "moon")
    assert code == 2
    assert "--match" in out

"""The commands and the schedule on a real store."""

from __future__ import annotations

import io
import json
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from mobius_analysis import commands
from mobius_analysis.cells import load_cells
from mobius_analysis.jobs import run_job
from mobius_analysis.rollup import query
from mobius_analysis.schedule import run_regularly
from mobius_pipeline.errors import DependencyError, MobiusError
from tests.analysis.conftest import END, START, Shop

pytestmark = pytest.mark.store


@pytest.fixture
def zones_toml(stored: Shop, tmp_path: Path) -> Path:
    zone = stored.zone
    file = tmp_path / "zones.toml"
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
    return result.exit_code, result.stdout


def test_the_command_prints_one_document_that_equals_the_library(
    stored: Shop, zones_toml: Path
) -> None:
    times = ("--since", "2026-03-01T00:00:00Z", "--until", "2026-03-01T12:00:00Z")
    code, out = run("correlate", "--config", str(zones_toml), *times, "--json")
    assert code == 0
    assert json.loads(out) == load_cells(stored.client, stored.zone, START, END).document()
    code, out = run("correlate", "--config", str(zones_toml), *times, "--no-save", "--window", "6h")
    assert code == 0
    assert "optimistic" in out
    assert "2 untested" not in out
    assert "4 untested" in out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--since", "yesterday"), "--since"),
        (("--window", "soon"), "--window"),
        (("--window", "90s"), "--window"),
        (("--window", "0h"), "--window"),
        (("--since", "30d", "--window", "1m"), "--window"),
        (("--since", "2026-03-01", "--until", "2026-02-01"), "--since"),
        (("--zone", "mars"), "--zone"),
    ],
)
def test_bad_input_is_named_before_a_store_is_asked(
    tmp_path: Path, arguments: tuple[str, ...], problem: str
) -> None:
    zones_toml = tmp_path / "zones.toml"
    zones_toml.write_text(
        '[zones.eu]\nregions = ["eu-west-1"]\nkafka = ["127.0.0.1:1"]\nclickhouse = "http://127.0.0.1:1"\n'
    )
    code, text = run("correlate", "--config", str(zones_toml), *arguments)
    assert code == 2
    assert problem in text


def test_a_store_that_is_away_is_named(settled: Shop) -> None:
    away = replace(settled.zone, clickhouse="http://127.0.0.1:1")
    with pytest.raises(DependencyError, match="does not answer") as caught:
        run_job(away, START, END, now=END)
    assert caught.value.exit_code == 3


def test_the_schedule_runs_each_zone_and_survives_a_store_that_is_away(stored: Shop) -> None:
    away = replace(stored.zone, name="away", clickhouse="http://127.0.0.1:1")
    stop = threading.Event()

    class Log(io.StringIO):
        def flush(self) -> None:
            text = self.getvalue()
            if " cells, " in text and "away" in text:
                stop.set()

    log = Log()
    thread = threading.Thread(
        target=run_regularly,
        args=((stored.zone, away), timedelta(hours=1), END - START, stop),
        kwargs={"log": log, "clock": lambda: END},
    )
    thread.start()
    assert stop.wait(30)
    thread.join(30)
    assert not thread.is_alive()
    assert f"correlate {stored.zone.name}: 10 cells" in log.getvalue()
    assert query(stored.client, "SELECT count() FROM correlations").item() == 10

"""The suite's score on a real store: tracks out of the rollup, the command, and findings of the job."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from mobius_analysis import commands
from mobius_analysis.findings import load_open
from mobius_analysis.jobs import run_job
from mobius_analysis.rollup import EVERYTHING, Only, Window, clusters_of
from mobius_analysis.schedule import run_regularly
from mobius_analysis.suite_load import load_suite
from mobius_analysis.suite_tracks import UNNAMED, load_tracks, pick_vantages
from mobius_analysis.testing import Requests, insert_rollup, loaded, lognormal, rollup_rows
from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import MobiusError
from tests.analysis.conftest import END, REGIONS, RELEASE, START, Shop

pytestmark = pytest.mark.store
WINDOW = Window(START, END)
TIMES = ("--since", "2026-03-01T00:00:00Z", "--until", "2026-03-01T12:00:00Z")


def test_tracks_hold_what_the_rollup_holds(settled: Shop, shop: pl.DataFrame) -> None:
    tracks = load_tracks(settled.client, WINDOW, EVERYTHING)
    rows = loaded(shop)
    assert len(tracks) == 5 * 2 + 4 * 2
    assert sum(int(t.requests.sum()) for t in tracks) == int(rows["requests"].sum())
    chosen = next(t for t in tracks if t.test is None and t.subject[3] == "/search")
    own = rows.filter(
        (pl.col("route") == "/search")
        & (pl.col("region") == chosen.subject[0])
        & (pl.col("source") == "real")
    )
    for place in (0, 70, -1):
        first = int(chosen.minutes[place])
        clusters = clusters_of(own.filter(pl.col("minute").is_between(first, first + 4)))
        assert clusters is not None
        assert chosen.answered[place] == clusters.requests
        assert chosen.seconds[place] == pytest.approx(clusters.seconds)
        for q in (0.5, 0.95):
            assert np.exp(chosen.logs[q][place]) == pytest.approx(clusters.quantile(q), rel=0.03)


def test_an_environment_and_a_test_without_results(settled: Shop) -> None:
    assert load_tracks(settled.client, WINDOW, Only(environment="staging")) == ()
    tests = {t.test for t in load_tracks(settled.client, WINDOW, EVERYTHING)}
    assert tests == {None, UNNAMED}


def test_runs_are_put_together_by_the_name_of_their_test(empty: Shop) -> None:
    start = int(START.timestamp() // 60)
    runs = [("a1", "smoke", 0), ("a2", "smoke", 60), ("b1", "load", 0)]
    for run, test, minute in runs:
        empty.client.insert(
            "synthetic_runs",
            [[run, run.ljust(64, "0"), test, START, END]],
            ["run", "digest", "test", "start", "end"],
        )
        requests = Requests(
            np.full(20, start + minute), np.full(20, 0.05), source="synthetic", test_run=run
        )
        client = Requests(
            np.full(9, start + minute), np.full(9, 0.07), source="synthetic", test_run=run,
            vantage="client",
        )  # fmt: skip
        insert_rollup(empty.client, rollup_rows([requests, client]))
    tracks = pick_vantages(load_tracks(empty.client, WINDOW, EVERYTHING))
    assert {(t.test, t.vantage): t.requests.tolist() for t in tracks} == {
        ("smoke", "server"): [20, 20],
        ("load", "server"): [20],
    }


def test_the_story_of_the_shop_comes_out(settled: Shop) -> None:
    suite = load_suite(settled.client, settled.zone, WINDOW)
    assert {(c.subject[0], c.subject[3]): (c.kind, c.release) for c in suite.changes} == {
        (region, "/recommendations"): ("blind_spot", "1.5.0") for region in REGIONS
    }
    assert suite.alarms == ()
    (change, _) = suite.changes
    assert change.when.moment == RELEASE.timestamp() / 60


@pytest.fixture
def run(settled: Shop, zones_file_factory: Callable[..., Path]) -> Callable[..., tuple[int, str]]:
    file = zones_file_factory(settled.zone)

    def command(*arguments: str) -> tuple[int, str]:
        app = typer.Typer()
        commands.register(app)
        result = CliRunner().invoke(app, ["suite", "--config", str(file), *arguments])
        if isinstance(result.exception, MobiusError):
            return result.exception.exit_code, str(result.exception)
        return result.exit_code, result.stdout

    return command


def test_the_command_prints_a_table_or_one_document(run: Callable[..., tuple[int, str]]) -> None:
    code, text = run(*TIMES)
    assert code == 0
    for part in ("/recommendations", "blind_spot", "no test touches it", "What to test next"):
        assert part in text
    code, text = run(*TIMES, "--json", "--top", "3")
    document: dict[str, Any] = json.loads(text)
    assert code == 0
    assert document["suite"]["endpoints_tested"] == 8
    assert document["suite"]["requests_share"]["value"] == pytest.approx(0.8, abs=0.02)
    assert document["suite"]["regressions_by_kind"]["blind_spot"] == 2
    assert document["suite"]["verdicts"]["untested"] == 2
    assert len(document["priorities"]) == 3
    assert {one["route"] for one in document["priorities"]} <= {
        "/orders/{order_id}", "/recommendations", "/search",
    }  # fmt: skip
    code, text = run(*TIMES, "--test", "nobody", "--json")
    assert (code, json.loads(text)["tests"]) == (0, [])


def test_exit_codes(run: Callable[..., tuple[int, str]]) -> None:
    assert run(*TIMES, "--json", "--fail-under", "0.5")[0] == 0
    assert run(*TIMES, "--json", "--fail-under", "0.95")[0] == 1
    # No data is never green.
    empty = ("--since", "2020-01-01", "--until", "2020-01-02")
    assert run(*empty, "--fail-under", "0")[0] == 1
    assert run(*empty) == (
        0,
        "No traffic in this time: neither production nor tests. Try a longer --since.\n",
    )
    for arguments in (("--since", "10m"), ("--since", "400d"), ("--since", "soon")):
        code, text = run(*arguments)
        assert code == 2
        assert "--since" in text


def test_a_store_that_is_away_is_named(
    zones_file_factory: Callable[..., Path], tmp_path: Path
) -> None:
    app = typer.Typer()
    commands.register(app)
    zone = Zone("eu", ("eu-west-1",), ("127.0.0.1:1",), "http://127.0.0.1:1", "rum_eu")
    result = CliRunner().invoke(app, ["suite", "--config", str(zones_file_factory(zone))])
    assert isinstance(result.exception, MobiusError)
    assert result.exception.exit_code == 3


def insert_blind_spot(shop: Shop) -> None:
    """Users get slower at minute 400 without a release; the tests do not."""
    rng = np.random.default_rng(1)
    T = 12 * 60
    slower = np.where(np.arange(T) >= 400, np.log(1.5), 0.0)
    for source, load in (("real", slower), ("synthetic", np.zeros(T))):
        minutes, seconds = lognormal(rng, START, load, rate=20, median=0.05, sigma=0.3)
        insert_rollup(
            shop.client,
            rollup_rows([Requests(minutes, seconds, source=source)]),  # type: ignore[arg-type]  # one of the two above
        )


def test_the_schedule_looks_for_changes_once_a_bin(empty: Shop) -> None:
    stop = threading.Event()
    now = [END]
    found: list[int] = []

    class Log(io.StringIO):
        def flush(self) -> None:  # after each run
            found.append(sum(f.kind == "blind_spot" for f in load_open(empty.client)))
            if len(found) == 1:
                insert_blind_spot(empty)
            now[0] += timedelta(seconds=30)
            if len(found) == 3:
                stop.set()

    run_regularly(
        (empty.zone,), timedelta(seconds=0.1), END - START, stop, log=Log(), clock=lambda: now[0]
    )
    # A bin is looked at a minute after its end: at noon the one before, at 12:00:30 none, at 12:01 the one until noon.
    assert found[:3] == [0, 0, 1]


def test_a_change_without_a_release_is_a_finding_until_it_is_not_there(empty: Shop) -> None:
    insert_blind_spot(empty)
    run_job(empty.zone, START, END, now=END)
    findings = [f for f in load_open(empty.client) if f.kind == "blind_spot"]
    (finding,) = findings
    assert abs(finding.since - (START + timedelta(minutes=400))) <= timedelta(minutes=10)
    assert finding.severity == "critical"
    assert "without a release" in finding.title
    assert finding.evidence["change"]["tests"][0]["kind"] == "blind_spot"
    # Again: the same finding. Of a window after the change: not settled, since nobody looked at its time.
    run_job(empty.zone, START, END, now=END + timedelta(minutes=1))
    run_job(empty.zone, START + timedelta(minutes=500), END, now=END + timedelta(minutes=2))
    assert [f.id for f in load_open(empty.client) if f.kind == "blind_spot"] == [finding.id]

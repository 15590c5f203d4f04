"""Result files are imported once; what could not be imported waits, also for another process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mobius_infra.demo import history, shop
from mobius_infra.demo.history_runs import write_run_files
from mobius_infra.demo.synthetic import Runner
from mobius_instrumentation.zones import Zone
from mobius_pipeline.store import Purpose, connect

PERIOD = history.Period.before(1_790_000_100_000_000_000, 0.4)


@pytest.fixture
def waiting(tmp_path: Path) -> Path:
    """A folder with one result file, as a run before a restart leaves it."""
    drawn = history.draw_region("us-east-1", PERIOD, 1)
    tests = [traced for traced in drawn.traced if traced.requests.tests]
    (written,) = write_run_files(tmp_path, drawn.runs, tests, np.random.default_rng(1))
    folder = tmp_path / "runs"
    folder.mkdir()
    written.file.rename(folder / "us-east-1__1.5.0__run.jsonl")
    return folder


@pytest.mark.store
def test_a_file_that_waits_is_imported_once_and_put_aside(
    waiting: Path,
    zone_factory: Callable[..., Zone],
    zones_file_factory: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    zone = zone_factory("us", regions=("us-east-1",), topics=False)
    monkeypatch.setenv("MOBIUS_CONFIG", str(zones_file_factory(zone)))
    runner = Runner(waiting, 1, threading.Event(), waiting / "stats.json")
    runner.import_files()
    runner.import_files()
    client = connect(zone, Purpose.ANALYSIS)
    ((test, release, service, requests),) = client.query(
        "SELECT test, release, service, requests FROM synthetic_runs"
    ).result_rows
    client.close()
    assert (test, release, service) == (shop.TEST_NAME, "1.5.0", "storefront")
    assert (runner.counters["imported"], runner.counters["requests"]) == (1, requests)
    assert [f.name for f in (waiting / "imported").iterdir()] == ["us-east-1__1.5.0__run.jsonl"]


def test_a_file_waits_while_the_store_is_away(
    waiting: Path, zones_file_factory: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    away = Zone("us", ("us-east-1",), ("127.0.0.1:1",), "http://127.0.0.1:1", "rum_us")
    monkeypatch.setenv("MOBIUS_CONFIG", str(zones_file_factory(away)))
    runner = Runner(waiting, 1, threading.Event())
    runner.import_files()
    assert (runner.counters["imported"], runner.counters["failed_imports"]) == (0, 1)
    assert [f.name for f in waiting.glob("*.jsonl")] == ["us-east-1__1.5.0__run.jsonl"]


def test_a_shop_that_is_away_is_no_run(tmp_path: Path) -> None:
    runner = Runner(tmp_path, 1, threading.Event())
    runner.run(("us-east-1", "http://127.0.0.1:1"))
    assert runner.counters == {
        "runs": 0,
        "imported": 0,
        "requests": 0,
        "failed_runs": 1,
        "failed_imports": 0,
    }

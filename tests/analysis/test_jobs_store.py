"""The whole job on a real store: generated rollup in, verdicts, findings and documents out."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import polars as pl
import pytest
import typer
from clickhouse_connect.driver.client import Client
from typer.testing import CliRunner

from mobius_analysis import commands
from mobius_analysis.cells import load_cells
from mobius_analysis.changes import load_changes
from mobius_analysis.findings import load_open
from mobius_analysis.jobs import run_job
from mobius_analysis.rollup import SERIES, Only, Window, load_rollup, query
from mobius_analysis.schedule import run_regularly
from mobius_analysis.series import (
    bin_minutes,
    distribution,
    ecdf,
    load_exemplars,
    quantile_series,
)
from mobius_analysis.testing import (
    Requests,
    drifting_load,
    insert_rollup,
    loaded,
    lognormal,
    rollup_rows,
)
from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import DependencyError, MobiusError
from mobius_pipeline.migrate import migrate
from mobius_pipeline.store import Purpose, connect

pytestmark = pytest.mark.store

HOURS = 12
END = datetime(2026, 3, 1, 12, tzinfo=UTC)
START = END - timedelta(hours=HOURS)
RELEASE = END - timedelta(hours=4)
REGIONS = ("eu-central-1", "eu-west-1")


def story(region: str, seed: int) -> Iterator[Requests]:
    """Five endpoints: the test of each lies in its own way, or not at all."""
    rng = np.random.default_rng(seed)
    T = HOURS * 60
    load = drifting_load(rng, T, 0.6, 0.03)
    released = np.arange(T) >= (RELEASE - START) / timedelta(minutes=1)
    runs = np.arange(T) % 15 < 3
    cold = 1.8 if region == "eu-central-1" else 1.0

    def both(method: str, route: str, users: np.ndarray, test: float | None) -> Iterator[Requests]:
        sides = [("real", users, 30.0, np.ones(T, bool))]
        if test is not None:
            sides.append(("synthetic", np.full(T, test), 30.0, runs))
        for source, median, rate, present in sides:
            minutes, seconds = lognormal(
                rng, START, load + np.log(median), rate=rate, median=1.0, sigma=0.4, present=present
            )
            after = released[minutes - int(START.timestamp() // 60)]
            for version, part in (("1.4.0", ~after), ("1.5.0", after)):
                yield Requests(
                    minutes[part],
                    seconds[part],
                    route=route,
                    region=region,
                    method=method,
                    source=source,  # type: ignore[arg-type]  # one of the two above
                    version=version,
                    test_run="nightly" if source == "synthetic" else "",
                )

    yield from both("GET", "/products/{product_id}", np.full(T, 0.06), 0.06)
    yield from both("GET", "/search", np.full(T, 0.04 * cold), 0.04)
    yield from both("POST", "/checkout", np.full(T, 0.05), 0.11)
    yield from both("GET", "/orders/{order_id}", np.full(T, 0.04), None)
    yield from both("GET", "/recommendations", np.where(released, 0.07, 0.05), 0.05)


@pytest.fixture(scope="module")
def shop() -> pl.DataFrame:
    groups = [group for seed, region in enumerate(REGIONS) for group in story(region, seed)]
    return rollup_rows(groups)


@dataclass
class Shop:
    zone: Zone
    client: Client


@contextmanager
def store_of(url: str, rows: pl.DataFrame | None = None) -> Iterator[Shop]:
    """A zone with a migrated database of its own; no broker, which these tests do not need."""
    name = f"eu_{uuid4().hex[:8]}"
    zone = Zone(name, REGIONS, ("127.0.0.1:1",), url, f"rum_{name}")
    migrate(zone)
    client = connect(zone, Purpose.ANALYSIS)
    if rows is not None:
        insert_rollup(client, rows)
    yield Shop(zone, client)
    client.command(f"DROP DATABASE `{zone.database}`")
    client.close()


@pytest.fixture
def stored(store_server: str, shop: pl.DataFrame) -> Iterator[Shop]:
    """A store that the test may change."""
    with store_of(store_server, shop) as made:
        yield made


@pytest.fixture(scope="module")
def settled(store_server: str, shop: pl.DataFrame) -> Iterator[Shop]:
    """The same for tests that only read."""
    with store_of(store_server, shop) as made:
        yield made


def test_the_store_merges_as_the_pure_code_does(settled: Shop, shop: pl.DataFrame) -> None:
    window = Window.of(START, END)
    there = load_rollup(settled.client, window)
    here = loaded(shop)
    keys = [*SERIES, "minute"]
    assert there.select(keys).rows() == here.select(keys).rows()
    for column in ("requests", "errors", "answered", "weight", "squared"):
        assert there[column].to_list() == here[column].to_list()
    assert there["buckets"].to_list() == here["buckets"].to_list()
    assert there["weights"].to_list() == here["weights"].to_list()


@pytest.fixture
def empty(store_server: str) -> Iterator[Shop]:
    with store_of(store_server) as made:
        yield made


def test_versions_and_status_classes_merge_and_failures_do_not(empty: Shop) -> None:
    client = empty.client
    minute = int(START.timestamp() // 60)
    base = Requests(np.array([minute] * 2), np.array([0.05, 0.1]))
    parts = [
        base,
        replace(base, version="2.0.0"),
        replace(base, status_class="4xx"),
        replace(base, status_class="5xx"),
        replace(base, status_class="error"),
        replace(base, status_class="none", environment="staging"),
    ]
    insert_rollup(client, rollup_rows(parts))
    window = Window.of(START, END)
    (row,) = load_rollup(client, window).iter_rows(named=True)
    assert (row["requests"], row["errors"], row["answered"]) == (12, 6, 6)
    assert dict(zip(row["buckets"], row["weights"], strict=True)) == {-139: 3.0, -107: 3.0}
    (row,) = load_rollup(client, window, Only(environment="production")).iter_rows(named=True)
    assert row["requests"] == 10
    versions = load_rollup(client, window, extra=("version",))
    assert dict(versions.select("version", "answered").iter_rows()) == {"1.0.0": 4, "2.0.0": 2}


def test_the_five_stories_come_out_of_the_measurement(settled: Shop) -> None:
    # The running minute is left out, and the seconds of --since do not matter.
    result = load_cells(
        settled.client, settled.zone, START + timedelta(seconds=1), END + timedelta(seconds=59)
    )
    verdicts = {(cell.region, cell.route): cell.verdict for cell in result.cells}
    assert len(verdicts) == 10
    for region in REGIONS:
        assert verdicts[region, "/products/{product_id}"] == "representative"
        assert verdicts[region, "/checkout"] == "pessimistic"
        assert verdicts[region, "/orders/{order_id}"] == "untested"
    assert verdicts["eu-central-1", "/search"] == "optimistic"
    assert verdicts["eu-west-1", "/search"] == "representative"

    changes = load_changes(settled.client, Window.of(START, END))
    moved = {(c.release.region, c.route): (c.kind, c.direction) for c in changes if c.kind}
    assert moved == {(region, "/recommendations"): ("blind_spot", "slower") for region in REGIONS}
    assert {c.release.first_seen for c in changes} == {RELEASE}


def keys_of(value: Any) -> dict[str, Any] | None:
    if isinstance(value, dict):
        return {key: keys_of(inner) for key, inner in value.items()}
    return None


def test_the_document_has_the_promised_shape(settled: Shop) -> None:
    document = load_cells(settled.client, settled.zone, START, END).document()
    json.dumps(document, allow_nan=False)
    interval: dict[str, Any] = dict.fromkeys(("value", "low", "high"))
    side: dict[str, Any] = {"requests": None, "answered": None, "minutes": None}
    side |= {f"p{p}_ms": interval for p in (50, 95, 99)}
    cell = next(c for c in document["cells"] if c["route"] == "/search")
    assert keys_of(cell) == {
        **dict.fromkeys(
            ("zone", "region", "service", "method", "route", "window_start", "window_end")
        ),
        "production": side,
        "synthetic": side,
        "suspected": {"requests": None},
        "ratio": {"p50": interval, "p95": interval, "p99": interval},
        "errors": {"production": interval, "synthetic": interval},
        **dict.fromkeys(("vantage", "verdict", "needs", "note")),
    }
    assert (cell["window_start"], cell["window_end"]) == (
        "2026-03-01T00:00:00Z",
        "2026-03-01T12:00:00Z",
    )
    assert document["coverage"]["endpoints_untested"] == 2
    assert {r["region"] for r in document["coverage"]["regions"]} == set(REGIONS)


def open_findings(client: Client) -> dict[str, tuple[Any, ...]]:
    rows = query(
        client, "SELECT id, toString(kind), region, route FROM findings FINAL WHERE status = 'open'"
    )
    return {row[0]: row[1:] for row in rows.iter_rows()}


def test_findings_are_saved_once_and_closed_when_they_no_longer_hold(stored: Shop) -> None:
    run_job(stored.zone, START, END, now=END)
    first = open_findings(stored.client)
    assert sorted(first.values()) == sorted(
        [
            ("optimistic_test", "eu-central-1", "/search"),
            *(("blind_spot", region, "/recommendations") for region in REGIONS),
            *(("pessimistic_test", region, "/checkout") for region in REGIONS),
            *(("untested_endpoint", region, "/orders/{order_id}") for region in REGIONS),
            *(
                (kind, region, "/recommendations")
                for kind, region in (
                    (f[0], f[1]) for f in first.values() if f[2] == "/recommendations"
                )
                if kind == "optimistic_test"
            ),
        ]
    )
    assert all(finding.evidence for finding in load_open(stored.client))

    run_job(stored.zone, START + timedelta(minutes=30), END, now=END + timedelta(minutes=1))
    assert open_findings(stored.client).keys() == first.keys()

    # Somebody writes a test for the orders, and a later run sees it.
    tests = [
        replace(group, source="synthetic", region=region)
        for region in REGIONS
        for group in story(region, 9)
        if group.route == "/orders/{order_id}"
    ]
    insert_rollup(stored.client, rollup_rows(tests))
    run_job(stored.zone, START, END, now=END + timedelta(minutes=2))
    gone = {first[i][0] for i in first.keys() - open_findings(stored.client).keys()}
    assert gone == {"untested_endpoint"}


def test_cells_are_saved_for_each_run_and_equal_the_document(stored: Shop) -> None:
    result = run_job(stored.zone, START, END, now=END).correlation
    rows = query(
        stored.client, "SELECT job, verdict, cell FROM correlations ORDER BY service, route, region"
    )
    assert rows["job"].n_unique() == 1
    saved = sorted(
        (json.loads(cell) for cell in rows["cell"]), key=lambda c: (c["route"], c["region"])
    )
    expected = sorted(result.document()["cells"], key=lambda c: (c["route"], c["region"]))
    assert saved == expected


def test_a_run_that_must_not_save_does_not(settled: Shop) -> None:
    assert run_job(settled.zone, START, END, now=END, save=False).findings
    assert query(settled.client, "SELECT count() FROM correlations").item() == 0
    assert open_findings(settled.client) == {}


def test_spans_of_a_foreign_region_are_a_finding(stored: Shop) -> None:
    stored.client.insert(
        "quarantine",
        [
            [
                "region is in another zone",
                "us-east-1",
                "storefront",
                7,
                "t",
                0,
                1,
                "{}",
                END - timedelta(hours=1),
            ]
        ],
        column_names=[
            "reason",
            "region",
            "service",
            "spans",
            "topic",
            "partition",
            "offset",
            "payload",
            "at",
        ],
    )
    found = [
        f for f in run_job(stored.zone, START, END, now=END).findings if f.kind == "foreign_region"
    ]
    assert [(f.region, f.evidence["spans"]) for f in found] == [("us-east-1", 7)]


def test_series_and_distributions_agree_with_the_cell(settled: Shop) -> None:
    window = Window.of(START, END)
    only = Only(region="eu-central-1", service="storefront", method="GET", route="/search")
    frame = load_rollup(settled.client, window, only)
    assert bin_minutes(window) == 15
    cell = next(
        c
        for c in load_cells(settled.client, settled.zone, START, END).cells
        if (c.region, c.route) == (only.region, only.route)
    )
    series = quantile_series(frame, 720)
    real = series.filter((pl.col("source") == "real") & (pl.col("quantile") == "p95"))
    estimate = cell.production.estimate(0.95)
    assert estimate is not None
    assert estimate.bounds.low is not None
    assert real["value_ms"].to_list() == [estimate.bounds.value * 1000]
    assert real["low_ms"].to_list() == [estimate.bounds.low * 1000]
    assert real["requests"].item() == cell.production.requests

    fine = quantile_series(frame, 15).filter(pl.col("quantile") == "p50")
    assert fine.filter(pl.col("source") == "real").height == HOURS * 4
    assert fine["requests"].sum() == frame["requests"].sum()

    curve = distribution(frame).filter(pl.col("source") == "real")
    assert curve["value_ms"].is_sorted()
    assert (curve["low_ms"] <= curve["value_ms"]).all()
    steps = ecdf(frame)
    for _, part in steps.group_by("source"):
        assert part["share"].is_sorted()
        assert part["share"][-1] == pytest.approx(1)
    assert steps["weight"].sum() == frame["answered"].sum()


def test_exemplars_are_the_stored_requests_nearest_to_a_latency(stored: Shop) -> None:
    columns = [
        "start",
        "duration_ns",
        "trace_id",
        "span_id",
        "kind",
        "region",
        "service",
        "method",
        "route",
    ]
    columns += ["http_status", "source"]
    milliseconds = [40, 48, 51, 55, 200]
    same = ["eu-west-1", "storefront", "GET", "/search"]
    when = END - timedelta(minutes=5)
    rows: list[list[Any]] = [
        [when, ms * 1_000_000, bytes([ms] * 16), bytes([ms] * 8), "Server", *same, 200, "real"]
        for ms in milliseconds
    ]
    rows.append([when, 50_000_000, b"\xee" * 16, b"\xee" * 8, "Server", *same, 500, "real"])
    rows.append([when, 50_000_000, b"\xdd" * 16, b"\xdd" * 8, "Server", *same, 200, "synthetic"])
    rows.append([when, 50_000_000, b"\xcc" * 16, b"\xcc" * 8, "Client", *same, 200, "real"])
    stored.client.insert("spans", rows, column_names=columns)
    only = Only(region="eu-west-1", service="storefront", method="GET", route="/search")
    found = load_exemplars(stored.client, Window.of(START, END), only, 0.05, most=3)
    assert [(e.trace_id, e.duration_ms) for e in found] == [
        ("33" * 16, 51.0),
        ("30" * 16, 48.0),
        ("37" * 16, 55.0),
    ]
    assert found[0].start == END - timedelta(minutes=5)


# The commands.


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

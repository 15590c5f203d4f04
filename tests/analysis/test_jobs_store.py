"""The whole job on a real store: generated rollup in, verdicts, findings and documents out."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import numpy as np
import polars as pl
import pytest
from clickhouse_connect.driver.client import Client

from mobius_analysis.cells import cell_document, load_cells
from mobius_analysis.changes import load_changes
from mobius_analysis.correlate import Cell, correlate
from mobius_analysis.correlate_matched import correlate_matched
from mobius_analysis.findings import Finding, load_open
from mobius_analysis.jobs import run_job
from mobius_analysis.matching import Match
from mobius_analysis.reported import load_reported
from mobius_analysis.rollup import SERIES, Only, Window, load_rollup, query
from mobius_analysis.series import (
    bin_minutes,
    distribution,
    ecdf,
    load_exemplars,
    quantile_series,
)
from mobius_analysis.testing import (
    Requests,
    insert_rollup,
    loaded,
    rollup_rows,
)
from tests.analysis.conftest import END, HOURS, REGIONS, RELEASE, START, Shop, story

pytestmark = pytest.mark.store


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


@pytest.mark.parametrize("by", ["hour", "load"])
def test_matching_service_by_service_is_matching_all_at_once(
    empty: Shop, shop: pl.DataFrame, by: Match
) -> None:
    named = pl.when(route="/search").then(pl.lit("")).otherwise(pl.col("route").str.slice(1, 2))
    insert_rollup(empty.client, shop.with_columns(service=named))
    client, length = empty.client, timedelta(hours=5)
    windows = Window.of(START, END).cut(length)
    frame = load_rollup(client, Window.of(START, END))
    whole = correlate_matched(frame, windows, by)
    shares: list[float] = []
    found = load_cells(client, empty.zone, START, END, length, match=by, watch=shares.append)
    assert len(frame["service"].unique()) == len(shares) > 1
    assert shares[-1] == 1
    assert [cell.matching is not None for cell in found.cells].count(True) > 3

    def documents(cells: tuple[Cell, ...]) -> list[dict[str, Any]]:
        return [cell_document("", replace(cell, network_share=None)) for cell in cells]

    assert documents(found.cells) == documents(whole)
    assert documents(found.unmatched) == documents(correlate(frame, windows))


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
        "errors": {
            **dict.fromkeys(("production", "synthetic", "difference", "ratio"), interval),
            "verdict": None,
        },
        **dict.fromkeys(
            ("vantage", "network_share", "verdict", "p99_verdict", "needs", "note", "match")
        ),
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
    # Slower by 40 % for a third of the time: what the whole window says of them may go either way.
    told = [
        about for about in first.values() if about[::2] != ("optimistic_test", "/recommendations")
    ]
    assert sorted(told) == sorted(
        [
            ("optimistic_test", "eu-central-1", "/search"),
            *(("blind_spot", region, "/recommendations") for region in REGIONS),
            *(("pessimistic_test", region, "/checkout") for region in REGIONS),
            *(("untested_endpoint", region, "/orders/{order_id}") for region in REGIONS),
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


def arrive(client: Client, *, stored: int, quarantined: int, at: datetime) -> None:
    client.insert(
        "ingest_ledger",
        [["t", uuid4(), 0, 0, 9, "done", "w", stored, at]],
        [
            "topic",
            "topic_id",
            "partition",
            "first_offset",
            "last_offset",
            "state",
            "writer",
            "spans",
            "at",
        ],
    )
    if not quarantined:
        return
    client.insert(
        "quarantine",
        [["region is missing", "", "storefront", quarantined, at]],
        ["reason", "region", "service", "spans", "at"],
    )


@pytest.mark.parametrize(
    ("stored", "quarantined", "found"),
    [
        (900, 100, 1),
        (970, 13, 0),  # 1.3 %, and 0.8 % as well
        (60, 30, 0),  # too few to say
        (0, 0, 0),
    ],
)
def test_too_large_a_share_of_quarantined_spans_is_a_finding_until_it_falls(
    empty: Shop, stored: int, quarantined: int, found: int
) -> None:
    arrive(empty.client, stored=stored, quarantined=quarantined, at=START + timedelta(minutes=7))

    def rates(since: datetime) -> list[Finding]:
        result = run_job(empty.zone, since, since + timedelta(hours=1), now=END)
        return [f for f in result.findings if f.kind == "quarantine_rate"]

    seen = rates(START)
    assert len(seen) == found
    for finding in seen:
        evidence = finding.evidence
        assert (evidence["quarantined_spans"], evidence["arrived_spans"]) == (
            quarantined,
            stored + quarantined,
        )
        assert evidence["share"]["low"] > evidence["limit"]
        assert finding.since == START + timedelta(minutes=7)
    assert len(rates(START)) == found  # the same one
    kinds = {f.kind for f in load_open(empty.client)}
    assert kinds == ({"quarantine_rate"} if found else set()) | (
        {"foreign_region"} if quarantined else set()
    )
    # An hour later nothing of the kind arrives: both are closed by that.
    rates(START + timedelta(hours=1))
    assert load_open(empty.client) == []


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


def test_a_run_of_percentiles_alone_is_read_from_its_summary(empty: Shop) -> None:
    endpoint = {
        "method": "GET",
        "route": "/search",
        "service": "storefront",
        "requests": 90,
        "failed": 2,
    }
    endpoint |= {"p50_ms": 20.0, "p95_ms": 50.0, "p99_ms": None}
    nowhere = {**endpoint, "route": None}
    for run, kind in (("r1", "as_reported"), ("r2", "answered")):
        summary = {"percentiles": kind, "endpoints": [endpoint, nowhere]}
        empty.client.insert(
            "synthetic_runs",
            [[run, run * 32, "eu-west-1", START, START, 90, 2, json.dumps(summary)]],
            column_names=[
                "run",
                "digest",
                "region",
                "start",
                "end",
                "requests",
                "failed",
                "summary",
            ],
        )
    (found,) = load_reported(empty.client, Window.of(START, END))
    assert (found.run, found.subject) == ("r1", ("eu-west-1", "storefront", "GET", "/search"))
    assert found.seconds == {0.5: 0.02, 0.95: 0.05}
    (cell,) = load_cells(empty.client, empty.zone, START, END).cells
    assert (cell.verdict, cell.synthetic.requests) == ("unvisited", 90)

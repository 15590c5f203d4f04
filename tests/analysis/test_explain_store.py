"""Explanations from spans in a real store: a cold cache, a slow pod, a slow database, and nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from clickhouse_connect.driver.client import Client

from mobius_analysis.endpoint_detail import load_detail
from mobius_analysis.explain import load_traces
from mobius_analysis.request_sample import load_sample, size_class
from mobius_analysis.rollup import Only, Window
from tests.analysis.conftest import START, Shop, store_of

pytestmark = pytest.mark.store

MINUTES = 90
WINDOW = Window(START, START + timedelta(minutes=MINUTES))
REGION, SERVICE = "eu-west-1", "storefront"
COLUMNS = [
    "problem", "start", "duration_ns", "trace_id", "span_id", "parent_span_id", "name", "kind", "region", "service",
    "version", "instance", "method", "route", "http_status", "source", "test_run", "weight", "attributes",
]  # fmt: skip


@dataclass(frozen=True)
class Side:
    """How one side's requests of a route are made; times in ms."""

    misses: float = 0.3
    slow_pod: float = 1.0
    database: float = 30.0
    own: float = 10.0


def requests(seed: int, route: str, source: str, side: Side, rate: int) -> Iterator[list[Any]]:
    """Server spans with one database call below those that miss the cache."""
    rng = np.random.default_rng(seed)
    for i in range(MINUTES * rate):
        start = int(START.timestamp() * 1e9) + int(i / rate * 60e9)
        miss, pod = rng.random() < side.misses, int(rng.integers(4))
        noise = np.exp(0.25 * rng.standard_normal())
        slow = side.slow_pod if pod == 3 else 1.0
        call = side.database * noise * slow if miss else 0.0
        whole = side.own * noise * slow + call
        ids = [rng.bytes(16), rng.bytes(8), rng.bytes(8)]
        common = [
            "1.0.0",
            f"pod-{pod}",
            "GET",
            route,
            200,
            source,
            "run" if source != "real" else "",
        ]
        hit = {"shop.cache.hit": "false" if miss else "true"}
        root = {"http.response.body.size": "2048", **hit}
        yield ["", start, int(whole * 1e6), ids[0], ids[1], b"\0" * 8, f"GET {route}", "Server", REGION, SERVICE,
               *common, 1.0, root]  # fmt: skip
        if miss:
            yield ["", start + 1_000_000, int(call * 1e6), ids[0], ids[2], ids[1], "SELECT items", "Client", REGION,
                   SERVICE, *common[:3], "", 0, *common[5:], 1.0, {"db.system.name": "sqlite"}]  # fmt: skip


STORIES = {
    "/cold": (Side(misses=0.6), Side(misses=0.02)),
    "/pod": (Side(slow_pod=4.0, misses=0.0), Side(misses=0.0)),
    "/database": (Side(database=90.0, misses=1.0), Side(misses=1.0)),
    "/everywhere": (Side(own=20.0, misses=0.0), Side(misses=0.0)),
}


@pytest.fixture(scope="module")
def told(store_server: str) -> Iterator[Shop]:
    with store_of(store_server) as shop:
        rows: list[list[Any]] = []
        for seed, (route, (users, test)) in enumerate(STORIES.items()):
            rows += requests(2 * seed, route, "real", users, 30)
            rows += requests(2 * seed + 1, route, "synthetic", test, 15)
        shop.client.insert("span_rows", rows, column_names=COLUMNS)
        yield shop


@pytest.fixture(scope="module")
def documents(told: Shop) -> dict[str, dict[str, Any]]:
    return {
        route: load_detail(told.client, told.zone, Only(REGION, SERVICE, "GET", route), WINDOW)
        for route in STORIES
    }


def holding(document: dict[str, Any], quantile: str) -> list[tuple[str, str, str | None]]:
    ranked = document["explanations"][quantile]["ranked"]
    return [(one["kind"], one["dimension"], one["value"]) for one in ranked if one["holds"]]


def share(document: dict[str, Any], quantile: str, kind: str, name: str) -> dict[str, float]:
    ranked = document["explanations"][quantile]["ranked"]
    return next(
        one["share"]
        for one in ranked
        if one["kind"] == kind and name in (one["dimension"], one["value"])
    )


def test_a_cold_cache_is_a_matter_of_the_mix(documents: dict[str, dict[str, Any]]) -> None:
    found = documents["/cold"]
    assert found["cell"]["verdict"] == "optimistic"
    assert ("mix", "cache", None) in holding(found, "p50")
    assert share(found, "p50", "mix", "cache")["value"] == pytest.approx(1, abs=0.1)
    assert ("component", "span", "storefront: sqlite SELECT items") in holding(found, "p50")
    segment = next(one for one in found["segments"] if one["dimension"] == "cache")
    shares = {one["value"]: one["production_share"] for one in segment["values"]}
    assert shares == pytest.approx({"hit": 0.4, "miss": 0.6}, abs=0.03)


def test_one_slow_pod_is_found_among_four(documents: dict[str, dict[str, Any]]) -> None:
    found = documents["/pod"]
    assert ("within", "instance", "pod-3") in holding(found, "p95")
    assert not {("within", "instance", f"pod-{i}") for i in range(3)} & set(holding(found, "p95"))
    assert share(found, "p95", "within", "pod-3")["value"] > 0.7
    assert "pod-3" in found["explanations"]["p95"]["text"]


def test_a_slow_database_is_where_the_time_goes(documents: dict[str, dict[str, Any]]) -> None:
    found = documents["/database"]
    assert holding(found, "p50")[0] == ("component", "span", "storefront: sqlite SELECT items")
    assert share(found, "p50", "component", "storefront: sqlite SELECT items")["value"] > 0.85
    assert not [one for one in holding(found, "p50") if one[0] == "mix"]


def test_nothing_explains_what_is_slower_everywhere(documents: dict[str, dict[str, Any]]) -> None:
    found = documents["/everywhere"]
    assert found["cell"]["verdict"] == "optimistic"
    for quantile in ("p50", "p95"):
        assert holding(found, quantile) == []
        assert "Nothing explains it" in found["explanations"][quantile]["text"]


def test_the_sample_is_bounded_and_says_so(told: Shop) -> None:
    subject = Only(REGION, SERVICE, "GET", "/cold")
    sample = load_sample(told.client, WINDOW, subject, most=100)
    assert sample.stored == {"real": 30 * MINUTES, "synthetic": 15 * MINUTES}
    assert sample.side("real").height == 100
    traces = load_traces(told.client, WINDOW, subject)
    assert traces.sample.kept_from == 0
    assert traces.parts
    for one in traces.parts:
        assert sum(one.parts.values()) * 1e9 == pytest.approx(one.duration_ns, rel=1e-6)


def test_traces_that_were_sampled_away_are_no_requests_without_calls(empty: Shop) -> None:
    """Server spans all kept, the rest of the trace for one in four: only those four are looked into."""
    rows = []
    for row in requests(1, "/", "real", Side(misses=1.0), 20):
        kept = row[3][9] >= 0xC0
        if row[7] == "Server" or kept:
            rows.append([*row[:17], 1.0 if row[7] == "Server" else 4.0, row[18]])
    insert(empty.client, rows)
    traces = load_traces(empty.client, WINDOW, Only(REGION, SERVICE, "GET", "/"))
    assert traces.sample.kept_from == 0xC0 << 48
    assert traces.parts
    assert all("storefront: sqlite SELECT items" in one.parts for one in traces.parts)


def insert(client: Client, rows: list[list[Any]]) -> None:
    client.insert("span_rows", rows, column_names=COLUMNS)


@pytest.mark.parametrize(
    ("text", "name"),
    [("", ""), ("x", ""), ("-1", ""), ("0", "empty"), ("1023", "< 1 KiB"), ("1024", "1-4 KiB"), ("99999999", ">= 1 MiB")],
)  # fmt: skip
def test_sizes_have_classes(text: str, name: str) -> None:
    assert size_class(text) == name


def test_spans_that_a_test_s_results_name_are_the_test_s(empty: Shop) -> None:
    """Unmarked requests that a correction has moved to a run leave production's sample, parts included."""
    rows = list(requests(1, "/", "real", Side(misses=1.0), 20))
    insert(empty.client, rows)
    named = [row for row in rows if row[7] == "Server"][::3]
    insert_moved(empty.client, 1, named, 1)
    insert_moved(empty.client, 2, named[:10], -1)  # taken back
    traces = load_traces(empty.client, WINDOW, Only(REGION, SERVICE, "GET", "/"))
    ids = {row[3].hex() for row in named[10:]}
    assert set(traces.sample.side("synthetic")["trace_id"]) == ids
    assert traces.sample.stored == {"real": 20 * MINUTES - len(ids), "synthetic": len(ids)}
    assert {one.source for one in traces.parts} == {"real", "synthetic"}


def insert_moved(client: Client, batch: int, rows: list[list[Any]], sign: int) -> None:
    client.insert(
        "joined_spans",
        [
            [batch, "w", sign, 1, "run", row[3], row[4], row[1] // 10**9 // 60 * 60, *row[8:11], "", *row[12:14], "2xx", 1.0]
            for row in rows
        ],
        column_names=[
            "batch", "writer", "sign", "adds", "run", "trace_id", "span_id", "minute", "region", "service", "version",
            "environment", "method", "route", "status_class", "weight",
        ],
    )  # fmt: skip


def test_joined_requests_split_the_test_s_time(empty: Shop) -> None:
    """Results that name their traces: the client waits 5 ms longer than the server works."""
    rows = list(requests(1, "/", "synthetic", Side(misses=1.0), 5))
    insert(empty.client, rows)
    named = [row for row in rows if row[7] == "Server"]
    empty.client.insert(
        "synthetic_results",
        [
            ["r", datetime.fromtimestamp((row[1] - 2_000_000) / 1e9, UTC), row[2] / 1e6 + 5, 1, REGION, SERVICE, "GET", "/", "/", 200, row[3].hex()]
            for row in named
        ],
        column_names=[
            "run", "start", "duration_ms", "requests", "region", "service", "method", "route", "name", "status", "trace_id",
        ],
    )  # fmt: skip
    summary = {"endpoints": [{"method": "GET", "route": "/", "service": SERVICE}]}
    empty.client.insert(
        "synthetic_runs",
        [["r", "r" * 64, REGION, WINDOW.start, WINDOW.end, len(named), json.dumps(summary)]],
        column_names=["run", "digest", "region", "start", "end", "requests", "summary"],
    )
    document = load_detail(empty.client, empty.zone, Only(REGION, SERVICE, "GET", "/"), WINDOW)
    split = document["split"]
    assert split["joined"] == len(named)
    assert split["network"]["mean_ms"]["value"] == pytest.approx(5, abs=0.1)
    assert (split["route"], split["outlasted"]) == ("/", 0)

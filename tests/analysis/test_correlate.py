"""Cells from the rollup's rows: sources, vantage, windows, notes, coverage."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from mobius_analysis.cells import CorrelationResult, cell_document, note_of
from mobius_analysis.correlate import Cell, correlate
from mobius_analysis.reported import Reported
from mobius_analysis.rollup import Window
from mobius_analysis.testing import Requests, loaded, lognormal, rollup_rows

START = datetime(2026, 3, 1, tzinfo=UTC)
WINDOW = Window(START, START + timedelta(hours=2))


def requests(seed: int, rate: float = 40, median: float = 0.05, hours: int = 2) -> Requests:
    rng = np.random.default_rng(seed)
    return Requests(
        *lognormal(rng, START, np.zeros(60 * hours), rate=rate, median=median, sigma=0.4)
    )


def frame(*groups: Requests) -> pl.DataFrame:
    return loaded(rollup_rows(groups))


def only_cell(*groups: Requests) -> Cell:
    (cell,) = correlate(frame(*groups), [WINDOW])
    return cell


def test_a_test_that_tells_the_truth() -> None:
    cell = only_cell(requests(1), replace(requests(2, rate=20), source="synthetic"))
    assert cell.verdict == "representative"
    assert (cell.needs, note_of(cell)) == (None, "")
    assert set(cell.ratios) == {0.5, 0.95, 0.99}


def test_suspected_traffic_is_nobodys() -> None:
    real, test = requests(1), replace(requests(2, rate=20), source="synthetic")
    fast = replace(requests(3, rate=100, median=0.001), source="suspected")
    cell = only_cell(real, test, fast)
    assert cell.verdict == "representative"
    assert cell.production.requests == len(real.minutes)
    assert cell.suspected == len(fast.minutes)


def test_failed_requests_are_no_fast_ones() -> None:
    failed = replace(requests(3, rate=30, median=0.001), status_class="5xx")
    nothing = replace(requests(4, rate=5, median=0.001), status_class="none", source="synthetic")
    not_found = replace(requests(5, rate=1), status_class="4xx")
    real, test = requests(1), replace(requests(2, rate=20), source="synthetic")
    cell = only_cell(real, failed, not_found, test, nothing)
    assert cell.verdict == "representative"
    assert cell.production.answered == len(real.minutes) + len(not_found.minutes)
    document = cell_document("eu", cell)
    everything = len(real.minutes) + len(failed.minutes) + len(not_found.minutes)
    assert document["production"]["requests"] == everything
    assert document["errors"]["production"]["value"] == float(
        f"{len(failed.minutes) / everything:.4g}"
    )
    assert document["errors"]["synthetic"]["low"] > 0


def test_the_servers_view_of_the_test_is_preferred_and_never_added_to_the_clients() -> None:
    real = requests(1)
    server = replace(requests(2, rate=20), source="synthetic")
    client = replace(requests(3, rate=20, median=0.08), source="synthetic", vantage="client")
    both = only_cell(real, server, client)
    assert (both.vantage, both.synthetic.requests) == ("server", len(server.minutes))
    assert both.verdict == "representative"

    alone = only_cell(real, client)
    assert (alone.vantage, alone.verdict) == ("client", "pessimistic")
    assert "includes the network" in note_of(alone)


def test_a_few_marked_spans_do_not_outvote_the_file() -> None:
    stray = requests(2, rate=1)
    stray = replace(stray, minutes=stray.minutes[:3], seconds=stray.seconds[:3], source="synthetic")
    client = replace(requests(3, rate=20), source="synthetic", vantage="client")
    assert only_cell(requests(1), stray, client).vantage == "client"
    assert only_cell(requests(1), stray).vantage == "server"


def test_untested_and_unvisited() -> None:
    untested = only_cell(requests(1))
    assert untested.verdict == "untested"
    document = cell_document("eu", untested)
    assert document["vantage"] is None
    assert document["synthetic"]["requests"] == 0
    assert document["synthetic"]["p50_ms"] is None
    assert document["ratio"] == {"p50": None, "p95": None, "p99": None}
    assert only_cell(replace(requests(1), source="synthetic")).verdict == "unvisited"


def test_too_few_requests_are_inconclusive_and_say_how_many_more() -> None:
    few = requests(2, rate=1)
    few = replace(few, minutes=few.minutes[:40], seconds=few.seconds[:40], source="synthetic")
    cell = only_cell(requests(1), few)
    assert cell.verdict == "inconclusive"
    assert cell.needs is not None
    assert cell.needs.side == "synthetic"
    assert cell.needs.requests is not None
    assert cell.needs.requests >= 32
    assert "not enough synthetic data for an interval of p95" in note_of(cell)
    document = cell_document("eu", cell)
    assert document["needs"]["requests"] == cell.needs.requests
    assert document["synthetic"]["p95_ms"]["value"] > 0
    assert document["synthetic"]["p95_ms"]["low"] is None


def test_windows_take_each_minute_once() -> None:
    whole = frame(requests(1), replace(requests(2, rate=20), source="synthetic"))
    windows = WINDOW.cut(timedelta(minutes=50))
    assert [(w.start.minute, (w.end - w.start).seconds // 60) for w in windows] == [
        (0, 50),
        (50, 50),
        (40, 20),
    ]
    cells = correlate(whole, windows)
    assert [cell.window for cell in cells] == list(windows)
    assert (
        sum(cell.production.requests for cell in cells)
        == whole.filter(pl.col("source") == "real")["requests"].sum()
    )
    assert WINDOW.cut(timedelta(hours=3)) == (WINDOW,)


def test_regions_stand_by_themselves_and_the_order_is_fixed() -> None:
    groups = []
    for i, region in enumerate(("us-east-1", "eu-west-1", "eu-central-1")):
        slow = 2.0 if region == "eu-central-1" else 1.0
        groups += [
            replace(requests(i, median=0.05 * slow), region=region),
            replace(requests(10 + i, rate=20), region=region, source="synthetic"),
        ]
    cells = correlate(frame(*groups), [WINDOW])
    assert [(c.region, c.verdict) for c in cells] == [
        ("eu-central-1", "optimistic"),
        ("eu-west-1", "representative"),
        ("us-east-1", "representative"),
    ]
    again = correlate(frame(*reversed(groups)), [WINDOW])
    assert [cell_document("eu", c) for c in again] == [cell_document("eu", c) for c in cells]


def test_sampled_requests_count_for_what_they_stand_for_but_not_as_evidence() -> None:
    sampled = replace(requests(1, rate=10), weight=20.0)
    cell = only_cell(sampled, replace(requests(2, rate=20), source="synthetic"))
    assert cell.production.requests == len(sampled.minutes)
    assert cell.production.weight == 20 * len(sampled.minutes)
    assert "is sampled" in note_of(cell)


def test_coverage_weighs_requests_and_time() -> None:
    quick = replace(requests(1, rate=30, median=0.01), route="/quick")
    slow = replace(requests(2, rate=10, median=0.1), route="/slow", region="eu-central-1")
    tested = replace(requests(3, rate=5, median=0.01), route="/quick", source="synthetic")
    dead = replace(requests(4, rate=5), route="/dead", source="synthetic")
    cells = correlate(frame(quick, slow, tested, dead), [WINDOW])
    coverage = CorrelationResult("eu", WINDOW, cells).document()["coverage"]
    n, m = len(quick.minutes), len(slow.minutes)
    assert coverage["production_requests"] == n + m
    assert coverage["requests_share"] == round(n / (n + m), 4)
    exact = quick.seconds.sum() / (quick.seconds.sum() + slow.seconds.sum())
    assert abs(coverage["time_share"] - exact) < 0.01
    assert (
        coverage["endpoints_tested"],
        coverage["endpoints_untested"],
        coverage["endpoints_unvisited"],
    ) == (1, 1, 1)
    assert {r["region"]: r["requests_share"] for r in coverage["regions"]} == {
        "eu-central-1": 0.0,
        "eu-west-1": 1.0,
    }


def test_no_traffic_is_no_error() -> None:
    empty = frame(requests(1)).clear()
    document = CorrelationResult("eu", WINDOW, correlate(empty, [WINDOW])).document()
    assert document["cells"] == []
    assert document["coverage"]["requests_share"] is None


def told(requests: int, **milliseconds: float) -> Reported:
    return Reported(
        subject=("eu-west-1", "storefront", "GET", "/"),
        run="r1",
        start=START + timedelta(minutes=5),
        requests=requests,
        failed=1,
        seconds={0.5: milliseconds["p50"] / 1000, 0.95: milliseconds["p95"] / 1000},
    )


def test_percentiles_alone_are_compared_without_an_interval_and_claim_nothing() -> None:
    earlier, later = told(10, p50=5, p95=6), told(5000, p50=25, p95=50)
    (cell,) = correlate(frame(requests(1)), [WINDOW], reported=[earlier, later])
    assert cell.verdict == "inconclusive"
    document = cell_document("eu", cell)
    assert document["synthetic"]["p50_ms"] == {"value": 25.0, "low": None, "high": None}
    assert document["synthetic"]["p99_ms"] is None
    assert document["ratio"]["p50"]["low"] is None
    assert 1.9 < document["ratio"]["p50"]["value"] < 2.1
    assert document["errors"]["synthetic"]["value"] == 0.0002
    assert document["needs"]["requests"] is None
    assert "percentiles only" in document["note"]
    assert "not enough synthetic data" not in document["note"]


def test_percentiles_alone_give_way_to_requests_and_may_stand_without_users() -> None:
    test = replace(requests(2, rate=20), source="synthetic")
    (cell,) = correlate(frame(requests(1), test), [WINDOW], reported=[told(5000, p50=25, p95=50)])
    assert (cell.verdict, cell.synthetic.reported) == ("representative", False)
    (cell,) = correlate(frame(requests(1)).clear(), [WINDOW], reported=[told(5, p50=25, p95=50)])
    assert cell.verdict == "unvisited"
    before = [Window(START - timedelta(hours=2), START)]
    assert correlate(frame(requests(1)), before, reported=[told(5, p50=25, p95=50)]) == ()

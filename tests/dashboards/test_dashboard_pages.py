"""Each page against a real store with rows that a reader can check by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from mobius_analysis.cells import load_cells
from mobius_analysis.endpoint_detail import load_detail
from mobius_analysis.rollup import Only, Window
from mobius_dashboards import formatters, markup
from mobius_dashboards.pages.comparison import pattern_rows
from mobius_instrumentation.zones import Zone
from mobius_pipeline.migrate import migrate
from mobius_pipeline.options import format_time
from mobius_pipeline.store import Purpose, connect
from tests.dashboards.page import APP
from tests.dashboards.sample_rows import fill

pytestmark = pytest.mark.store

MINUTES = 60


@dataclass(frozen=True)
class Shop:
    zones: tuple[Zone, ...]
    since: datetime
    traces: list[str]

    @property
    def window(self) -> dict[str, str]:
        return {
            "since": format_time(self.since),
            "until": format_time(self.since + timedelta(minutes=MINUTES)),
        }


@pytest.fixture(scope="module")
def filled(store_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Two zones, the first of them with an hour of the sample shop; nobody listens where their broker should be."""
    mark = uuid4().hex[:8]
    zones = tuple(
        Zone(f"{name}_{mark}", regions, ("127.0.0.1:9",), store_server, f"rum_{name}_{mark}")
        for name, regions in (("eu", ("eu-west-1", "eu-central-1")), ("us", ("us-east-1",)))
    )
    for zone in zones:
        migrate(zone)
    since = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=MINUTES + 10)
    client = connect(zones[0], Purpose.INGEST)
    traces = fill(client, zones[0].regions, since, MINUTES)
    client.close()
    yield Shop(zones, since, traces)
    client = connect(zones[0], Purpose.MIGRATE, database="default")
    for zone in zones:
        client.command(f"DROP DATABASE {zone.database} SYNC")
    client.close()


@pytest.fixture
def shop(
    filled: Shop, zones_file_factory: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Shop]:
    """The filled zones as the dashboard's, for a viewer of all of them."""
    monkeypatch.setenv("MOBIUS_CONFIG", str(zones_file_factory(*filled.zones)))
    for name in ("MOBIUS_VIEWER", "MOBIUS_VIEWER_ZONES", "MOBIUS_VIEWER_LEVEL"):
        monkeypatch.delenv(name, raising=False)
    st.cache_data.clear()
    yield filled
    st.cache_data.clear()


def page(**params: str) -> AppTest:
    app = AppTest.from_file(APP, default_timeout=60)
    for name, value in params.items():
        app.query_params[name] = value
    return app.run()


def html_of(app: AppTest) -> str:
    assert not app.exception, app.exception
    return "\n".join(element.proto.body for element in app.get("html"))


def test_the_overview_says_what_is_untrue_with_the_numbers_of_correlate(shop: Shop) -> None:
    html = html_of(page(**shop.window))
    client = connect(shop.zones[0], Purpose.ANALYSIS)
    until = shop.since + timedelta(minutes=MINUTES)
    cells = load_cells(client, shop.zones[0], shop.since, until).document()["cells"]
    client.close()
    verdicts = {(cell["region"], cell["route"]): cell["verdict"] for cell in cells}
    assert verdicts["eu-central-1", "/search"] == "optimistic"
    assert verdicts["eu-west-1", "/checkout"] == "pessimistic"
    assert verdicts["eu-west-1", "/orders/{order_id}"] == "untested"
    untrue = sum(verdict in {"optimistic", "pessimistic"} for verdict in verdicts.values())
    assert f"{untrue} of {len(cells)} endpoint-regions: tests do not represent users" in html
    for cell in cells:
        if cell["ratio"]["p95"]:
            exact = " ".join(str(cell["ratio"]["p95"][key]) for key in ("value", "low", "high"))
            assert f'data-exact="{exact}"' in html
            assert formatters.ratio_interval(cell["ratio"]["p95"]) in html
    assert "75 %" in html  # of requests have a test: three of four endpoints, equally used


def test_an_empty_zone_says_what_to_do(shop: Shop) -> None:
    html = html_of(page(zone=shop.zones[1].name))
    assert "No requests in this window" in html
    assert "mobius-rum import spans" in html


@pytest.mark.parametrize(
    ("route", "region", "words"),
    [
        ("/search", "eu-central-1", "as long as the tests say"),
        ("/checkout", "eu-west-1", "too harsh"),
        ("/orders/{order_id}", "eu-west-1", "no test does"),
        ("/nowhere", "eu-west-1", "No requests to"),
    ],
)
def test_the_endpoint_page_explains_its_verdict(
    shop: Shop, route: str, region: str, words: str
) -> None:
    app = page(page="endpoint", route=route, region=region, **shop.window)
    assert words in html_of(app)


def test_the_endpoint_page_draws_and_links_to_traces(shop: Shop) -> None:
    app = page(page="endpoint", method="GET", route="/search", region="eu-central-1", **shop.window)
    html = html_of(app)
    assert len(app.get("vega_lite_chart")) == 6
    assert "eu-west-1" in html  # the other region, to compare with
    assert "run-1" in html
    assert html.count("page=trace") == 8  # p50, p95, p99 and slowest, of users and of tests


def test_the_endpoint_page_shows_what_explain_says_with_its_numbers(shop: Shop) -> None:
    app = page(page="endpoint", method="GET", route="/search", region="eu-central-1", **shop.window)
    html = html_of(app)
    client = connect(shop.zones[0], Purpose.ANALYSIS)
    window = Window(shop.since, shop.since + timedelta(minutes=MINUTES))
    subject = Only("eu-central-1", "storefront", "GET", "/search")
    document = load_detail(client, shop.zones[0], subject, window)
    client.close()
    assert document["shift"]["where"] == "everywhere"
    assert markup.esc(document["shift"]["text"]) in html
    for name in ("p50", "p95"):
        found = document["explanations"][name]
        assert markup.esc(found["text"]) in html
        for one in found["ranked"][:6]:
            assert markup.exact(one["share"], formatters.percent_interval(one["share"])) in html
    assert document["explanations"]["patterns"]
    for row in pattern_rows(document["explanations"]["patterns"]):
        assert all(cell in html for cell in row)


def test_production_matched_to_the_tests_hours_is_said(shop: Shop) -> None:
    where = {"page": "endpoint", "method": "GET", "route": "/search", "region": "eu-central-1"}
    assert "production matched by hour" in html_of(page(**where, match="hour", **shop.window))
    assert "There is no way to match" in html_of(page(**where, match="moon", **shop.window))


def test_an_endpoint_without_a_region_shows_the_one_to_look_at_first(shop: Shop) -> None:
    html = html_of(page(page="endpoint", method="GET", route="/search", **shop.window))
    assert "storefront in eu-central-1" in html
    assert "the region to look at first of 2" in html


def test_the_trace_page_shows_the_spans_of_a_trace(shop: Shop) -> None:
    html = html_of(page(page="trace", trace=shop.traces[0]))
    assert shop.traces[0] in html
    assert html.count("<details") == 2
    assert "SELECT shop" in html
    assert "db.system.name" in html
    assert "60 %" in html  # the query's part of the critical path


def test_a_trace_that_is_not_here_says_where_else_to_look(shop: Shop) -> None:
    html = html_of(page(page="trace", trace="f" * 32))
    assert "This trace is not here." in html
    assert "This address names no trace." in html_of(page(page="trace"))


def test_a_changed_choice_changes_the_address_and_nothing_else(shop: Shop) -> None:
    app = page(page="endpoint", method="GET", route="/search", **shop.window)
    app.selectbox(key="choose-region").select("eu-west-1").run()
    assert app.query_params["region"] == "eu-west-1"
    assert app.query_params["route"] == "/search"
    assert "storefront in eu-west-1" in html_of(app)
    app.selectbox(key="choose-zone").select(shop.zones[1].name).run()
    assert "region" not in app.query_params  # that region is of another zone
    app.button_group(key="choose-window").set_value("6h").run()
    assert app.query_params["since"] == "6h"
    assert "until" not in app.query_params


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"zone": "mars"}, "not yours to see"),
        ({"page": "<script>alert(1)</script>"}, "There is no page"),
        ({"since": "yesterday"}, "is no time"),
        ({"since": "400d"}, "at most 31"),
        ({"trace": "zz", "page": "trace"}, "32 hexadecimal"),
        ({"region": "'; DROP TABLE spans; --"}, "No requests"),
        ({"environment": "<img src=x onerror=alert(1)>"}, "No requests"),
        ({"page": "endpoint", "route": "<script>alert(1)</script>"}, "No requests to"),
        ({"service": "x" * 5000}, "longer than"),
    ],
)
def test_a_hostile_address_gets_a_sentence(shop: Shop, params: dict[str, str], words: str) -> None:
    html = html_of(page(**params))
    assert words in html
    assert "<script>alert" not in html
    assert "<img" not in html


def test_a_viewer_of_one_zone_never_sees_the_other(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    eu, us = shop.zones
    assert "/search" in html_of(page(**shop.window))  # the cache is warm for a viewer of both
    monkeypatch.setenv("MOBIUS_VIEWER_ZONES", us.name)
    for params in (
        {"zone": eu.name},
        {"region": "eu-west-1"},
        {"page": "endpoint", "route": "/search", "zone": eu.name},
        {"page": "trace", "trace": shop.traces[0], "zone": eu.name},
        {"page": "trace", "trace": shop.traces[0]},
        {},
    ):
        html = html_of(page(**params, **shop.window))
        assert "storefront" not in html
        assert "SELECT shop" not in html
    assert f"Hidden from you: {eu.name}" in html_of(page())


def test_a_viewer_of_aggregates_sees_no_single_request(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOBIUS_VIEWER_LEVEL", "aggregates")
    endpoint = html_of(page(page="endpoint", route="/search", **shop.window))
    assert "Single requests are hidden from you." in endpoint
    assert "page=trace" not in endpoint
    assert "From the rollup alone" in endpoint
    trace = html_of(page(page="trace", trace=shop.traces[0]))
    assert "not yours to see" in trace
    assert "SELECT shop" not in trace


def test_a_store_that_is_away_hides_its_own_zone_only(
    shop: Shop, zones_file_factory: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    eu, us = shop.zones
    away = Zone(us.name, us.regions, us.kafka, "http://127.0.0.1:9", us.database)
    monkeypatch.setenv("MOBIUS_CONFIG", str(zones_file_factory(eu, away)))
    html = html_of(page(**shop.window))
    assert "A store is away" in html
    assert "mobius-rum up" in html
    assert "tests do not represent users" in html


def test_findings_are_told_with_their_evidence(shop: Shop) -> None:
    side = {"p95_ms": {"value": 80, "low": 78, "high": 82}}
    evidence: dict[str, Any] = {
        "release": {
            "version": "<1.5.0>",
            "previous": "1.4.0",
            "first_seen": "2026-11-23T12:00:00Z",
        },
        "quantiles": ["p95"],
        "direction": "slower",
        "production": {"before": side, "after": side, "ratio": {"p95": side["p95_ms"]}},
    }
    from mobius_analysis.findings import Finding, save_findings

    client = connect(shop.zones[0], Purpose.INGEST)
    finding = Finding(
        "blind_spot", "eu-west-1", "storefront", "GET", "/search", "critical", shop.since,
        "GET /search in eu-west-1 got slower with <1.5.0>", evidence, anchor="1.5.0",
    )  # fmt: skip
    save_findings(client, [finding], datetime.now(UTC))
    client.close()
    html = html_of(page(**shop.window))
    assert "got slower with &lt;1.5.0&gt;, the tests did not notice" in html
    assert "users p95 80.0 ms → 80.0 ms" in html
    assert "Blind spot: GET /search" in html

"""Who sees aggregates alone is shown nothing of cells that too few people are behind."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from mobius_analysis.cells import CorrelationResult, load_cells
from mobius_analysis.findings import Finding, save_findings
from mobius_dashboards import queries
from mobius_dashboards.queries.people import CellKey, hide_small, load_people
from mobius_dashboards.state import State, Window
from mobius_dashboards.theme import LIGHT
from mobius_dashboards.view import View
from mobius_dashboards.viewer import ForbiddenError, Viewer
from mobius_instrumentation.zones import Zone, Zones
from mobius_pipeline.options import format_time
from mobius_pipeline.store import Purpose, connect
from tests.conftest import ZoneFactory
from tests.dashboards.page import APP, ROWS_AND_CELLS, whole

pytestmark = pytest.mark.store

REGION = "eu-west-1"
LEAST = 12
HOUR = timedelta(hours=1)
# Requests of users, the people who made them (0: nobody knows), requests of tests; requests of nobody knows whom in the
# hour before.
CELLS = {
    "/many": (240, 12, 60, 0),
    "/few-people": (240, 11, 60, 0),
    "/many-requests": (240, 0, 60, 0),
    "/few-requests": (6, 0, 60, 5),
    "/few-more-before": (240, 3, 60, 11),
    "/many-before": (240, 3, 60, 12),
    "/tests-only": (0, 0, 60, 0),
}
SMALL = {"/few-people", "/few-requests", "/few-more-before"}
_COLUMNS = [
    "start", "duration_ns", "trace_id", "span_id", "name", "kind", "region", "service", "version",
    "environment", "method", "route", "http_status", "source", "test_run", "weight", "attributes",
]  # fmt: skip


@pytest.fixture
def since() -> datetime:
    """An hour that is over: people are counted by the hour."""
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - HOUR


@pytest.fixture
def zone(zone_factory: ZoneFactory, since: datetime) -> Zone:
    st.cache_data.clear()
    made = zone_factory(topics=False)
    client = connect(made, Purpose.INGEST)
    rows = []
    for route, (users, people, tests, earlier) in CELLS.items():
        for number in range(-earlier, users + tests):
            real = number < users
            known = number >= 0 and real and people
            name = {"enduser.pseudo.id": f"{number % people:032x}"} if known else {}
            # The first 30 minutes have ten times as many as the last.
            minute = number % 30 if number % 11 else 30 + number % 29
            start = since + timedelta(hours=-(number < 0), minutes=minute, milliseconds=abs(number))
            rows.append((
                start, 40_000_000 + 100_000 * abs(number), os.urandom(16), os.urandom(8), f"GET {route}",
                "Server", REGION, "shop", "0.9" if 0 <= number < 11 else "1.0", "production", "GET", route, 200,
                "real" if real else "synthetic", "" if real else "nightly", 1.0, name,
            ))  # fmt: skip
    client.insert("span_rows", rows, column_names=_COLUMNS)
    found = [
        Finding("blind_spot", REGION, "shop", "GET", route, "critical", since, f"{route} is slow", {"n": 1})
        for route in CELLS
    ]  # fmt: skip
    save_findings(client, found, datetime.now(UTC))
    client.close()
    return made


@pytest.fixture
def page(
    zone: Zone,
    since: datetime,
    zones_file_factory: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., str]:
    file = zones_file_factory(zone)
    policy = f"\nleast_subjects = {LEAST}\n{ROWS_AND_CELLS.format(zone=zone.name)}"
    file.write_text(file.read_text(encoding="utf-8") + policy, encoding="utf-8")
    monkeypatch.setenv("MOBIUS_CONFIG", str(file))

    def look(viewer: str, **address: str) -> str:
        monkeypatch.setenv("MOBIUS_VIEWER", viewer)
        app = AppTest.from_file(APP, default_timeout=60)
        window = {"since": since - HOUR, "until": since + HOUR}
        for name, value in address.items():
            app.query_params[name] = value
        for name, at in window.items():
            app.query_params[name] = format_time(at)
        return whole(app.run())

    return look


def result_of(zone: Zone, since: datetime) -> tuple[CorrelationResult, dict[CellKey, int]]:
    client = connect(zone, Purpose.ANALYSIS)
    result = load_cells(client, zone, since - HOUR, since + HOUR)
    people = load_people(client, result, "production")
    client.close()
    return result, people


def test_people_are_counted_where_they_are_known_and_requests_elsewhere(
    zone: Zone, since: datetime
) -> None:
    result, people = result_of(zone, since)
    assert {route: count for (*_, route), count in people.items()} == {
        "/many": 12,
        "/few-people": 11,
        "/many-requests": 240,
        "/few-requests": 11,
        "/few-more-before": 11,
        "/many-before": 12,
    }
    for least, small in ((2, set()), (11, set()), (12, SMALL), (241, {*CELLS} - {"/tests-only"})):
        shown = hide_small(result, people, least)
        assert {cell.route for cell in shown.result.cells} == {*CELLS} - small
        assert shown.hidden == len(small)
    matched = replace(result, unmatched=result.cells)
    left = hide_small(matched, people, 12).result.unmatched
    assert {cell.route for cell in left} == {*CELLS} - SMALL
    # Pseudonyms of an hour may be of requests outside of the window: no cell has more people than requests.
    crowd = dict.fromkeys(people, 10_000)
    shown = hide_small(result, crowd, 12)
    assert {*CELLS} - {cell.route for cell in shown.result.cells} == {"/few-requests"}


def test_the_pages_of_who_sees_aggregates_leave_small_cells_out(page: Callable[..., str]) -> None:
    everything = page("ana")  # and the caches hold it
    for route in CELLS:
        assert f"{route} is slow" in everything
    text = page("ben")
    for route in CELLS:
        assert (route in text) is (route not in SMALL), route
    assert "3 endpoint-regions have too few people to be shown" in text
    assert "cells of at least 12 people" in text
    assert "too few people" not in everything


def test_an_address_of_a_small_cell_shows_nothing_of_it(page: Callable[..., str]) -> None:
    for route in ("/few-people", "/few-requests"):
        address = {"page": "endpoint", "method": "GET", "route": route}
        assert f"{route} is slow" in page("ana", **address)
        text = page("ben", **address)
        assert f"No requests to GET {route} in this window" in text
        assert "Or too few people use it" in text
        assert f"{route} is slow" not in text
        assert "nightly" not in text  # the run that requested it


def test_each_query_of_an_endpoint_asks_by_itself(zone: Zone, since: datetime) -> None:
    viewer = Viewer("ben", ((zone.name, "aggregates"),), least=((zone.name, LEAST),))
    view = View(
        viewer=viewer,
        zones=Zones({zone.name: zone}, None, "zones.toml"),
        state=State(),
        window=Window(since - HOUR, since + HOUR),
        scope=(zone,),
        colours=LIGHT,
        now=datetime.now(UTC),
    )
    few = queries.Subject(REGION, "shop", "GET", "/few-people", "", "server")
    for read in (queries.shapes, queries.runs, queries.detail):
        with pytest.raises(ForbiddenError, match="cells of fewer than 12 people"):
            read(view, zone, few)
    many = replace(few, route="/many")
    rows = replace(view, viewer=Viewer("ana", ((zone.name, "spans"),)))
    users, everybody = (
        [each for each in queries.shapes(of, zone, many).series if each["source"] == "Production"]
        for of in (view, rows)
    )
    assert 0 < len(users) < len(everybody)  # bins of few requests are no points
    versions, all_versions = (
        [
            each["value"]
            for segment in queries.detail(of, zone, many)["segments"]
            if segment["dimension"] == "version"
            for each in segment["values"]
        ]
        for of in (view, rows)
    )
    assert (versions, all_versions) == (["1.0"], ["1.0", "0.9"])

"""The residency page: its numbers are the command's, and each viewer gets those of their level."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import streamlit as st
import typer
from streamlit.testing.v1 import AppTest
from typer.testing import CliRunner

from mobius_instrumentation.zones import Zone
from mobius_pipeline.residency.commands import register
from mobius_pipeline.store import Purpose, connect
from tests.conftest import ZoneFactory
from tests.dashboards.page import APP, ROWS_AND_CELLS

pytestmark = pytest.mark.store

POLICY = f'\n[hub]\nclickhouse = "http://127.0.0.1:9"\n{ROWS_AND_CELLS}'


@pytest.fixture
def zone(
    zone_factory: ZoneFactory,
    zones_file_factory: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Zone:
    st.cache_data.clear()
    made = zone_factory(topics=False)
    other = Zone("elsewhere", ("us-east-1",), ("127.0.0.1:9",), "http://127.0.0.1:9", "rum_us")
    file = zones_file_factory(made, other)
    file.write_text(
        file.read_text(encoding="utf-8") + POLICY.format(zone=made.name), encoding="utf-8"
    )
    monkeypatch.setenv("MOBIUS_CONFIG", str(file))
    return made


def fill_books(zone: Zone) -> None:
    client = connect(zone, Purpose.INGEST)
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)
    # hour, at, least, by, sent cells and totals, cells, small, totals, small, beside
    client.insert(
        "hub_exports",
        [
            [hour, hour, 50, "requests", 40, 11, 47, 7, 15, 3, 1],
            [hour + timedelta(hours=1), hour, 50, "requests", 60, 13, 1_060, 1_000, 17, 2, 2],
        ],
    )
    names = [
        "reason",
        "region",
        "service",
        "spans",
        "topic",
        "partition",
        "offset",
        "payload",
        "at",
    ]
    for region, spans in (("us-east-1", 17), ("eu-wset-1", 23), ("", 31)):
        reason = "region is not of this zone" if region else "region is missing"
        client.insert("quarantine", [[reason, region, "shop", spans, "t", 0, 0, "", hour]], names)
    for remover, spans, attributes in (
        ("service", 3, 9),
        ("service", 1_200, 2_400),
        ("zone", 7, 77),
    ):
        client.insert(
            "removed_attributes",
            [["eu-west-1", "checkout", remover, spans, attributes]],
            ["region", "service", "remover", "spans", "attributes"],
        )
    client.insert(
        "audit_log",
        [[hour, uuid4(), "carla", "examples", "{}", reason] for reason in ("", "an incident")],
        ["at", "id", "viewer", "action", "rows", "reason"],
    )
    client.close()


def page(viewer: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MOBIUS_VIEWER", viewer)
    app = AppTest.from_file(APP, default_timeout=60)
    app.query_params["page"] = "residency"
    app.run()
    assert not app.exception, app.exception
    return "\n".join(str(each.proto.body) for each in app.get("html"))


def status(zone: Zone) -> dict[str, Any]:
    app = typer.Typer()
    register(app)
    done = CliRunner().invoke(app, ["status", "--zone", zone.name, "--json"])
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)["zones"][zone.name]
    return found


def test_the_numbers_are_the_commands(zone: Zone, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_books(zone)
    text = page("ana", monkeypatch)
    told = status(zone)
    sent = sum(h["sent_cells"] + h["sent_totals"] for h in told["exported_hours"])
    assert sent == 124
    assert "124 sums of many requests went to the hub, 1,015 were held back" in text
    for number in ("100", "1,007", "24", "5", "3"):  # cells, too small, totals, too small, beside
        assert f'<td class="num">{number}</td>' in text
    assert "10.9" in text or "11 %" in text  # the share that crossed
    # What arrived here and belongs to the other zone, and what belongs to none.
    assert '<td class="num">17 quarantined</td>' in text
    assert '<td class="num">54 quarantined</td>' in text
    assert {(each["region"], each["spans"]) for each in told["quarantined"]} == {
        ("us-east-1", 17),
        ("eu-wset-1", 23),
        ("", 31),
    }
    checkout = {"region": "eu-west-1", "service": "checkout"}
    assert told["removed"] == [
        {**checkout, "remover": "service", "spans": 1_203, "attributes": 2_409},
        {**checkout, "remover": "zone", "spans": 7, "attributes": 77},
    ]
    assert '<td class="">service</td><td class="num">2,409</td><td class="num">1,203</td>' in text
    assert '<td class="">zone</td><td class="num">77</td><td class="num">7</td>' in text
    (read,) = told["reads"]
    assert (read["viewer"], read["reads"], read["with_reason"]) == ("carla", 2, 1)
    assert "carla" in text
    assert "elsewhere" in text  # that there is such a zone is no secret
    assert "us-east-1" in text  # of a quarantined span, which this viewer may see


def test_a_viewer_of_aggregates_sees_neither_quarantine_nor_who_read(
    zone: Zone, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_books(zone)
    page("ana", monkeypatch)  # fills the caches
    text = page("ben", monkeypatch)
    assert "124 sums of many requests went to the hub" in text
    assert "aggregates<br><small>cells of 11 people or more</small>" in text
    assert '<td class="num">2,409</td><td class="num">1,203</td>' in text
    for secret in ("carla", "eu-wset-1", "us-east-1", "17 quarantined", "54 quarantined"):
        assert secret not in text
    assert "not yours" in text


def test_a_zone_without_books_says_so(zone: Zone, monkeypatch: pytest.MonkeyPatch) -> None:
    text = page("ana", monkeypatch)
    assert "No span crossed a border" in text
    assert f"mobius-rum residency export --zone {zone.name}" in text
    assert "Nothing was quarantined" in text
    assert "No span of this window lacks an attribute" in text
    assert "Nobody read single requests" in text
    found = status(zone)
    assert found == {"exported_hours": [], "quarantined": [], "removed": [], "reads": []}

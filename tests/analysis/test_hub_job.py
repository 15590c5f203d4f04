"""The export on real stores: what lies in the hub afterwards, once, and what stays in the zone."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from mobius_analysis.hub_commands import register
from mobius_analysis.hub_job import ExportedHour, export_zone
from mobius_analysis.testing import insert_rollup, rollup_rows
from mobius_pipeline.errors import DependencyError
from mobius_pipeline.residency.policy import PolicyError, ToHub
from tests.analysis.conftest import Shop
from tests.analysis.hub_store import (
    HOUR,
    HubStore,
    hub_of,
    insert_subjects,
    policy_file,
    requests,
)

pytestmark = pytest.mark.store

NOW = HOUR + timedelta(hours=2)
EU, CENTRAL = "eu-west-1", "eu-central-1"


@pytest.fixture
def hub(store_server: str) -> Iterator[HubStore]:
    with hub_of(store_server) as made:
        yield made


@pytest.fixture
def zone(empty: Shop) -> Shop:
    """Two versions in two regions, of which one cell is small; and an endpoint of a single visitor."""
    rows = [
        requests(900, route="/a", region=EU, version="1"),
        requests(900, route="/a", region=EU, version="2"),
        requests(900, route="/a", region=CENTRAL, version="1"),
        requests(7, route="/a", region=CENTRAL, version="2"),
        requests(1, route="/secret", region=EU),
    ]
    insert_rollup(empty.client, rollup_rows(rows))
    return empty


def run(zone: Shop, hub: HubStore, **rules: Any) -> tuple[ExportedHour, ...]:
    return export_zone(zone.zone, hub.hub, ToHub(**rules), since=HOUR - timedelta(hours=3), now=NOW)


def content(hub: HubStore) -> list[str]:
    """Everything of the hub, as texts."""
    tables = ("SELECT * EXCEPT exported_at FROM exports", "SELECT * FROM latency_hour")
    return sorted(str(row) for sql in tables for row in hub.client.query(sql).result_rows)


def told(hub: HubStore, kind: str) -> set[tuple[Any, ...]]:
    rows = hub.client.query(
        "SELECT region, version, requests FROM latency_hour WHERE kind = {kind:String} AND zone != ''",
        parameters={"kind": kind},
    ).result_rows
    return {tuple(row) for row in rows}


def test_large_cells_cross_and_small_ones_stay_with_what_gives_them_away(
    zone: Shop, hub: HubStore
) -> None:
    (done,) = run(zone, hub)
    assert told(hub, "cell") == {(EU, "1", 900), (EU, "2", 900), (CENTRAL, "1", 900)}
    assert told(hub, "total") == {(EU, None, 1_800), (None, "1", 1_800)}
    assert (done.hour, done.counted_by) == (HOUR, "requests")
    assert (done.sent_cells, done.sent_totals) == (3, 2)
    assert (done.account.cells, done.account.small_cells) == (5, 2)
    ((buckets, errors, route),) = hub.client.query(
        "SELECT buckets, errors, route FROM latency_hour WHERE region = 'eu-west-1' AND version = '2'"
    ).result_rows
    assert sum(buckets.values()) == 900
    assert buckets[min(buckets)] >= 5
    assert buckets[max(buckets)] >= 5
    assert (errors, route) == (0, "/a")
    kept = zone.client.query("SELECT small_cells, counted_by FROM hub_exports").result_rows
    assert kept == [(2, "requests")]


def test_people_are_counted_where_they_are_known(zone: Shop, hub: HubStore) -> None:
    """Two cells of 900 requests: one of three people, one of sixty; another of nobody known."""
    insert_subjects(zone.client, 3, region=EU, route="/a", version="1")
    insert_subjects(zone.client, 60, region=EU, route="/a", version="2")
    (done,) = run(zone, hub)
    assert done.counted_by == "both"
    assert (EU, "1", 900) not in told(hub, "cell")
    assert {(EU, "2", 900), (CENTRAL, "1", 900)} <= told(hub, "cell")
    assert hub.client.query("SELECT counted_by FROM exports").result_rows == [("both",)]
    names = hub.client.query(
        "SELECT name FROM system.columns WHERE database = currentDatabase()"
    ).result_columns[0]
    assert not [name for name in names if name == "subjects"]


def test_an_hour_is_exported_once_whatever_comes_later(zone: Shop, hub: HubStore) -> None:
    run(zone, hub)
    before = content(hub)
    insert_rollup(zone.client, rollup_rows([requests(60, route="/a", region=EU, version="1")]))
    assert run(zone, hub) == ()
    # As after a crash between the hub and the zone: the hub's answer stands.
    zone.client.command("TRUNCATE TABLE hub_exports")
    (again,) = run(zone, hub)
    assert (again.sent_cells, again.sent_totals) == (3, 2)
    assert content(hub) == before


def test_exports_at_once_do_not_double(zone: Shop, hub: HubStore) -> None:
    start = threading.Barrier(4)
    done: list[tuple[ExportedHour, ...]] = []

    def work() -> None:
        start.wait()
        done.append(run(zone, hub))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(done) == 4
    counts = "SELECT countIf(kind = 'cell'), countIf(kind = 'total') FROM latency_hour"
    assert hub.client.query(counts).result_rows == [(3, 2)]
    assert hub.client.command("SELECT count() FROM exports") == 1
    assert zone.client.command("SELECT count() FROM hub_exports") == 1


def test_an_hour_that_may_still_grow_waits(zone: Shop, hub: HubStore) -> None:
    rules = ToHub()
    early = HOUR + timedelta(minutes=119)
    assert export_zone(zone.zone, hub.hub, rules, since=HOUR, now=early) == ()
    after = HOUR + timedelta(minutes=1)  # half an hour at the begin is none
    assert export_zone(zone.zone, hub.hub, rules, since=after, now=NOW) == ()
    assert len(export_zone(zone.zone, hub.hub, rules, since=HOUR, now=NOW)) == 1


@pytest.mark.parametrize(
    ("columns", "cells"),
    [
        (("minute", "route"), {(None, None, 2_707)}),
        (("minute", "route", "region"), {(EU, None, 1_800), (CENTRAL, None, 907)}),
    ],
)
def test_columns_that_may_not_cross_are_added_up(
    zone: Shop, hub: HubStore, columns: tuple[str, ...], cells: set[tuple[Any, ...]]
) -> None:
    run(zone, hub, columns=columns)
    assert told(hub, "cell") == cells
    rows = hub.client.query("SELECT DISTINCT service, source FROM latency_hour").result_rows
    assert rows == [(None, None)]


def test_the_command_obeys_the_policy(zone: Shop, hub: HubStore, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command("other")(lambda: None)
    register(app)

    def command(file: Path) -> Any:
        times = ("--since", "2026-03-01T00:00:00Z")
        return CliRunner().invoke(
            app, ["residency", "export", "--config", str(file), *times, "--json"]
        )

    name = zone.zone.name
    assert json.loads(command(policy_file(tmp_path, zone.zone, None)).stdout)["hub"] is None
    none = f'[zones.{name}.to_hub]\ntables = ["findings"]'
    out = json.loads(command(policy_file(tmp_path, zone.zone, hub.hub, none)).stdout)
    assert out["zones"] == {name: []}
    wrong = f"[zones.{name}.to_hub]\nleast_subjects = 5"
    refused = command(policy_file(tmp_path, zone.zone, hub.hub, wrong))
    assert isinstance(refused.exception, PolicyError)
    assert hub.client.command("SELECT count() FROM exports") == 0
    more = f"[zones.{name}.to_hub]\nleast_subjects = 901"
    out = json.loads(command(policy_file(tmp_path, zone.zone, hub.hub, more)).stdout)
    ((hour,),) = out["zones"].values()
    assert (hour["hour"], hour["sent_cells"]) == ("2026-03-01T07:00:00Z", 0)
    assert told(hub, "cell") == set()


def test_a_hub_that_is_away_leaves_the_hour_for_later(zone: Shop, hub: HubStore) -> None:
    away = replace(hub, hub=replace(hub.hub, clickhouse="http://127.0.0.1:1"))
    with pytest.raises(DependencyError, match="hub"):
        run(zone, away)
    assert len(run(zone, hub)) == 1

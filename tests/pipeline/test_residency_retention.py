"""Retention is carried out by the engine: what is too old goes, the rest stays, and asking again changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from clickhouse_connect.driver.client import Client
from typer.testing import CliRunner

from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import TerminalError
from mobius_pipeline.residency.commands import register
from mobius_pipeline.store import Purpose, connect
from tests.conftest import ZoneFactory

pytestmark = pytest.mark.store

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def zone(zone_factory: ZoneFactory) -> Zone:
    return zone_factory(topics=False)


@pytest.fixture
def client(zone: Zone) -> Iterator[Client]:
    made = connect(zone, Purpose.MIGRATE)
    yield made
    made.close()


@pytest.fixture
def run(zone: Zone, zones_file_factory: Callable[..., Path]) -> Callable[..., dict[str, Any]]:
    app = typer.Typer()
    register(app)

    def invoke(retention: str, *arguments: str) -> dict[str, Any]:
        file = zones_file_factory(zone)
        rules = f"[zones.{zone.name}.retention]\n{retention}\n"
        file.write_text(file.read_text(encoding="utf-8") + rules, encoding="utf-8")
        done = CliRunner().invoke(app, ["apply", "--config", str(file), "--json", *arguments])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        tables = json.loads(done.stdout)["zones"][zone.name]
        return {each["table"]: each for each in tables}

    return invoke


def fill(client: Client, ages: tuple[int, ...]) -> None:
    """A row of each table for each age in days."""
    for age in ages:
        at = NOW - timedelta(days=age)
        client.insert(
            "latency_minute", [[at.replace(second=0), "/a", 7]], ["minute", "route", "requests"]
        )
        client.insert("quarantine", [["why", 1, at]], ["reason", "spans", "at"])
        client.insert("spans", [[at, b"\1" * 16, b"\2" * 8]], ["start", "trace_id", "span_id"])
        client.insert("trace_times", [["ab", at.date(), at, at]])
        client.insert("hub_exports", [[at, at]], ["hour", "exported_at"])


def left(client: Client, table: str) -> int:
    client.command(f"OPTIMIZE TABLE {table} FINAL")
    return int(client.query(f"SELECT count() FROM {table}").result_rows[0][0])


def test_what_is_too_old_goes_and_the_rest_stays(
    client: Client, run: Callable[..., dict[str, Any]]
) -> None:
    fill(client, (1, 20, 400))
    told = run("spans = 10\njoined_spans = 10\nsynthetic_results = 10\nlatency_minute = 100")
    assert (told["spans"]["declared_days"], told["spans"]["store_days"]) == (10, None)
    assert told["quarantine"]["statement"] is None
    fill(client, (2, 30))
    assert {t: left(client, t) for t in ("spans", "trace_times", "quarantine", "hub_exports")} == {
        "spans": 2,
        "trace_times": 2,
        "quarantine": 5,
        "hub_exports": 5,  # for ever: an hour must not be exported twice
    }
    assert left(client, "latency_minute") == 4
    assert client.query("SELECT sum(requests) FROM latency_minute").result_rows == [(28,)]


def test_asking_again_changes_nothing_and_another_policy_replaces_it(
    client: Client, run: Callable[..., dict[str, Any]]
) -> None:
    first = run("quarantine = 30", "--dry-run")["quarantine"]
    assert "MODIFY TTL toDateTime(`at`) + toIntervalDay(30)" in first["statement"]
    assert run("quarantine = 30", "--dry-run")["quarantine"] == first  # nothing was run
    run("quarantine = 30")
    assert run("quarantine = 30")["quarantine"] == {
        "table": "quarantine", "declared_days": 30, "store_days": 30, "foreign": None, "statement": None,
    }  # fmt: skip
    assert run("quarantine = 40")["quarantine"]["store_days"] == 30
    assert "REMOVE TTL" in run("spans = 9")["quarantine"]["statement"]
    assert run("spans = 9")["quarantine"]["store_days"] is None
    fill(client, (400,))
    assert left(client, "quarantine") == 1


def test_a_ttl_of_somebody_else_is_named_and_stays(
    client: Client, run: Callable[..., dict[str, Any]]
) -> None:
    client.command("ALTER TABLE dead_letters MODIFY TTL toDate(at) + toIntervalMonth(3)")
    assert "toIntervalMonth(3)" in run("quarantine = 30")["dead_letters"]["foreign"]
    with pytest.raises(TerminalError, match=r"dead_letters.* has a TTL that is not of this policy"):
        run("quarantine = 50\ndead_letters = 30")
    assert run("quarantine = 30")["quarantine"]["store_days"] == 30  # not 50: nothing was changed

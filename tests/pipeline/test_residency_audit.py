from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import DependencyError
from mobius_pipeline.residency.audit import (
    LONGEST_REASON,
    Action,
    ReasonError,
    RowRead,
    load_reads,
    record_read,
)
from mobius_pipeline.residency.commands import register
from mobius_pipeline.store import Purpose, connect
from tests.conftest import ZoneFactory

pytestmark = pytest.mark.store

AWAY = Zone("eu", ("eu-west-1",), ("127.0.0.1:9",), "http://127.0.0.1:9", "rum_eu")


def a_read(viewer: str = "ana", reason: str = "", action: Action = "trace") -> RowRead:
    return RowRead(viewer, "u-1", action, {"trace": "0" * 32}, reason)


@pytest.mark.parametrize("reason", ["", "  ", "two\nlines", "\x1b[31m", "x" * (LONGEST_REASON + 1)])
def test_a_reason_is_a_line_of_text(reason: str) -> None:
    with pytest.raises(ReasonError):
        record_read(AWAY, a_read(reason=reason), reason_needed=True)


def test_a_store_that_is_away_is_an_error_and_not_a_gap() -> None:
    with pytest.raises(DependencyError):
        record_read(AWAY, a_read(), reason_needed=False)


def test_reads_are_listed_by_the_stores_clock_and_equal_ones_are_kept_apart(
    zone_factory: ZoneFactory, zones_file_factory: Callable[..., Path]
) -> None:
    zone = zone_factory(topics=False)
    for read in (a_read(reason=" ticket 42 "), a_read(), a_read(), a_read("bo", action="examples")):
        record_read(zone, read, reason_needed=False)
    now = datetime.now(UTC)
    found = load_reads(zone, now - timedelta(minutes=5), now + timedelta(minutes=5))
    assert sorted((each.viewer, each.reason or "", each.action) for each in found) == [
        ("ana", "", "trace"),
        ("ana", "", "trace"),
        ("ana", "ticket 42", "trace"),
        ("bo", "", "examples"),
    ]
    assert load_reads(zone, now + timedelta(minutes=5), now + timedelta(minutes=6)) == ()
    app = typer.Typer()
    register(app)
    config = ["--config", str(zones_file_factory(zone))]
    answer = CliRunner().invoke(app, ["audit", "--json", "--viewer", "bo", *config])
    assert answer.exit_code == 0, answer.output
    [read] = json.loads(answer.stdout)["reads"]
    assert read["at"].endswith("Z")
    del read["at"]
    assert read == {
        "zone": zone.name,
        "viewer": "bo",
        "subject": "u-1",
        "action": "examples",
        "rows": {"trace": "0" * 32},
        "reason": None,
    }
    text = CliRunner().invoke(app, ["audit", "--zone", zone.name, *config]).stdout
    assert f"{zone.name}  ana (u-1)  trace trace={'0' * 32}: ticket 42\n" in text
    assert text.endswith("4 reads\n")


def test_a_zone_that_was_not_migrated_says_so(zone_factory: ZoneFactory) -> None:
    zone = zone_factory(topics=False)
    client = connect(zone, Purpose.MIGRATE)
    client.command("DROP TABLE audit_log")
    client.close()
    with pytest.raises(DependencyError, match="mobius-rum migrate"):
        record_read(zone, a_read(), reason_needed=False)

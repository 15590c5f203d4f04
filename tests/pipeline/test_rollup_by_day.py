"""The rollup gets a partition a day: nothing is lost, nothing counted twice, wherever it is cut off."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import TerminalError
from mobius_pipeline.migrate import migrate
from mobius_pipeline.migration_files import Target, load_migrations
from mobius_pipeline.store import Purpose, connect
from tests.conftest import ZoneFactory

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

pytestmark = pytest.mark.store

[FILE] = [file for file in load_migrations("zone") if file.name == "rollup_by_day"]
SUMS = (
    "SELECT minute, toString(route), toString(test_run), correction, sum(requests), sum(weight), sumMap(buckets) "
    "FROM latency_minute GROUP BY ALL ORDER BY ALL"
)
NOW = datetime.now(UTC).replace(microsecond=0)


def before(zone: Zone) -> Client:
    """Take the zone's store back to the version before, with rows of 40 days in one table of monthly partitions."""
    client = connect(zone, Purpose.MIGRATE)
    client.command("DELETE FROM schema_migrations WHERE version = {v:UInt32}", {"v": FILE.version})
    made = str(client.command("SHOW CREATE TABLE latency_minute")).replace("\\n", "\n")
    monthly = made.replace("\\'", "'").replace("toYYYYMMDD(minute)", "toYYYYMM(minute)")
    assert monthly != made.replace("\\'", "'")
    client.command("DROP TABLE latency_minute SYNC")
    client.command(monthly)
    for day in range(40):
        insert_span(client, NOW - timedelta(days=day))
    return client


def insert_span(client: Client, start: datetime, token: str = "") -> None:
    """Insert a server span where the bytes path does."""
    client.command(
        "INSERT INTO span_rows (problem, start, duration_ns, trace_id, span_id, kind, service, method, route, weight) "
        "SELECT '', {start:DateTime64(9, 'UTC')}, 5000000, unhex({trace:String}), unhex('0102030405060708'), 'Server', 's', "
        "'GET', '/r', 1",
        {"start": start, "trace": os.urandom(16).hex()},
        settings={
            "insert_deduplication_token": token or uuid4().hex,
            "deduplicate_blocks_in_dependent_materialized_views": 1,
        },
    )


def days(client: Client) -> int:
    return int(
        str(
            client.command(
                "SELECT uniqExact(partition) FROM system.parts "
                "WHERE active AND database = currentDatabase() AND table = 'latency_minute'"
            )
        )
    )


def test_every_row_goes_over_wherever_it_is_cut_off(zone_factory: ZoneFactory) -> None:
    zone = zone_factory(topics=False)
    client = before(zone)
    expected = client.query(SUMS).result_rows
    assert len(expected) == 40
    assert days(client) < 4
    statements = FILE.render(Target(zone.database))
    for cut in range(1, len(statements)):
        for statement in statements[:cut]:
            client.command(statement)
        assert client.query(SUMS).result_rows == expected, statements[cut - 1]
    assert [step.name for step in migrate(zone).steps] == [FILE.name]
    assert client.query(SUMS).result_rows == expected
    assert days(client) == 40
    insert_span(client, NOW, token="t")
    insert_span(client, NOW, token="t")
    assert sum(row[4] for row in client.query(SUMS).result_rows) == 41
    left = client.query("SELECT name FROM system.tables WHERE database = currentDatabase()")
    assert not [name for (name,) in left.result_rows if "by_day" in name]


def test_nothing_is_lost_of_what_comes_while_it_is_copied(zone_factory: ZoneFactory) -> None:
    zone = zone_factory(topics=False)
    client = before(zone)
    statements = FILE.render(Target(zone.database))
    exchange = next(n for n, text in enumerate(statements) if "EXCHANGE" in text.split("\n")[-1])
    for statement in statements[: exchange - 1]:
        client.command(statement)
    insert_span(client, NOW)
    with pytest.raises(DatabaseError, match="changed while it was copied"):
        client.command(statements[exchange - 1])
    for statement in statements[: exchange - 1]:
        client.command(statement)
    insert_span(client, NOW)
    client.command(statements[exchange])  # the writer came between the look and the exchange
    with pytest.raises(DatabaseError, match="EXCHANGE TABLES"):
        client.command(statements[exchange + 1])
    with pytest.raises(TerminalError, match="EXCHANGE TABLES"):
        migrate(zone)
    client.command("EXCHANGE TABLES latency_minute AND latency_minute_by_day")
    migrate(zone)
    assert sum(row[4] for row in client.query(SUMS).result_rows) == 42


def test_two_migrations_at_once_lose_nothing(zone_factory: ZoneFactory) -> None:
    """The worst order: one makes the empty table anew between the other's last look and its exchange."""
    zone = zone_factory(topics=False)
    client = before(zone)
    statements = FILE.render(Target(zone.database))
    exchange = next(n for n, text in enumerate(statements) if "EXCHANGE" in text.split("\n")[-1])
    copy = next(n for n, text in enumerate(statements) if "INSERT INTO" in text)
    for statement in statements[:exchange]:
        client.command(statement)
    for statement in statements[:copy]:
        client.command(statement)
    client.command(statements[exchange])
    with pytest.raises(DatabaseError, match="EXCHANGE TABLES"):
        client.command(statements[exchange + 1])
    for _ in range(2):
        with pytest.raises(TerminalError, match="EXCHANGE TABLES"):
            migrate(zone)
    client.command("EXCHANGE TABLES latency_minute AND latency_minute_by_day")
    migrate(zone)
    assert sum(row[4] for row in client.query(SUMS).result_rows) == 40


def test_a_worker_that_runs_and_a_range_that_is_unfinished_are_in_the_way(
    zone_factory: ZoneFactory,
) -> None:
    zone = zone_factory(topics=False)
    client = before(zone)
    topic, names = uuid4(), ["topic_id", "writer", "name", "state", "seconds"]
    client.insert("ingest_workers", [[topic, "w", "", "here", 30.0]], names)
    with pytest.raises(TerminalError, match="stop them"):
        migrate(zone)
    client.insert("ingest_workers", [[topic, "w", "", "gone", 30.0]], names)
    ranges = [
        "topic",
        "topic_id",
        "partition",
        "first_offset",
        "last_offset",
        "state",
        "writer",
        "spans",
    ]
    for first, state in ((0, "intent"), (0, "done"), (10, "intent")):
        row = ["t", topic, 0, first, first + 9, state, "w", 1]
        token = {"insert_deduplication_token": f"{first}{state}"}
        client.insert("ingest_ledger", [row], ranges, settings=token)
    with pytest.raises(TerminalError, match="cut off within a range"):
        migrate(zone)
    assert days(client) < 4
    row = ["t", topic, 0, 10, 19, "done", "w", 1]
    client.insert("ingest_ledger", [row], ranges, settings={"insert_deduplication_token": "last"})
    migrate(zone)
    assert days(client) == 40


def test_rows_of_an_import_that_was_cut_off_do_not_go_over(zone_factory: ZoneFactory) -> None:
    zone = zone_factory(topics=False)
    client = before(zone)
    digests = {"whole": "a" * 64, "cut": "b" * 64}
    for run, digest in digests.items():
        client.insert(
            "synthetic_imports",
            [[digest, "w", f'{{"run": "{run}"}}']],
            ["digest", "writer", "settings"],
            settings={"insert_deduplication_token": digest},
        )
        insert_result(client, run)
    client.insert(
        "synthetic_runs", [["whole", digests["whole"], "{}"]], ["run", "digest", "summary"]
    )
    migrate(zone)
    runs = [row[2] for row in client.query(SUMS).result_rows if row[2]]
    assert runs == ["whole"]
    insert_result(client, "cut")  # the import is repeated: a block that the results know already
    after = client.query(SUMS).result_rows
    assert sorted((row[2], row[4]) for row in after if row[2]) == [("cut", 1), ("whole", 1)]
    assert client.command("SELECT count() FROM synthetic_results") == 2


def insert_result(client: Client, run: str) -> None:
    client.insert(
        "synthetic_results",
        [[run, NOW, 5.0, 1, "GET", "/r", 200]],
        ["run", "start", "duration_ms", "requests", "method", "route", "status"],
        settings={
            "insert_deduplication_token": f"synthetic/{run}/0",
            "deduplicate_blocks_in_dependent_materialized_views": 1,
        },
    )

"""The schema: applied once, remembered, never changed behind one's back."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobius_instrumentation.zones import Hub, Zone
from mobius_pipeline.errors import TerminalError
from mobius_pipeline.migrate import migrate
from mobius_pipeline.migration_files import Target, load_migrations, parse_migration
from mobius_pipeline.store import Purpose, connect
from tests.conftest import ZoneFactory


@pytest.mark.store
def test_again_is_nothing_and_each_version_is_remembered_once(zone_factory: ZoneFactory) -> None:
    zone = zone_factory(topics=False)
    again = migrate(zone)
    assert again.steps == ()
    assert again.version == len(load_migrations("zone"))
    client = connect(zone, Purpose.ANALYSIS)
    rows = client.query(
        "SELECT version, name, checksum, finished IS NOT NULL FROM schema_migrations FINAL ORDER BY version"
    )
    assert rows.result_rows == [
        (m.version, m.name, m.checksum, True) for m in load_migrations("zone")
    ]


@pytest.mark.store
def test_dry_run_changes_nothing(zone_factory: ZoneFactory, store_server: str) -> None:
    made = zone_factory(topics=False)
    fresh = Zone("dry", ("eu-west-1",), ("127.0.0.1:1",), store_server, f"{made.database}_dry")
    report = migrate(fresh, dry_run=True)
    assert [step.version for step in report.steps] == [m.version for m in load_migrations("zone")]
    assert not any(step.applied for step in report.steps)
    assert all(step.statements for step in report.steps)
    client = connect(made, Purpose.ANALYSIS)
    assert (
        client.command(
            "SELECT count() FROM system.databases WHERE name = {d:String}", {"d": fresh.database}
        )
        == 0
    )


@pytest.mark.store
def test_cut_off_migration_is_applied_again(zone_factory: ZoneFactory) -> None:
    zone = zone_factory(topics=False)
    client = connect(zone, Purpose.MIGRATE)
    last = load_migrations("zone")[-1]
    client.command(
        "DELETE FROM schema_migrations WHERE version = {v:UInt32} AND finished IS NOT NULL",
        {"v": last.version},
    )
    assert [step.version for step in migrate(zone).steps] == [last.version]


@pytest.mark.store
def test_changed_file_is_refused(zone_factory: ZoneFactory) -> None:
    zone = zone_factory(topics=False)
    client = connect(zone, Purpose.MIGRATE)
    client.command(
        "INSERT INTO schema_migrations SELECT version, name, 'other', now64(3), now64(3) FROM schema_migrations WHERE version = 2"
    )
    with pytest.raises(TerminalError, match=r"0002_spans was applied .* with other content"):
        migrate(zone)


@pytest.mark.store
def test_store_of_a_newer_version_is_refused(zone_factory: ZoneFactory) -> None:
    zone = zone_factory(topics=False)
    connect(zone, Purpose.MIGRATE).command(
        "INSERT INTO schema_migrations VALUES (9999, 'future', 'x', now64(3), now64(3))"
    )
    with pytest.raises(TerminalError, match="9999"):
        migrate(zone)


@pytest.mark.store
def test_hub_is_migrated(zone_factory: ZoneFactory, store_server: str) -> None:
    database = f"{zone_factory(topics=False).database}_hub"
    hub = Hub(store_server, database)
    assert migrate(hub).version == len(load_migrations("hub"))
    client = connect(hub, Purpose.MIGRATE)
    assert client.command("SELECT count() FROM latency_hour WHERE zone = 'eu'") == 0
    client.command(f"DROP DATABASE {database}")


@pytest.mark.parametrize(
    "statement", ["DROP TABLE a", "truncate table a", "ALTER TABLE a DELETE WHERE 1"]
)
def test_dangerous_statement_needs_a_reason(statement: str) -> None:
    with pytest.raises(TerminalError, match="can lose data"):
        parse_migration("0007_x.sql", f"{statement};".encode())
    assert (
        parse_migration("0007_x.sql", f"-- dangerous: a is empty\n{statement};".encode()).version
        == 7
    )


def test_danger_in_comments_and_texts_is_none() -> None:
    parse_migration("0007_x.sql", b"-- DROP would lose data\nSELECT 'TRUNCATE it', `drop`;")


def test_name_without_a_number_is_refused() -> None:
    with pytest.raises(TerminalError, match="0007_what_it_adds"):
        parse_migration("spans.sql", b"SELECT 1;")


@pytest.mark.parametrize("kind", ["zone", "hub"])
def test_replicated_form(kind: str) -> None:
    for migration in load_migrations("zone" if kind == "zone" else "hub"):
        for statement in migration.render(Target("rum_eu", "main")):
            # Rows that one replica copies reach the others by themselves; what is in the way, each of them knows.
            of_one = "INSERT INTO" in statement or "SELECT throwIf(" in statement
            assert ("ON CLUSTER `main`" in statement) != of_one
            assert "non_replicated" not in statement
            if "MergeTree" in statement:
                assert "ENGINE = Replicated" in statement
            assert "${" not in statement


def test_statements_are_cut_at_their_ends_only() -> None:
    text = b"-- a; b\nSELECT ';', `x;y` /* ; */;\n\n-- only a comment;\nSELECT 2"
    (one, two) = parse_migration("0001_x.sql", text).render(Target("d"))
    assert one.endswith("`x;y` /* ; */")
    assert two.endswith("SELECT 2")


def test_files_are_packed_with_the_module() -> None:
    import mobius_pipeline

    folder = Path(mobius_pipeline.__file__).parent / "migrations"
    assert len(list(folder.glob("*/*.sql"))) == len(load_migrations("zone")) + len(
        load_migrations("hub")
    )

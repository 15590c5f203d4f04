"""Brings a store's schema up to date: applies numbered SQL files in order and remembers which.

A file's statements all say ``IF NOT EXISTS``, so a migration that was cut off is simply applied again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from clickhouse_connect.driver.exceptions import ClickHouseError

from mobius_instrumentation.zones import Hub, Zone
from mobius_pipeline.errors import TerminalError
from mobius_pipeline.failpoints import reach
from mobius_pipeline.migration_files import Kind, Migration, Target, load_migrations
from mobius_pipeline.store import Purpose, connect

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["MigrationReport", "Step", "migrate"]

_STATUS_COLUMNS: Final = {
    "version": "UInt32",
    "name": "String",
    "checksum": "String",
    "started": "DateTime64(3, 'UTC')",
    "finished": "Nullable(DateTime64(3, 'UTC'))",
}
_STATUS_TABLE: Final = """
CREATE TABLE IF NOT EXISTS `{database}`.schema_migrations {on_cluster} (
    {columns}
) ENGINE = {replicated}ReplacingMergeTree
ORDER BY (version, started)
"""


@dataclass(frozen=True, slots=True)
class Step:
    """One migration of a report. ``statements`` are those that were (or, dry, would be) run."""

    version: int
    name: str
    applied: bool
    statements: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """What a run did to one store: the steps it took, and the version that the schema has now."""

    store: str
    database: str
    version: int
    steps: tuple[Step, ...]


def _now() -> datetime:
    return datetime.now(UTC)


def migrate(
    zone: Zone | Hub,
    *,
    dry_run: bool = False,
    cluster: str | None = None,
    clock: Callable[[], datetime] = _now,
) -> MigrationReport:
    """Apply what the store of ``zone`` lacks; nothing when it lacks nothing.

    1. Make the database and its status table.
    2. Compare the files with what was applied.
    3. Apply each missing file: status row, statements, status row.

    Parameters
    ----------
    dry_run
        Change nothing; the report's steps say what would be run.
    cluster
        Render the replicated form, ON CLUSTER; None for one store that stands alone.

    Raises
    ------
    DependencyError
        The store does not answer.
    TerminalError
        An applied file has changed since, the store is newer than these files, or the engine refuses a statement.
    """
    kind: Kind = "hub" if isinstance(zone, Hub) else "zone"
    target = Target(zone.database, cluster)
    files = load_migrations(kind)
    client = connect(zone, Purpose.MIGRATE, database="default")
    try:
        if not dry_run:  # 1
            _run(
                client,
                f"CREATE DATABASE IF NOT EXISTS `{target.database}` {target.on_cluster}",
                "database",
            )
            _run(client, _render_status(target), "schema_migrations")
        applied = _applied(client, target)  # 2
        missing = _missing(files, applied, zone.name)
        steps = []
        for file in missing:  # 3
            statements = file.render(target)
            if not dry_run:
                _apply(client, target, file, statements, clock)
            steps.append(Step(file.version, file.name, not dry_run, statements))
        version = len(files) if not dry_run else len(applied)
        return MigrationReport(zone.name, zone.database, version, tuple(steps))
    finally:
        client.close()


def _render_status(target: Target) -> str:
    replicated = "Replicated" if target.cluster else ""
    return _STATUS_TABLE.format(
        columns=", ".join(f"{name} {kind}" for name, kind in _STATUS_COLUMNS.items()),
        database=target.database,
        on_cluster=target.on_cluster,
        replicated=replicated,
    )


def _applied(client: Client, target: Target) -> dict[int, str]:
    """Checksums of finished migrations by version."""
    there = client.query(
        "SELECT count() FROM system.tables WHERE database = {database:String} AND name = 'schema_migrations'",
        parameters={"database": target.database},
    )
    if not there.result_rows[0][0]:
        return {}
    rows = client.query(
        f"SELECT version, argMax(checksum, started) FROM `{target.database}`.schema_migrations "  # noqa: S608 - the name comes from zones.toml, which allows letters only
        "WHERE finished IS NOT NULL GROUP BY version ORDER BY version"
    )
    return {int(version): str(checksum) for version, checksum in rows.result_rows}


def _missing(files: tuple[Migration, ...], applied: dict[int, str], store: str) -> list[Migration]:
    if newer := sorted(set(applied) - {file.version for file in files}):
        raise TerminalError(
            f"the store of {store} has migration {newer[-1]:04}, which this version does not know: use a newer mobius-rum"
        )
    for file in files:
        if applied.get(file.version, file.checksum) != file.checksum:
            raise TerminalError(
                f"migration {file.version:04}_{file.name} was applied to the store of {store} with other content: "
                "an applied migration never changes; add a new one instead"
            )
    return [file for file in files if file.version not in applied]


def _apply(
    client: Client,
    target: Target,
    file: Migration,
    statements: tuple[str, ...],
    clock: Callable[[], datetime],
) -> None:
    table = f"`{target.database}`.schema_migrations"
    started = clock()

    def note(finished: datetime | None) -> None:
        row = [file.version, file.name, file.checksum, started, finished]
        # With its types, or the client asks for them each time.
        client.insert(
            table, [row], [*_STATUS_COLUMNS], column_type_names=[*_STATUS_COLUMNS.values()]
        )

    note(None)
    for statement in statements:
        _run(client, statement, f"{file.version:04}_{file.name}")
        reach("during_migration")
    note(clock())  # replaces the row above: same version and start, written later


def _run(client: Client, statement: str, what: str) -> None:
    try:
        client.command(statement)
    except ClickHouseError as error:
        raise TerminalError(f"migration {what}: {str(error).strip()[:1000]}") from error

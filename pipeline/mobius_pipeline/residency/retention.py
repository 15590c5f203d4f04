"""Carries out the retention of ``zones.toml``: the engine itself removes rows that are too old, by the tables' TTL.

What is declared and what a store does are compared and made equal; asking again changes nothing. Only what this module
set is ever taken away: a TTL of somebody else's making is named, and stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mobius_pipeline.errors import TerminalError
from mobius_pipeline.residency.tables import TIME_COLUMNS

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from mobius_pipeline.migration_files import Target

__all__ = ["Kept", "apply_retention", "load_retention"]

# Rows that belong to another table's, and go with them: table, its column, and whose days it has.
_WITH: Final = {"trace_times": ("last", "spans")}
_OWN: Final = re.compile(r"toDateTime\(`?(\w+)`?\) \+ toIntervalDay\((\d+)\)")
_TTL: Final = re.compile(r"\bTTL (.+?)(?= SETTINGS |$)", re.DOTALL)
_TABLES: Final = "SELECT name, engine_full FROM system.tables WHERE database = {database:String} AND name IN {names:Array(String)}"


@dataclass(frozen=True, slots=True)
class Kept:
    """How long a table's rows stay: days that the policy declares, and that the store keeps; None for ever.

    ``foreign`` is a TTL in the store that the policy cannot have made; ``statement`` what makes both equal, None where
    they are.
    """

    table: str
    declared_days: int | None
    store_days: int | None
    foreign: str | None
    statement: str | None


def load_retention(
    client: Client, target: Target, declared: Mapping[str, int | None]
) -> tuple[Kept, ...]:
    """Compare the declared days, by table, with the store's; tables that the store lacks are left out."""
    wanted = dict(_wanted(declared))
    rows = client.query(
        _TABLES, parameters={"database": target.database, "names": sorted(wanted)}
    ).result_rows
    return tuple(
        _compare(str(name), *wanted[name], str(engine), target)
        for name, engine in sorted(rows, key=lambda row: str(row[0]))
    )


def apply_retention(
    client: Client, target: Target, declared: Mapping[str, int | None]
) -> tuple[Kept, ...]:
    """Have the store keep what is declared; returns what it was before, with what was run.

    Rows that are too old go with the next merge of their part, which the engine begins at once and goes on with by itself.

    Raises
    ------
    TerminalError
        A table has a TTL of somebody else's making; nothing was changed then.
    """
    found = load_retention(client, target, declared)
    for each in found:
        if each.foreign and each.declared_days is not None:
            raise TerminalError(
                f"table {each.table} of {target.database} has a TTL that is not of this policy ({each.foreign}): "
                f"remove it (ALTER TABLE {each.table} REMOVE TTL), or take the table out of the zone's retention"
            )
    for each in found:
        if each.statement:
            client.command(each.statement)
    return found


def _wanted(declared: Mapping[str, int | None]) -> Iterator[tuple[str, tuple[str, int | None]]]:
    for table, column in TIME_COLUMNS.items():
        yield table, (column, declared.get(table))
    for table, (column, other) in _WITH.items():
        yield table, (column, declared.get(other))


def _compare(table: str, column: str, days: int | None, engine: str, target: Target) -> Kept:
    ttl = _TTL.search(engine)
    text = ttl[1].strip() if ttl else ""
    own = _OWN.fullmatch(text)
    there = int(own[2]) if own and own[1] == column else None
    foreign = text if text and there is None else None
    alter = f"ALTER TABLE `{target.database}`.`{table}` {target.on_cluster}".rstrip()
    statement = None
    if foreign is None and days != there:
        rule = f"MODIFY TTL toDateTime(`{column}`) + toIntervalDay({days})"
        statement = f"{alter} {'REMOVE TTL' if days is None else rule}"
    return Kept(table, days, there, foreign, statement)

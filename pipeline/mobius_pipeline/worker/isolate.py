"""Finds the messages of a refused insert that the engine cannot read, without storing any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from clickhouse_connect.driver.exceptions import DatabaseError

from mobius_pipeline.faults import Fault, clickhouse_fault
from mobius_pipeline.wire import INSERT_SETTINGS, TABLE, envelope

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["find_refused", "is_poison", "reason_of"]

_MOST_REASON: Final = 300


def is_poison(error: DatabaseError) -> bool:
    """Whether the engine refuses the bytes themselves."""
    return clickhouse_fault(error.code) is Fault.POISON


def reason_of(error: DatabaseError) -> str:
    """First line of the engine's reason, for a dead letter."""
    return f"the store cannot read it: {(str(error).splitlines() or [''])[0]}"[:_MOST_REASON]


def find_refused(client: Client, messages: Sequence[tuple[bytes, int, int]]) -> dict[int, str]:
    """Reason by offset, for those of the (message, partition, offset) triples that the engine cannot read.

    Reads into the table function ``null`` with the structure of the real table: the format is read as it is there,
    and no view follows. Halves what is refused, so k of n messages cost about 2 k log2 n requests.

    Raises
    ------
    DatabaseError
        The engine refuses for another reason than the bytes.
    """
    columns = client.query(
        "SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = {table:String} "
        "ORDER BY position",
        parameters={"table": TABLE},
    ).result_rows
    structure = ", ".join(f"`{name}` {kind}" for name, kind in columns)
    escaped = structure.replace("\\", "\\\\").replace("'", "\\'")
    return _search(client, f"FUNCTION null('{escaped}')", messages)


def _search(
    client: Client, target: str, messages: Sequence[tuple[bytes, int, int]]
) -> dict[int, str]:
    if not messages:
        return {}
    try:
        client.raw_insert(
            target, insert_block=envelope(messages), fmt="Protobuf", settings=INSERT_SETTINGS
        )
    except DatabaseError as error:
        if not is_poison(error):
            raise
        if len(messages) == 1:
            return {messages[0][2]: reason_of(error)}
        middle = len(messages) // 2
        return _search(client, target, messages[:middle]) | _search(
            client, target, messages[middle:]
        )
    return {}

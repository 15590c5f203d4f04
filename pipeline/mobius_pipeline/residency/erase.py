"""Removes one trace, or all of one person, from a zone's store, and counts what is there before and after.

What adds up many requests stays as it is (the rollup, test runs' summaries): nobody can be told from it. The audit of
who read which rows stays too; it is no copy of them. The topics cannot be erased from: messages go with their retention.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["SUBJECT", "Erased", "Target", "erase", "find_target", "parse_trace"]

SUBJECT: Final = "enduser.pseudo.id"
"""The attribute that names a person."""

_TRACES_AT_ONCE: Final = 200
_NOBODY: Final = "0" * 32

_BY_TRACE: Final = {
    "spans": "hex(trace_id) IN {ids:Array(String)}",
    "trace_times": "upper(trace_id) IN {ids:Array(String)}",
    "joined_spans": "hex(trace_id) IN {ids:Array(String)}",
    "synthetic_results": "upper(trace_id) IN {ids:Array(String)} OR upper(named_trace_id) IN {ids:Array(String)}",
    # A message in protobuf holds the bytes, what the store refused of one the text.
    "quarantine": "multiSearchAny(payload, arrayMap(id -> unhex(id), {ids:Array(String)})) "
    "OR multiSearchAnyCaseInsensitive(payload, {ids:Array(String)})",
    "dead_letters": "multiSearchAnyCaseInsensitive(reason, {ids:Array(String)})",
}
_TEXTS: Final = {"findings": "evidence", "correlations": "cell"}
"""Aggregates that may name a trace as an example: the name is taken out, the row stays."""

_BY_SUBJECT: Final = {
    "spans": "attributes[{key:String}] = {subject:String} OR resource_attributes[{key:String}] = {subject:String} "
    "OR arrayExists(e -> e[{key:String}] = {subject:String}, `events.attributes`) "
    "OR arrayExists(l -> l[{key:String}] = {subject:String}, `links.attributes`)",
    # As the pair stands in a message; a text alone could be part of another.
    "quarantine": "position(payload, unhex({pair:String})) > 0",
}


@dataclass(frozen=True, slots=True)
class Target:
    """What to erase: ``traces`` as upper-case hexadecimal, and the person they are of, where it is one's."""

    traces: tuple[str, ...]
    subject: str | None = None

    @property
    def needles(self) -> tuple[bytes, ...]:
        """Byte strings that a file holds which holds any of it."""
        ids = [text for id_ in self.traces for text in _writings(id_)]
        return (*ids, *([self.subject.encode()] if self.subject else []))


@dataclass(frozen=True, slots=True)
class Erased:
    """Rows of one table that hold the target, before and after."""

    table: str
    before: int
    after: int


def parse_trace(text: str) -> str:
    """Read a trace id of 32 hexadecimal digits.

    Raises
    ------
    ValueError
        It is none.
    """
    if (
        len(text) != len(_NOBODY)
        or len(bytes.fromhex(text)) != len(_NOBODY) // 2
        or text == _NOBODY
    ):
        raise ValueError(text)
    return text.upper()


def find_target(client: Client, subject: str) -> Target:
    """Find the traces of a person: the other spans of a request are theirs, too."""
    rows = client.query(
        f"SELECT DISTINCT hex(trace_id) AS id FROM spans WHERE {_BY_SUBJECT['spans']} ORDER BY id",  # noqa: S608 - a constant
        parameters=_person(subject),
    ).result_rows
    return Target(tuple(str(id_) for (id_,) in rows), subject)


def erase(client: Client, target: Target, *, dry_run: bool = False) -> tuple[Erased, ...]:
    """Remove ``target`` from all tables of the zone, waiting for every replica; with ``dry_run`` only count.

    Spans that a worker stores later are not erased: do it again when the topic's retention is over.
    """
    done = []
    for table, conditions in _conditions(target).items():
        before = _count(client, table, conditions)
        if before and not dry_run:
            for condition, parameters in conditions:
                client.command(
                    f"{_change(table, condition)} SETTINGS mutations_sync = 2",
                    parameters=parameters,
                )
        done.append(Erased(table, before, _count(client, table, conditions)))
    return tuple(done)


_Condition = tuple[str, dict[str, object]]


def _conditions(target: Target) -> Mapping[str, Sequence[_Condition]]:
    tables: dict[str, list[_Condition]] = {table: [] for table in (*_BY_TRACE, *_TEXTS)}
    for ids in _chunks(target.traces):
        for table, condition in _BY_TRACE.items():
            tables[table].append((condition, {"ids": ids}))
        for table, column in _TEXTS.items():
            condition = f"multiSearchAnyCaseInsensitive({column}, {{ids:Array(String)}})"
            tables[table].append((condition, {"ids": ids}))
    if target.subject is not None:
        for table, condition in _BY_SUBJECT.items():
            tables[table].append((condition, _person(target.subject)))
    return tables


def _change(table: str, condition: str) -> str:
    if (column := _TEXTS.get(table)) is None:
        return f"ALTER TABLE {table} DELETE WHERE {condition}"
    gone = f"arrayFold((text, id) -> replaceRegexpAll(text, concat('(?i)', id), '{_NOBODY}'), {{ids:Array(String)}}, {column})"
    return f"ALTER TABLE {table} UPDATE {column} = {gone} WHERE {condition}"


def _count(client: Client, table: str, conditions: Sequence[_Condition]) -> int:
    """Rows that any condition holds for; a row of two chunks counts twice."""
    return sum(
        int(
            client.query(
                f"SELECT count() FROM {table} WHERE {condition}",  # noqa: S608 - constants of this module
                parameters=parameters,
            ).result_rows[0][0]
        )
        for condition, parameters in conditions
    )


def _chunks(traces: Sequence[str]) -> Iterator[list[str]]:
    for first in range(0, len(traces), _TRACES_AT_ONCE):
        yield list(traces[first : first + _TRACES_AT_ONCE])


def _writings(trace: str) -> tuple[bytes, ...]:
    return trace.encode(), trace.lower().encode(), bytes.fromhex(trace)


def _person(subject: str) -> dict[str, object]:
    value = _field(1, subject.encode())
    pair = _field(1, SUBJECT.encode()) + _field(2, value)
    return {"key": SUBJECT, "subject": subject, "pair": pair.hex()}


def _field(number: int, content: bytes) -> bytes:
    """Write a length-delimited field of protobuf."""
    size, rest = bytearray(), len(content)
    while rest > 0x7F:
        size.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([number << 3 | 2, *size, rest]) + content

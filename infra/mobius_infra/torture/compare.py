"""Holds the store against the truth: each span by its identity, each number of the rollup, each diverted record."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from mobius_infra.torture.rollup import Cell, Key, Rollup, difference
from mobius_infra.torture.truth import Place, Truth

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

K = TypeVar("K")

__all__ = ["Stored", "Verdict", "compare", "read_store"]

# Without what a join corrected, which is not of the topic (docs/trace-join.md).
_ROLLUP: Final = (
    "SELECT toUnixTimestamp(minute), region, service, version, environment, method, route, status_class, "
    "toString(source), toString(vantage), test_run, "
    "sum(requests), sum(errors), sum(weight), sum(weight_squared), sum(error_weight), "
    "sumMap(buckets), sumMap(buckets_squared) FROM latency_minute WHERE correction = 0 GROUP BY ALL"
)


@dataclass(slots=True)
class Stored:
    """What the store holds, in the form of :class:`Truth`."""

    spans: dict[Place, array[int]] = field(default_factory=dict)
    rollup: Rollup = field(default_factory=dict)
    dead: Counter[Place] = field(default_factory=Counter)
    quarantined: Counter[tuple[Place, str, int]] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        """Rows of spans."""
        return sum(map(len, self.spans.values()))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong; all 0 and empty where nothing is. The lists say what a person needs to find the cause.

    Attributes
    ----------
    lost, duplicated
        Spans missing, and spans too many (more often than in the topic, or under another record's position).
    rollup_error
        Sum of absolute differences of all numbers of all rows.
    dead_letters_wrong, quarantine_wrong
        Diverted records that are missing, or there more than once, or were to be stored.
    """

    lost: tuple[tuple[Place, int], ...]
    duplicated: tuple[tuple[Place, int], ...]
    rollup_error: float
    rollup_lines: tuple[str, ...]
    dead_letters_wrong: tuple[str, ...]
    quarantine_wrong: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Nothing is wrong."""
        return not (
            self.lost
            or self.duplicated
            or self.rollup_error
            or self.dead_letters_wrong
            or self.quarantine_wrong
        )


def read_store(client: Client) -> Stored:
    """Read all that the zone's store holds."""
    stored = Stored()
    for partition, offset, numbers in client.query(
        "SELECT kafka_partition, kafka_offset, "
        "groupArray(bitAnd(reinterpretAsUInt64(reverse(span_id)), 281474976710655)) "
        "FROM spans GROUP BY kafka_partition, kafka_offset"
    ).result_rows:
        stored.spans[partition, offset] = array("Q", numbers)
    for row in client.query(_ROLLUP).result_rows:
        # As many columns as the query names, in its order.
        key: Key = tuple(row[:11])
        values: list[Any] = [*row[11:16], dict(row[16]), dict(row[17])]
        stored.rollup[key] = Cell(*values)
    for partition, offset, count in client.query(
        "SELECT partition, offset, count() FROM dead_letters FINAL GROUP BY partition, offset"
    ).result_rows:
        stored.dead[partition, offset] += count
    for partition, offset, reason, spans, count in client.query(
        "SELECT partition, offset, reason, spans, count() FROM quarantine GROUP BY partition, offset, reason, spans"
    ).result_rows:
        stored.quarantined[(partition, offset), reason, spans] += count
    return stored


def compare(truth: Truth, stored: Stored) -> Verdict:
    """Find every difference. Pure."""
    lost: list[tuple[Place, int]] = []
    duplicated: list[tuple[Place, int]] = []
    for place in sorted(truth.spans.keys() | stored.spans.keys()):
        wanted = Counter(truth.spans.get(place, ()))
        found = Counter(stored.spans.get(place, ()))
        lost += [(place, number) for number in (wanted - found).elements()]
        duplicated += [(place, number) for number in (found - wanted).elements()]
    error, lines = difference(truth.rollup, stored.rollup)
    return Verdict(
        tuple(lost),
        tuple(duplicated),
        error,
        tuple(lines),
        _wrong(Counter(truth.dead), stored.dead),
        _wrong(truth.quarantined, stored.quarantined),
    )


def _wrong(expected: Mapping[K, int], found: Mapping[K, int]) -> tuple[str, ...]:
    return tuple(
        f"{key}: {found.get(key, 0)} instead of {expected.get(key, 0)}"
        for key in expected.keys() | found.keys()
        if expected.get(key, 0) != found.get(key, 0)
    )

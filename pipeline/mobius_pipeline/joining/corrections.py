"""Moves server spans out of production and into a test run, each exactly once, by correction rows in the rollup.

A batch of spans is written in two steps (ADR 14):

1. *Claim.* Its rows go to ``joined_spans`` as one block, under a deduplication token that names the batch's number
   only: a compare-and-swap. Of two writers that want the same number one block stays, and each reads back whose.
2. *Correct.* The same rows, read back, go through ``span_corrections`` into the rollup, a block a day, each under a
   token of its own. The rollup keeps the batch's number, so a day that is not in can be told and is repeated.

The next number is claimed only when all batches before it are in. What is to be moved is computed after that, against
``joined_spans``, so a claim that wins was computed from everything that was ever moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mobius_pipeline.errors import DependencyError
from mobius_pipeline.failpoints import reach
from mobius_pipeline.joining.load import IDS_OF_SLICE, Slice

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["BATCH_SPANS", "Corrections", "Row", "Standing", "moved_rows", "unmoved_rows"]

Row = tuple[Any, ...]
"""A server span as ``joined_spans`` has it: ``IDENTITY`` and ``REQUEST`` columns in their order."""

BATCH_SPANS: Final = 5_000
"""Spans of one batch at most: few enough that client and engine keep them one block, and a part."""

# The engine refuses what comes later; above the client's time-out, so that nothing is refused that could be answered.
_FENCE_MS: Final = 45_000
_IDENTITY: Final = ("trace_id", "span_id", "kafka_partition", "kafka_offset")
_REQUEST: Final = (
    "minute", "region", "service", "version", "environment", "method", "route", "status_class",
    "source", "test_run", "failed", "weight", "bucket",
)  # fmt: skip
_TYPES: Final = {
    "batch": "UInt64", "writer": "LowCardinality(String)", "sign": "Int8", "adds": "UInt8", "run": "LowCardinality(String)",
    "trace_id": "FixedString(16)", "span_id": "FixedString(8)", "kafka_partition": "UInt32", "kafka_offset": "UInt64",
    "minute": "DateTime('UTC')", "region": "LowCardinality(String)", "service": "LowCardinality(String)",
    "version": "LowCardinality(String)", "environment": "LowCardinality(String)", "method": "LowCardinality(String)",
    "route": "LowCardinality(String)", "status_class": "LowCardinality(String)",
    "source": "Enum8('real' = 0, 'synthetic' = 1, 'suspected' = 2)", "test_run": "LowCardinality(String)",
    "failed": "UInt8", "weight": "Float64", "bucket": "Int16", "not_after": "UInt64",
}  # fmt: skip
_COLUMNS: Final = ", ".join((*_IDENTITY, *_REQUEST))

# Copies of a span that are in the rollup as production, less those that were moved already.
_UNMOVED: Final = f"""
SELECT {_COLUMNS}, sum(copies) AS missing
FROM (
    SELECT {_COLUMNS}, 1 AS copies FROM server_requests AS r
    WHERE r.start >= {{since:DateTime64(9, 'UTC')}} AND r.start < {{until:DateTime64(9, 'UTC')}}
      AND r.source != 'synthetic' AND r.trace_id IN ({IDS_OF_SLICE})
    UNION ALL
    SELECT {_COLUMNS}, -toInt64(sign) AS copies FROM joined_spans AS j WHERE j.trace_id IN ({IDS_OF_SLICE})
)
GROUP BY {_COLUMNS}
HAVING missing > 0
"""  # noqa: S608 -- constants only
_MOVED: Final = f"""
SELECT {_COLUMNS}, sum(sign) AS moved FROM joined_spans WHERE run = {{run:String}}
GROUP BY {_COLUMNS} HAVING moved > 0 LIMIT {BATCH_SPANS}
"""  # noqa: S608 -- constants only
_DAYS: Final = """
SELECT DISTINCT toYYYYMMDD(minute) AS day FROM joined_spans WHERE batch = {batch:UInt64}
  AND day NOT IN (SELECT toYYYYMMDD(minute) FROM latency_minute WHERE correction = {batch:UInt64})
ORDER BY day
"""


def unmoved_rows(client: Client, slice_: Slice) -> list[Row]:
    """Return the server spans of a slice's traces that the rollup counts as production, a row a copy.

    Rows end with their span's identity first: ``row[0]`` is the trace id, 16 bytes.
    """
    rows = client.query(
        _UNMOVED, parameters=slice_.parameters, query_formats={"FixedString": "bytes"}
    ).result_rows
    return [tuple(row[:-1]) for row in rows for _ in range(int(row[-1]))]


def moved_rows(client: Client, run: str) -> list[Row]:
    """Return spans that were moved to ``run`` and not back, one batch of them at most."""
    rows = client.query(
        _MOVED, parameters={"run": run}, query_formats={"FixedString": "bytes"}
    ).result_rows
    return [tuple(row[:-1]) for row in rows for _ in range(int(row[-1]))][:BATCH_SPANS]


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the chain stands: its last batch, which is in, and until when the next may be claimed by what is read now.

    ``until_ms`` is milliseconds since 1970 by the engine's clock.
    """

    batch: int
    until_ms: int


class Corrections:
    """The chain of batches as one writer sees it."""

    def __init__(self, client: Client, writer: str) -> None:
        """``writer`` is unlike that of any other process."""
        self._client = client
        self._writer = writer

    def settle(self) -> Standing:
        """Bring the last batch into the rollup, if whoever claimed it did not; return where the chain stands.

        Raises
        ------
        DependencyError
            This replica has not all batches yet.
        """
        now, last, known = self._client.query(
            "SELECT toUnixTimestamp64Milli(now64(3)), max(batch), uniqExact(batch) FROM joined_spans"
        ).result_rows[0]
        if last != known:
            raise DependencyError(
                "a replica of the store",
                str(getattr(self._client, "uri", "")),
                reason=f"it has {known} of {last} batches of corrections",
                remedy="it is behind the others; run the same command again",
            )
        if last:
            self._correct(int(last), int(now) + _FENCE_MS)
        return Standing(int(last), int(now) + _FENCE_MS)

    def append(
        self, after: Standing, run: str, rows: Sequence[Row], *, sign: int = 1, adds: bool = True
    ) -> bool:
        """Move ``rows`` to ``run`` (``sign`` -1: back) as the next batch; False where another writer's came first.

        ``adds`` False takes them out of production only.
        ``rows`` were computed after :meth:`settle` returned ``after``; at most ``BATCH_SPANS``.

        Raises
        ------
        DatabaseError
            With code 469 (a constraint): it came too late, and nothing was written, or only the claim.
        """
        batch = after.batch + 1
        reach("before_join_claim")
        self._insert(
            "joined_spans",
            f"join/{batch}",
            ("batch", "writer", "sign", "adds", "run", *_IDENTITY, *_REQUEST, "not_after"),
            [(batch, self._writer, sign, adds, run, *row, after.until_ms) for row in rows],
        )
        reach("after_join_claim")
        now, owner = self._client.query(
            "SELECT toUnixTimestamp64Milli(now64(3)), argMin(writer, at) FROM joined_spans WHERE batch = {batch:UInt64}",
            parameters={"batch": batch},
        ).result_rows[0]
        self._correct(batch, int(now) + _FENCE_MS)
        return bool(owner == self._writer)

    def _correct(self, batch: int, until_ms: int) -> None:
        """Bring each day of a batch into the rollup that is not there yet.

        ``until_ms`` counts from before the look at what is there: what comes after it could be there twice.
        """
        days = self._client.query(_DAYS, parameters={"batch": batch}).result_rows
        columns = ("sign", "adds", "run", *_REQUEST)
        for (day,) in days:
            rows = self._client.query(
                f"SELECT {', '.join(columns)} FROM joined_spans "  # noqa: S608 -- constants only
                "WHERE batch = {batch:UInt64} AND toYYYYMMDD(minute) = {day:UInt32}",
                parameters={"batch": batch, "day": day},
            ).result_rows
            reach("before_correction")
            self._insert(
                "span_corrections",
                f"join/{batch}/{day}",
                ("batch", *columns, "not_after"),
                [(batch, *row, until_ms) for row in rows],
            )
            reach("after_correction")

    def _insert(self, table: str, token: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        self._client.insert(
            table,
            rows,
            list(columns),
            column_type_names=[_TYPES[name] for name in columns],
            settings={"insert_deduplication_token": token},
        )

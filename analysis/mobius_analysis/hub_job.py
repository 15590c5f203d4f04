"""Exports a zone's finished hours to the hub, each once: read, suppress, send, remember.

An hour that was sent is never sent again, although data of it may come later: the difference of two exports would be
those late requests alone, however few.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from mobius_analysis.hub_export import Account, Export, export_cells
from mobius_analysis.rollup import query
from mobius_pipeline.residency.tables import CROSSING_COLUMNS
from mobius_pipeline.store import Purpose, connect, store_errors

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from mobius_instrumentation.zones import Hub, Zone
    from mobius_pipeline.residency.policy import ToHub

__all__ = ["HOUR", "ExportedHour", "export_zone", "load_hour"]

HOUR: Final = timedelta(hours=1)
_AXES: Final = ("region", "version")
_LABELS: Final = tuple(name for name in CROSSING_COLUMNS if name != "minute")
_COLUMNS: Final = ("zone", "hour", "kind", *_LABELS, "requests", "errors", "buckets")
_CELLS: Final = """
SELECT toStartOfHour(r.minute) AS minute, {names}sum(r.requests) AS requests, sum(r.errors) AS errors,
    -- A request weighs at least 1; what corrections leave of a bucket that they emptied is rounding.
    mapFilter((b, w) -> w > 0.5, sumMap(r.buckets)) AS histogram,
    mapKeys(histogram) AS buckets, mapValues(histogram) AS weights
FROM latency_minute AS r
WHERE r.minute >= {{since:DateTime('UTC')}} AND r.minute < {{until:DateTime('UTC')}}
GROUP BY ALL
HAVING requests > 0
ORDER BY ALL
"""
_SUBJECTS: Final = """
SELECT s.hour AS minute, {names}uniqMerge(s.subjects) AS subjects
FROM latency_subjects AS s
WHERE s.hour >= {{since:DateTime('UTC')}} AND s.hour < {{until:DateTime('UTC')}}
GROUP BY ALL
"""
# Blocks of one insert are squashed into one, so that the hour's token holds for all of it or for nothing.
_ONE_BLOCK: Final = {
    "min_insert_block_size_rows": 100_000_000,
    "min_insert_block_size_bytes": 0,
}


@dataclass(frozen=True, slots=True)
class ExportedHour:
    """One hour that was sent: how many cells and totals lie in the hub, and what was held back for which reason."""

    hour: datetime
    counted_by: str
    sent_cells: int
    sent_totals: int
    account: Account


def export_zone(
    zone: Zone,
    hub: Hub,
    rules: ToHub,
    *,
    since: datetime,
    now: datetime,
    delay: timedelta = HOUR,
    watch: Callable[[int], None] = lambda _hours: None,
) -> tuple[ExportedHour, ...]:
    """Export each hour of ``zone`` from ``since`` on that ended ``delay`` before ``now`` and was not exported yet.

    1. Find the hours that have requests and are due.
    2. Read an hour's cells, suppress what is small.
    3. Send cells and totals as one insert, whose token names zone and hour: of two exports at once the first counts.
    4. Remember the hour, in the hub and in the zone, as it lies in the hub.

    Cut off anywhere, it is repeated: what lies in the hub stays as it is. ``watch`` is told each hour that is done.

    Raises
    ------
    DependencyError
        A store does not answer.
    TerminalError
        A store refused a statement.
    """
    # Two clients, each with the credentials of its store: neither reaches the other.
    inside, outside = connect(zone, Purpose.INGEST), connect(hub, Purpose.INGEST)
    try:
        done = []
        with store_errors(zone):
            hours = _due(inside, since, now - delay)  # 1
        for hour in hours:
            with store_errors(zone):
                found = load_hour(inside, hour, rules)  # 2
            with store_errors(hub):
                sent = _send(outside, zone.name, hour, found)  # 3
                result = ExportedHour(hour, found.counted_by, *sent, found.account)
                _remember_outside(outside, zone.name, result, now, rules)  # 4
            with store_errors(zone):
                _remember_inside(inside, result, now, rules)
            done.append(result)
            watch(1)
        return tuple(done)
    finally:
        inside.close()
        outside.close()


def _due(client: Client, since: datetime, until: datetime) -> list[datetime]:
    """Hours with requests that are not exported yet; one that begins before ``since`` is not whole."""
    first = _hour(since + HOUR - timedelta(microseconds=1))
    rows = client.query(
        "SELECT DISTINCT toStartOfHour(minute) AS hour FROM latency_minute "
        "WHERE minute >= {since:DateTime('UTC')} AND minute < {until:DateTime('UTC')} "
        "AND hour NOT IN (SELECT hour FROM hub_exports) ORDER BY hour",
        parameters={"since": first, "until": _hour(until)},
    ).result_rows
    return [hour.replace(tzinfo=UTC) for (hour,) in rows]


def _hour(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def load_hour(client: Client, hour: datetime, rules: ToHub) -> Export:
    """Read the cells of one hour by the columns that may cross, and suppress by the size that they must have."""
    labels = [name for name in _LABELS if name in rules.columns]
    axes: list[str] = [name for name in _AXES if name in labels] or ["minute"]
    edges = {"since": hour, "until": hour + HOUR}
    # The hour itself, as minute, keeps the grouping from being one of nothing.
    cells, subjects = (
        query(
            client,
            sql.format(names="".join(f"toString({table}.{name}) AS {name}, " for name in labels)),
            edges,
        ).with_columns(minute=pl.lit(hour))
        for table, sql in (("r", _CELLS), ("s", _SUBJECTS))
    )
    frame = cells.join(subjects, on=["minute", *labels], how="left")
    keys = [name for name in labels if name not in axes]
    return export_cells(frame, keys=keys, axes=axes, least=rules.least_subjects)


def _send(client: Client, zone: str, hour: datetime, found: Export) -> tuple[int, int]:
    """Insert unless the hour is there; return how many cells and totals of it are there then."""
    if not any(there := _there(client, zone, hour)):
        rows = [*_rows(zone, hour, "cell", found.cells), *_rows(zone, hour, "total", found.totals)]
        if rows:
            token = {"insert_deduplication_token": f"hour/{zone}/{hour:%Y%m%d%H}"}
            client.insert("latency_hour", rows, _COLUMNS, settings={**_ONE_BLOCK, **token})
            there = _there(client, zone, hour)
    return there


def _there(client: Client, zone: str, hour: datetime) -> tuple[int, int]:
    ((cells, totals),) = client.query(
        "SELECT countIf(kind = 'cell'), countIf(kind = 'total') FROM latency_hour "
        "WHERE zone = {zone:String} AND hour = {hour:DateTime('UTC')}",
        parameters={"zone": zone, "hour": hour},
    ).result_rows
    return int(cells), int(totals)


def _rows(zone: str, hour: datetime, kind: str, frame: pl.DataFrame) -> Iterator[list[Any]]:
    if "version" not in frame.columns and "region" not in frame.columns and kind == "total":
        return  # a total over the hour is the cell
    for row in frame.iter_rows(named=True):
        histogram = dict(zip(row.get("buckets", ()), row.get("weights", ()), strict=True))
        labels = [row.get(name) for name in _LABELS]
        yield [zone, hour, kind, *labels, int(row["requests"]), row.get("errors"), histogram]


def _remember_outside(
    client: Client, zone: str, result: ExportedHour, now: datetime, rules: ToHub
) -> None:
    row = [zone, result.hour, now, list(rules.columns), rules.least_subjects, result.counted_by]
    names = ["zone", "hour", "exported_at", "columns", "least_subjects", "counted_by"]
    token = {"insert_deduplication_token": f"export/{zone}/{result.hour:%Y%m%d%H}"}
    sent = [result.sent_cells, result.sent_totals]
    client.insert("exports", [row + sent], [*names, "cells", "totals"], settings=token)


def _remember_inside(client: Client, result: ExportedHour, now: datetime, rules: ToHub) -> None:
    row = [result.hour, now, rules.least_subjects, result.counted_by]
    row += [result.sent_cells, result.sent_totals, *astuple(result.account)]
    names = ["hour", "exported_at", "least_subjects", "counted_by", "sent_cells", "sent_totals"]
    client.insert(
        "hub_exports",
        [row],
        [*names, *(field.name for field in fields(Account))],
        settings={"insert_deduplication_token": f"export/{result.hour:%Y%m%d%H}"},
    )

"""Loads where the time of the requests around a quantile went, from the spans of their traces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from mobius_analysis.components import SpanRow, parts_of_request
from mobius_analysis.request_sample import RequestSample, of_endpoint
from mobius_analysis.rollup import Only, query

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["SOURCES", "Neighbourhood", "Parted", "load_parts", "neighbourhoods"]

SOURCES: Final = ("real", "synthetic")
_REACH: Final = {0.5: 0.05, 0.95: 0.025}
"""How far a quantile's neighbourhood reaches on each side: p45 to p55, p92.5 to p97.5."""

_MOST_TRACES: Final = 400
_LATE: Final = timedelta(minutes=5)

_CHOSEN: Final = """
SELECT s.trace_id, s.span_id, <source> AS side FROM spans AS s
WHERE <endpoint>
  AND arrayExists((source, low, high) -> side = source AND s.duration_ns BETWEEN low AND high,
                  {sources:Array(String)}, {lows:Array(UInt64)}, {highs:Array(UInt64)})
  -- Only traces of which the spans below were kept: the last 56 bits of the id decide (consistent sampling).
  AND bitAnd(reinterpretAsUInt64(reverse(substring(s.trace_id, 9, 8))), 72057594037927935) >= {kept_from:UInt64}
ORDER BY cityHash64(s.trace_id), s.span_id
LIMIT {most:UInt32} BY arrayFirstIndex((source, low, high) -> side = source
        AND s.duration_ns BETWEEN low AND high, {sources:Array(String)}, {lows:Array(UInt64)}, {highs:Array(UInt64)})
"""
_SPANS: Final = """
WITH chosen AS (<chosen>)
SELECT lower(hex(t.trace_id)) AS trace_id, lower(hex(t.span_id)) AS span_id, lower(hex(t.parent_span_id)) AS parent,
    toString(t.service) AS service, toString(t.name) AS name, toString(t.kind) AS kind,
    if(t.attributes['db.system.name'] != '', t.attributes['db.system.name'], t.attributes['db.system']) AS database,
    toUnixTimestamp64Nano(t.start) AS start_ns, t.duration_ns AS duration_ns, t.weight AS weight,
    (t.trace_id, t.span_id) IN (SELECT trace_id, span_id FROM chosen) AS root,
    (t.trace_id, t.span_id) IN (SELECT trace_id, span_id FROM chosen WHERE side = 'synthetic') AS tested,
    mapKeys(mapFilter((k, v) -> startsWith(k, 'mobius.') AND endsWith(k, '.duration'), t.attributes)) AS names,
    mapValues(mapFilter((k, v) -> startsWith(k, 'mobius.') AND endsWith(k, '.duration'), t.attributes)) AS texts
FROM spans AS t
WHERE t.start >= {since:DateTime('UTC')} AND t.start < {late:DateTime('UTC')}
  AND t.trace_id IN (SELECT trace_id FROM chosen)
ORDER BY t.trace_id, t.start, t.span_id
"""


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """Durations (ns, both ends included) around one quantile of one side."""

    q: float
    source: str
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Parted:
    """One request: minute since the epoch, side, duration, its parts, which add up to it (seconds), and its service."""

    minute: int
    source: str
    weight: float
    duration_ns: int
    parts: Mapping[str, float]
    service: str


def neighbourhoods(sample: RequestSample) -> tuple[Neighbourhood, ...]:
    """Ranges of durations around p50 and p95 of both sides."""
    return tuple(
        Neighbourhood(q, source, *_range(rows, q))
        for source in SOURCES
        if not (rows := sample.side(source)).is_empty()
        for q in _REACH
    )


def _range(rows: pl.DataFrame, q: float) -> tuple[int, int]:
    ordered = rows.sort("duration_ns")
    durations = ordered["duration_ns"].to_numpy()
    levels = np.cumsum(ordered["weight"].to_numpy())
    wanted = levels[-1] * np.asarray([q - _REACH[q], q + _REACH[q]])
    places = np.minimum(np.searchsorted(levels, wanted), len(durations) - 1)
    return int(durations[places[0]]), int(durations[places[1]])


def load_parts(
    client: Client, sample: RequestSample, subject: Only, around: Sequence[Neighbourhood]
) -> tuple[Parted, ...]:
    """Load up to 400 requests of each neighbourhood with the spans below them, and part their time.

    Raises
    ------
    DependencyError
        The store does not answer.
    TerminalError
        The store refused the query.
    """
    if not around:
        return ()
    window = sample.window
    parameters = {
        "since": window.start,
        "until": window.end,
        "late": window.end + _LATE,
        "most": _MOST_TRACES,
        "kept_from": sample.kept_from,
        "sources": [one.source for one in around],
        "lows": [one.low for one in around],
        "highs": [one.high for one in around],
        **asdict(subject),
    }
    rows = query(client, _SPANS.replace("<chosen>", of_endpoint(_CHOSEN)), parameters)
    groups = rows.partition_by("trace_id", maintain_order=True) if rows.height else []
    return tuple(one for group in groups for one in _part(list(group.iter_rows(named=True))))


def _part(rows: Sequence[dict[str, Any]]) -> Iterator[Parted]:
    spans = [
        SpanRow(
            row["span_id"],
            row["parent"],
            row["service"],
            row["name"],
            row["kind"],
            row["database"],
            row["start_ns"],
            row["start_ns"] + row["duration_ns"],
        )
        for row in rows
    ]
    for row, span in zip(rows, spans, strict=True):
        if row["root"]:
            parts = parts_of_request(span, spans, _measures(row["names"], row["texts"]))
            yield Parted(
                row["start_ns"] // 60_000_000_000,
                "synthetic" if row["tested"] else "real",
                row["weight"],
                row["duration_ns"],
                parts,
                span.service,
            )


def _measures(names: Sequence[str], texts: Sequence[str]) -> dict[str, float]:
    found = {}
    for name, text in zip(names, texts, strict=True):
        try:
            seconds = float(text)
        except ValueError:
            continue
        if np.isfinite(seconds):
            found[name] = seconds
    return found

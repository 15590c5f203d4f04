"""Counts what was produced and what was stored, span for span."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobius_instrumentation.zones import Zone
from mobius_pipeline.store import Purpose, connect

__all__ = [
    "SpanAccount",
    "Stored",
    "count_findings",
    "count_runs",
    "count_stored",
    "produced_spans",
    "span_account",
]


@dataclass(frozen=True, slots=True)
class Stored:
    """Spans in one zone's store: rows, and distinct pairs of trace id and span id."""

    rows: int
    distinct: int


@dataclass(frozen=True, slots=True)
class SpanAccount:
    """What became of the spans of one zone while the stack ran.

    ``lost`` below zero means that an exporter was killed before it wrote its last count.
    """

    produced: int
    stored: int
    lost: int
    duplicated: int

    def document(self) -> dict[str, int]:
        """JSON form."""
        return {
            "produced": self.produced,
            "stored": self.stored,
            "lost": self.lost,
            "duplicated": self.duplicated,
        }


def count_stored(zone: Zone) -> Stored:
    """Count the spans that the store of ``zone`` holds.

    Raises
    ------
    DependencyError
        The store does not answer.
    """
    [[rows, distinct]] = _ask(zone, "SELECT count(), uniqExact(trace_id, span_id) FROM spans")
    return Stored(int(rows), int(distinct))


def count_runs(zone: Zone) -> int:
    """Count the runs of test tools that the store of ``zone`` knows; raises as :func:`count_stored`."""
    [[runs]] = _ask(zone, "SELECT uniqExact(digest) FROM synthetic_runs")
    return int(runs)


def count_findings(zone: Zone) -> Counter[str]:
    """Count the open findings of ``zone`` by kind; raises as :func:`count_stored`."""
    return Counter(
        {
            str(kind): int(count)
            for kind, count in _ask(
                zone, "SELECT kind, count() FROM findings FINAL WHERE status = 'open' GROUP BY kind"
            )
        }
    )


def _ask(zone: Zone, query: str) -> Sequence[Sequence[Any]]:
    client = connect(zone, Purpose.ANALYSIS)
    try:
        return client.query(query).result_rows
    finally:
        client.close()


def produced_spans(folder: Path) -> int:
    """Sum of what exporters accepted, over the count files of all their processes below ``folder``."""
    return sum(_accepted(file) for file in sorted(folder.glob("*.json")))


def span_account(produced: int, before: Stored, after: Stored) -> SpanAccount:
    """Compare what was produced with what a store gained.

    Examples
    --------
    >>> span_account(10, Stored(5, 5), Stored(15, 14))
    SpanAccount(produced=10, stored=9, lost=1, duplicated=1)
    """
    stored = after.distinct - before.distinct
    return SpanAccount(produced, stored, produced - stored, (after.rows - before.rows) - stored)


def _accepted(file: Path) -> int:
    document: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return int(document["accepted"])

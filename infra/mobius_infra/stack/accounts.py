"""Counts what was produced and what was stored, span for span."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobius_instrumentation.zones import Zone
from mobius_pipeline.status import SpanIdentity
from mobius_pipeline.store import Purpose, connect, store_errors

__all__ = ["SpanAccount", "count_runs", "open_findings", "produced_spans", "span_account"]


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


def count_runs(zone: Zone) -> int:
    """Count the runs of test tools that the store of ``zone`` knows.

    Raises
    ------
    DependencyError
        The store does not answer.
    """
    [[runs]] = _ask(zone, "SELECT uniqExact(digest) FROM synthetic_runs")
    return int(runs)


def open_findings(zone: Zone) -> list[dict[str, str]]:
    """List the open findings of ``zone``: kind and subject; raises as :func:`count_runs`."""
    names = ("kind", "region", "service", "method", "route")
    rows = _ask(
        zone,
        "SELECT kind, region, service, method, route FROM findings FINAL "
        "WHERE status = 'open' ORDER BY ALL",
    )
    return [{"zone": zone.name, **dict(zip(names, map(str, row), strict=True))} for row in rows]


def _ask(zone: Zone, query: str) -> Sequence[Sequence[Any]]:
    client = connect(zone, Purpose.ANALYSIS)
    try:
        with store_errors(zone):
            return client.query(query).result_rows
    finally:
        client.close()


def produced_spans(folder: Path) -> int:
    """Sum of what exporters accepted, over the count files of all their processes below ``folder``."""
    return sum(_accepted(file) for file in sorted(folder.glob("*.json")))


def span_account(produced: int, before: SpanIdentity, after: SpanIdentity) -> SpanAccount:
    """Compare what was produced with what a store gained.

    Examples
    --------
    >>> span_account(10, SpanIdentity(5, 5), SpanIdentity(15, 14))
    SpanAccount(produced=10, stored=9, lost=1, duplicated=1)
    """
    stored = after.distinct - before.distinct
    return SpanAccount(produced, stored, produced - stored, (after.rows - before.rows) - stored)


def _accepted(file: Path) -> int:
    document: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return int(document["accepted"])

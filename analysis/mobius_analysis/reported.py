"""Runs of which a tool gives percentiles only: no requests, no histogram, hence no interval."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mobius_analysis.rollup import Window, query

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["Reported", "load_reported"]


@dataclass(frozen=True, slots=True)
class Reported:
    """One endpoint of one such run; ``seconds`` holds the tool's own percentiles by level."""

    subject: tuple[str, str, str, str]
    run: str
    start: datetime
    requests: int
    failed: int
    seconds: dict[float, float]


def load_reported(client: Client, window: Window, *, environment: str = "") -> tuple[Reported, ...]:
    """Load what such runs said that started within ``window``, the earliest first.

    Raises
    ------
    DependencyError
        The store does not answer.
    TerminalError
        The store refused the query.
    """
    rows = query(
        client,
        "SELECT r.run AS run, toString(r.region) AS region, toString(r.service) AS service,"
        " toUnixTimestamp64Micro(r.start) AS start, r.summary AS summary"
        " FROM synthetic_runs AS r FINAL"
        " WHERE r.start >= {since:DateTime('UTC')} AND r.start < {until:DateTime('UTC')}"
        " AND ({environment:String} = '' OR r.environment IN ({environment:String}, ''))"
        " AND JSONExtractString(r.summary, 'percentiles') = 'as_reported'"
        " ORDER BY r.start, r.run",
        {"since": window.start, "until": window.end, "environment": environment},
    )
    return tuple(one for row in rows.iter_rows(named=True) for one in _endpoints(row))


def _endpoints(row: dict[str, Any]) -> Iterator[Reported]:
    for endpoint in json.loads(row["summary"])["endpoints"]:
        if not endpoint["route"]:
            continue
        levels = {0.5: endpoint["p50_ms"], 0.95: endpoint["p95_ms"], 0.99: endpoint["p99_ms"]}
        yield Reported(
            subject=(
                row["region"],
                endpoint.get("service") or row["service"],
                endpoint["method"] or "",
                endpoint["route"],
            ),
            run=row["run"],
            start=datetime.fromtimestamp(row["start"] / 1e6, UTC),
            # k6's thresholds by name come without their count: at least one request was made.
            requests=int(endpoint["requests"] or 1),
            failed=int(endpoint["failed"]),
            seconds={q: ms / 1000 for q, ms in levels.items() if ms},
        )

"""Runs and their requests in a zone's store; every insert can be repeated and adds nothing then."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from mobius_pipeline.imports.formats.model import Request, Vantage
from mobius_pipeline.imports.routes import Match, Template, clean_name
from mobius_pipeline.imports.synthetic_result import SyntheticImport
from mobius_pipeline.imports.tally import Name

__all__ = [
    "Run",
    "imported_run",
    "insert_requests",
    "insert_run",
    "likely_same_run",
    "templates",
]

_BATCH: Final = 50_000
_LONGEST_ERROR: Final = 200
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_RESULT_COLUMNS: Final = [
    "run", "start", "duration_ms", "requests", "region", "service", "release", "environment",
    "method", "route", "name", "status", "failed", "error", "trace_id", "named_trace_id", "vantage",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run:
    """What is the same for every request of a run."""

    run: str
    digest: str
    region: str
    service: str
    release: str
    environment: str
    vantage: Vantage = "client"


def templates(client: Client, service: str | None) -> list[Template]:
    """Endpoints that the zone's server spans have named so far, of all services or of one."""
    rows = client.query(
        "SELECT DISTINCT service, method, route FROM latency_minute WHERE vantage = 'server' "
        "AND route != '' AND route != method AND ({service:String} = '' OR service = {service:String})",
        parameters={"service": service or ""},
    ).result_rows
    return [Template(*row) for row in rows]


def imported_run(client: Client, digest: str) -> str | None:
    """Return the run under which a content was imported whole; None when it never was."""
    rows = client.query(
        "SELECT run FROM synthetic_runs WHERE digest = {digest:String} ORDER BY imported_at LIMIT 1",
        parameters={"digest": digest},
    ).result_rows
    return str(rows[0][0]) if rows else None


def likely_same_run(client: Client, result: SyntheticImport) -> str | None:
    """Name a run that another file gave with the same counts at the same time, or None.

    Tools write one run in several formats; each is a content of its own, and both would count.
    """
    rows = client.query(
        "SELECT run FROM synthetic_runs WHERE digest != {digest:String} AND tool = {tool:String} "
        "AND region = {region:String} AND requests = {requests:UInt64} AND failed = {failed:UInt64} "
        "AND abs(dateDiff('second', start, {start:DateTime64(6, 'UTC')})) <= 2 ORDER BY imported_at LIMIT 1",
        parameters={
            "digest": result.digest,
            "tool": result.tool,
            "region": result.region,
            "requests": result.requests,
            "failed": result.failed,
            "start": _EPOCH + timedelta(microseconds=result.start_us),
        },
    ).result_rows
    return str(rows[0][0]) if rows else None


def insert_requests(
    client: Client, run: Run, requests: Iterable[Request], matches: Mapping[Name, Match]
) -> None:
    """Insert requests in batches whose tokens come from the content's digest, so repeats are dropped."""
    iterator = iter(requests)
    names = {name: clean_name(*name)[1] for name in matches}
    for number in itertools.count():
        rows = [_row(run, r, matches, names) for r in itertools.islice(iterator, _BATCH)]
        if not rows:
            return
        client.insert(
            "synthetic_results",
            rows,
            _RESULT_COLUMNS,
            settings={"insert_deduplication_token": f"synthetic/{run.digest}/{number}"},
        )


def _row(
    run: Run, request: Request, matches: Mapping[Name, Match], names: Mapping[Name, str]
) -> list[Any]:
    key = (request.method, request.name)
    match = matches[key]
    return [
        run.run,
        _EPOCH + timedelta(microseconds=request.start_us),
        request.duration_ms,
        request.requests,
        run.region,
        run.service or match.service or "",
        run.release,
        run.environment,
        match.method,
        match.route,
        # Without host and query, which may hold what is nobody's business here.
        names[key],
        request.status,
        request.failed,
        request.error[:_LONGEST_ERROR],
        request.trace_id,
        request.named_trace_id,
        run.vantage,
    ]


def insert_run(
    client: Client, result: SyntheticImport, summary: Mapping[str, Any], *, generated: bool
) -> None:
    """Insert the run's own row, which says that its import is complete."""
    row = {
        "run": result.run,
        "digest": result.digest,
        "test": result.test,
        "tool": result.tool,
        "format": result.format,
        "region": result.region,
        "service": result.service or "",
        "release": result.release or "",
        "environment": result.environment or "",
        "start": _EPOCH + timedelta(microseconds=result.start_us),
        "end": _EPOCH + timedelta(microseconds=result.end_us),
        "requests": result.requests,
        "failed": result.failed,
        "generated": generated,
        "load_model": result.load.model,
        "summary": json.dumps(summary, ensure_ascii=False),
    }
    client.insert(
        "synthetic_runs",
        [list(row.values())],
        list(row),
        settings={"insert_deduplication_token": f"synthetic-run/{result.digest}"},
    )

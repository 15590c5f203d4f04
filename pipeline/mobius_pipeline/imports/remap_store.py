"""What a remapping reads and writes in a zone's store; every step can be repeated and changes nothing then."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from mobius_pipeline.imports.quantiles import counted_quantiles
from mobius_pipeline.imports.routes import clean_name
from mobius_pipeline.imports.synthetic_claim import Settings

__all__ = [
    "Change",
    "Stored",
    "StoredRun",
    "carry_out",
    "claim_plan",
    "endpoints_now",
    "find_runs",
    "finish",
    "stored_names",
    "unfinished_plan",
]

# Requests that one insert moves. It is one block, so that the store has all of it or nothing under its token.
_SLICE: Final = 500_000
_KEY: Final = "concat(hex(method), '.', hex(name), '.', hex(route), '.', hex(service))"
_OLD: Final = (
    f"run = {{run:String}} AND remap < {{number:UInt32}} AND {_KEY} IN {{keys:Array(String)}}"
)
_SHARES: Final = (0.5, 0.95, 0.99)
# The expressions of synthetic_results_to_latency_minute (migrations/zone/0011), for rows as they stood before.
_ROLLED: Final = f"""
SELECT
    minute, region, service, version, environment, method, route, status_class, vantage, name_key, requests, errors, buckets
FROM (
    SELECT
        toStartOfMinute(r.start) AS minute, toString(r.region) AS region, toString(r.service) AS service,
        toString(r.release) AS version, toString(r.environment) AS environment, toString(r.method) AS method,
        toString(r.route) AS route,
        multiIf(r.status >= 100, concat(toString(intDiv(r.status, 100)), 'xx'), r.duration_ms IS NULL, 'none', r.failed, 'error', 'ok') AS status_class,
        toString(r.vantage) AS vantage, {_KEY} AS name_key,
        sum(r.requests) AS requests, sumIf(r.requests, r.failed) AS errors,
        sumMapIf(map(toInt16(ceil(log2(greatest(coalesce(r.duration_ms, 0), 1e-6) / 1e3) * 32) - 1), toFloat64(r.requests)), r.duration_ms IS NOT NULL) AS buckets
    FROM synthetic_results AS r
    WHERE {_OLD}
    GROUP BY minute, region, service, version, environment, method, route, status_class, vantage, name_key
)
ORDER BY ALL
"""  # noqa: S608 -- constants only
_PLACE: Final = f"indexOf({{keys:Array(String)}}, {_KEY})"
_COPY: Final = f"""
INSERT INTO synthetic_results
SELECT * REPLACE (
    {{methods:Array(String)}}[{_PLACE}] AS method, {{routes:Array(String)}}[{_PLACE}] AS route,
    {{services:Array(String)}}[{_PLACE}] AS service, {{number:UInt32}} AS remap)
FROM (
    SELECT * FROM synthetic_results WHERE {_OLD}
    AND toUnixTimestamp(start) >= {{since:UInt32}} AND toUnixTimestamp(start) < {{until:UInt32}}
)
"""  # noqa: S608 -- constants only
_SECONDS: Final = f"""
SELECT toUnixTimestamp(start) AS second, count() FROM synthetic_results WHERE {_OLD} GROUP BY second ORDER BY second
"""  # noqa: S608 -- constants only
_ROLLUP_COLUMNS: Final = [
    "minute", "region", "service", "version", "environment", "method", "route", "status_class", "source", "vantage",
    "test_run", "requests", "errors", "weight", "weight_squared", "error_weight", "buckets", "buckets_squared",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stored:
    """Requests of one name, and the endpoint that they stand under."""

    method: str
    name: str
    route: str
    service: str
    requests: int
    failed: int

    @property
    def key(self) -> str:
        """The text that the store makes of the four."""
        texts = (self.method, self.name, self.route, self.service)
        return ".".join(text.encode().hex().upper() for text in texts)


@dataclass(frozen=True, slots=True)
class Change(Stored):
    """Requests of one name, and the endpoint that they get."""

    to_method: str
    to_route: str
    to_service: str


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run as it is stored; ``said_service`` is what whoever imported it said. ``row`` is all of its own row."""

    run: str
    digest: str
    summary: dict[str, Any]
    said_service: str | None
    row: dict[str, Any]

    @property
    def reported(self) -> bool:
        """Whether only the tool's own percentiles of it are known."""
        return bool(self.summary["percentiles"] == "as_reported")

    @property
    def remaps(self) -> int:
        """How many remappings of it are complete."""
        return int(self.summary.get("remap", 0))

    def with_summary(self, summary: dict[str, Any]) -> StoredRun:
        """Return it with another summary."""
        return dataclasses.replace(self, summary=summary)


def find_runs(client: Client, run: str) -> list[StoredRun]:
    """Return the runs of that name, which are imported whole."""
    result = client.query(
        "SELECT * EXCEPT (imported_at), (SELECT argMin(settings, (at, writer)) FROM synthetic_imports AS i"
        " WHERE i.digest = r.digest) AS settings"
        " FROM synthetic_runs AS r FINAL WHERE r.run = {run:String} ORDER BY r.digest",
        parameters={"run": run},
    )
    found = []
    for values in result.result_rows:
        row = dict(zip(result.column_names, values, strict=True))
        settings = row.pop("settings")
        row["digest"] = _text(row["digest"])
        said = Settings.of(settings).service if settings else None
        found.append(StoredRun(run, row["digest"], json.loads(row["summary"]), said, row))
    return found


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def stored_names(client: Client, run: str) -> Iterator[Stored]:
    """Yield the names of a run with their endpoints, in a fixed order."""
    rows = client.query(
        "SELECT toString(method), toString(name), toString(route), toString(service), sum(requests),"
        " sumIf(requests, failed) FROM synthetic_results WHERE run = {run:String} GROUP BY ALL ORDER BY ALL",
        parameters={"run": run},
    ).result_rows
    yield from (Stored(*row) for row in rows)


# ---------------------------------------------------------------------------- what is to change


def unfinished_plan(client: Client, run: StoredRun) -> tuple[int, list[Change]] | None:
    """Return number and changes of a remapping that was begun and is not complete."""
    rows = client.query(
        "SELECT number, plan FROM synthetic_remaps WHERE digest = {digest:String} AND number > {done:UInt32}"
        " ORDER BY number, at, writer LIMIT 1",
        parameters={"digest": run.digest, "done": run.remaps},
    ).result_rows
    return (int(rows[0][0]), _plan_of(rows[0][1])) if rows else None


def claim_plan(
    client: Client, run: StoredRun, writer: str, changes: Sequence[Change]
) -> tuple[int, list[Change]]:
    """Write what is to change; return what is: of several at once the first decides."""
    number = run.remaps + 1
    plan = json.dumps([asdict(change) for change in changes])
    client.insert(
        "synthetic_remaps",
        [[run.digest, number, writer, plan]],
        ["digest", "number", "writer", "plan"],
        settings={"insert_deduplication_token": f"synthetic-remap/{run.digest}/{number}"},
    )
    begun = unfinished_plan(client, run)
    return begun if begun is not None else (number, list(changes))


def _plan_of(text: str) -> list[Change]:
    return [Change(**change) for change in json.loads(text)]


# ---------------------------------------------------------------------------- carrying it out


def carry_out(client: Client, run: StoredRun, number: int, changes: Sequence[Change]) -> None:
    """Move the requests of ``changes`` to their new endpoints.

    1. The rollup: one block of rows that take away and rows that add.
    2. The requests under their new endpoint, which the rollup leaves out.
    3. The requests under the old one go.
    """
    token = f"synthetic-remap/{run.digest}/{number}"
    parameters = {"run": run.run, "number": number, "keys": [change.key for change in changes]}
    _move_rollup(client, run, changes, parameters, token)  # 1
    _copy_requests(client, changes, parameters, token)  # 2
    client.command(  # 3
        f"ALTER TABLE synthetic_results DELETE WHERE {_OLD}",
        parameters=parameters,
        settings={"mutations_sync": 2},
    )


def _move_rollup(
    client: Client,
    run: StoredRun,
    changes: Sequence[Change],
    parameters: dict[str, Any],
    token: str,
) -> None:
    changed = {change.key: change for change in changes}
    rows: list[list[Any]] = []
    for values in client.query(_ROLLED, parameters=parameters).result_rows:
        minute, region, service, version, environment, method, route, status, vantage, key = values[
            :10
        ]
        requests, errors, buckets = values[10:]
        change = changed[key]
        ends = (
            (-1, service, method, route),
            (1, change.to_service, change.to_method, change.to_route),
        )
        for sign, *where in ends:
            weight = float(sign * requests)
            rows.append(
                [
                    minute, region, where[0], version, environment, where[1], where[2], status, "synthetic", vantage,
                    run.run, sign * requests, sign * errors, weight, weight, float(sign * errors),
                    {bucket: sign * count for bucket, count in buckets.items()}, {},
                ]
            )  # fmt: skip
    if rows:
        client.insert(
            "latency_minute",
            rows,
            _ROLLUP_COLUMNS,
            settings={
                "insert_deduplication_token": f"{token}/rollup",
                "max_insert_block_size": len(rows) + 1,
            },
        )


def _copy_requests(
    client: Client, changes: Sequence[Change], parameters: dict[str, Any], token: str
) -> None:
    fields = {
        "methods": [change.to_method for change in changes],
        "routes": [change.to_route for change in changes],
        "services": [change.to_service for change in changes],
    }
    for part, (since, until) in enumerate(_slices(client, parameters)):
        client.command(
            _COPY,
            parameters=parameters | fields | {"since": since, "until": until},
            settings={
                "insert_deduplication_token": f"{token}/{part}",
                "max_threads": 1,
                "max_insert_threads": 1,
                "min_insert_block_size_rows": 1 << 30,
                "min_insert_block_size_bytes": 0,
            },
        )


def _slices(client: Client, parameters: dict[str, Any]) -> list[tuple[int, int]]:
    """Cut the time of what is to move into parts of few requests; the same parts, until the old ones go."""
    rows = client.query(
        _SECONDS,
        parameters=parameters,
    ).result_rows
    parts: list[tuple[int, int]] = []
    held = 0
    for second, count in rows:
        if parts and held + count <= _SLICE:
            parts[-1] = (parts[-1][0], second + 1)
            held += count
        else:
            parts.append((second, second + 1))
            held = count
    return parts


def finish(client: Client, run: StoredRun, number: int, service: str, summary: str) -> None:
    """Write the run's own row again, which says that the remapping is complete."""
    row = run.row | {"service": service, "summary": summary}
    client.insert(
        "synthetic_runs",
        [list(row.values())],
        list(row),
        settings={"insert_deduplication_token": f"synthetic-run/{run.digest}/remap/{number}"},
    )


def endpoints_now(client: Client, run: StoredRun) -> list[dict[str, Any]]:
    """Return the endpoints of a run as an import writes them, from its stored requests."""
    # Stored names have lost their method, which the tool wrote.
    written = {
        clean_name(one["method"], one["name"])[1]: one["name"]
        for one in run.summary["endpoints"]
        if one["name"]
    }
    rows = client.query(
        "SELECT toString(method) AS m, toString(route) AS r, toString(service) AS s,"
        " groupUniqArray(2)(toString(name)) AS names, sum(requests) AS n, sumIf(requests, failed) AS lost,"
        " max(requests) AS most, quantilesExactInclusive(0.5, 0.95, 0.99)(duration_ms) AS levels"
        " FROM synthetic_results WHERE run = {run:String} GROUP BY m, r, s ORDER BY m, r, s",
        parameters={"run": run.run},
    )
    found = []
    for row in rows.named_results():
        levels = row["levels"] if row["most"] == 1 else _counted_levels(client, run.run, row)
        name = row["names"][0]
        p50, p95, p99 = (None if math.isnan(level) else round(level, 4) for level in levels)
        found.append(
            {
                "method": row["m"],
                "route": row["r"],
                "name": written.get(name, name) if len(row["names"]) == 1 else None,
                "service": row["s"] or None,
                "requests": row["n"],
                "failed": row["lost"],
                "p50_ms": p50,
                "p95_ms": p95,
                "p99_ms": p99,
                "levels_ms": None,
            }
        )
    return found


def _counted_levels(client: Client, run: str, endpoint: dict[str, Any]) -> list[float]:
    """Percentiles of an endpoint whose rows stand for several requests each."""
    rows = client.query(
        "SELECT duration_ms, sum(requests) FROM synthetic_results WHERE run = {run:String} AND method = {m:String}"
        " AND route = {r:String} AND service = {s:String} AND duration_ms IS NOT NULL GROUP BY duration_ms",
        parameters={"run": run, **{key: endpoint[key] for key in ("m", "r", "s")}},
    ).result_rows
    counts = {float(ms): int(n) for ms, n in rows}
    return counted_quantiles(counts, _SHARES) if counts else [math.nan] * len(_SHARES)

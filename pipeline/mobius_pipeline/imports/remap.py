"""Gives the requests of runs that are imported already the routes that production and a rules file give them now.

The run's rows in the rollup move by correction rows: what stood under the old endpoint is taken away and put under the new
one in one insert, which the store takes once. A plan is settled before it (as an import's settings are), so that
two remappings at once, or one that was cut off and is repeated, carry out the same.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clickhouse_connect.driver.client import Client

from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import UsageError
from mobius_pipeline.imports.remap_store import (
    Change,
    Stored,
    StoredRun,
    carry_out,
    claim_plan,
    endpoints_now,
    find_runs,
    finish,
    stored_names,
    unfinished_plan,
)
from mobius_pipeline.imports.routes import Match, RouteMatcher, Rule, load_rules
from mobius_pipeline.imports.synthetic_endpoints import unmatched_of
from mobius_pipeline.imports.synthetic_result import Unmatched
from mobius_pipeline.imports.synthetic_store import templates
from mobius_pipeline.imports.tally import Name
from mobius_pipeline.imports.zone_store import open_store

__all__ = ["Remapped", "remap"]


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules, and the path of the file that holds them."""

    all: tuple[Rule, ...]
    path: str | None


@dataclass(frozen=True, slots=True)
class Remapped:
    """What became of a run: which names have another endpoint now, and which still fit none of production's."""

    run: str
    zone: str
    requests_moved: int
    changes: tuple[Change, ...]
    unmatched: tuple[Unmatched, ...]

    def document(self) -> dict[str, Any]:
        """Return the JSON document of the command."""
        return asdict(self)


def remap(
    zones: Sequence[Zone], runs: Sequence[str], rules_file: Path | None = None
) -> list[Remapped]:
    """Remap runs of ``zones``, each in the zone that holds it.

    Raises
    ------
    UsageError
        No zone holds a run of that name, or the rules file cannot be read.
    DependencyError
        A store is away.
    """
    rules = Rules(load_rules(rules_file), None if rules_file is None else str(rules_file))
    results: list[Remapped] = []
    for zone in zones:
        with open_store(zone) as client:
            for run in runs:
                results += [_remap(client, zone, each, rules) for each in find_runs(client, run)]
    found = {result.run for result in results}
    if missing := [run for run in runs if run not in found]:
        raise UsageError(
            f"no run is called {missing[0]!r} in {', '.join(zone.name for zone in zones)}: the import said its name",
            field="RUN",
        )
    return results


def _remap(client: Client, zone: Zone, run: StoredRun, rules: Rules) -> Remapped:
    """Remap one run.

    1. Complete what an earlier remapping began.
    2. Match its names again; settle what is to change.
    3. Move the rollup, then the requests; write the run's own row again.
    """
    done: list[Change] = []
    while (begun := unfinished_plan(client, run)) is not None:  # 1
        number, changes = begun
        run = _complete(client, run, number, changes, rules)
        done += changes
    while changes := _changes(client, run, rules):  # 2
        number, changes = claim_plan(client, run, secrets.token_hex(16), changes)
        run = _complete(client, run, number, changes, rules)  # 3
        done += changes
    names, matches = _matches(client, run, rules)
    unmatched = unmatched_of(names, matches, run.run, rules.path)
    return Remapped(run.run, zone.name, sum(c.requests for c in done), tuple(done), unmatched)


def _complete(
    client: Client, run: StoredRun, number: int, changes: Sequence[Change], rules: Rules
) -> StoredRun:
    if run.reported:
        run = _with_endpoints(run, changes)
    else:
        carry_out(client, run, number, changes)
    names, matches = _matches(client, run, rules)
    summary = run.summary | {
        "endpoints": run.summary["endpoints"] if run.reported else endpoints_now(client, run),
        "unmatched": [asdict(one) for one in unmatched_of(names, matches, run.run, rules.path)],
        "remap": number,
    }
    services = {one["service"] or "" for one in summary["endpoints"]}
    service = services.pop() if len(services) == 1 else ""
    finish(client, run, number, service, json.dumps(summary, ensure_ascii=False))
    (again,) = (each for each in find_runs(client, run.run) if each.digest == run.digest)
    return again


def _changes(client: Client, run: StoredRun, rules: Rules) -> list[Change]:
    stored = list(_stored(client, run))
    matches = _matched(client, run, rules, stored)
    services = {run.said_service or match.service for match in matches.values()} - {None}
    alone = services.pop() if len(services) == 1 else None
    changes = []
    for one in stored:
        match = matches[one.method, one.name]
        service = alone or run.said_service or match.service or ""
        if (match.method, match.route, service) != (one.method, one.route, one.service):
            changes.append(
                Change(
                    **asdict(one), to_method=match.method, to_route=match.route, to_service=service
                )
            )
    return changes


def _matches(
    client: Client, run: StoredRun, rules: Rules
) -> tuple[Mapping[Name, tuple[int, int]], Mapping[Name, Match]]:
    stored = list(_stored(client, run))
    names: dict[Name, tuple[int, int]] = {}
    for one in stored:
        before = names.get((one.method, one.name), (0, 0))
        names[one.method, one.name] = before[0] + one.requests, before[1] + one.failed
    return names, _matched(client, run, rules, stored)


def _matched(
    client: Client, run: StoredRun, rules: Rules, stored: Sequence[Stored]
) -> dict[Name, Match]:
    matcher = RouteMatcher(templates(client, run.said_service), rules.all)
    return {(one.method, one.name): matcher.match(one.method, one.name) for one in stored}


def _stored(client: Client, run: StoredRun) -> Iterator[Stored]:
    """Names with the endpoints that they stand under now."""
    if not run.reported:
        yield from stored_names(client, run.run)
        return
    for one in run.summary["endpoints"]:
        yield Stored(
            method=one["method"],
            name=one["name"] or one["route"],
            route=one["route"],
            service=one["service"] or "",
            requests=one["requests"] or 0,
            failed=one["failed"],
        )


def _with_endpoints(run: StoredRun, changes: Sequence[Change]) -> StoredRun:
    """Change the endpoints of a run of which a tool gave percentiles only: they stand in its own row."""
    moved = {(c.method, c.name, c.route, c.service): c for c in changes}
    endpoints = []
    for one in run.summary["endpoints"]:
        key = (one["method"], one["name"] or one["route"], one["route"], one["service"] or "")
        to = moved.get(key)
        now = (
            {}
            if to is None
            else {"method": to.to_method, "route": to.to_route, "service": to.to_service or None}
        )
        endpoints.append(one | now)
    return run.with_summary(run.summary | {"endpoints": endpoints})

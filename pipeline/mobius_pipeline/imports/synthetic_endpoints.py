"""The endpoints of a run, with their counts and percentiles, and the names that are none of production's."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mobius_pipeline.imports.routes import Match, Reason, clean_name
from mobius_pipeline.imports.synthetic_read import Read
from mobius_pipeline.imports.synthetic_result import EndpointResult, Unmatched
from mobius_pipeline.imports.tally import Latencies, Name, Tally

__all__ = ["endpoints_of", "unmatched_of"]

_SHARES: Final = (0.5, 0.95, 0.99)


def endpoints_of(
    read: Read, matches: Mapping[Name, Match], service: str | None
) -> tuple[EndpointResult, ...]:
    """Return the run's endpoints; names that mean the same one are put together where requests are known."""
    if read.reported is not None:
        return tuple(
            EndpointResult(
                method=(match := matches[e.method, e.name]).method,
                route=match.route,
                name=e.name,
                service=service or match.service,
                requests=e.requests,
                failed=e.failed,
                p50_ms=e.p50_ms,
                p95_ms=e.p95_ms,
                p99_ms=e.p99_ms,
                levels_ms={f"{share:g}": ms for share, ms in sorted(e.levels.items())} or None,
            )
            for e in read.reported.endpoints
        )
    groups: dict[tuple[str, str, str | None], list[Name]] = {}
    for name, match in matches.items():
        groups.setdefault((match.method, match.route, service or match.service), []).append(name)
    return tuple(
        _endpoint(read.tally, key, names) for key, names in sorted(groups.items(), key=repr)
    )


def _endpoint(
    tally: Tally, key: tuple[str, str, str | None], names: Sequence[Name]
) -> EndpointResult:
    lines = [tally.lines[name] for name in names]
    latencies = lines[0].latencies
    if len(lines) > 1:
        latencies = Latencies()
        for line in lines:
            latencies.update(line.latencies)
    p50, p95, p99 = (None if v is None else round(v, 4) for v in latencies.quantiles(_SHARES))
    return EndpointResult(
        method=key[0],
        route=key[1],
        name=names[0][1] if len(names) == 1 else None,
        service=key[2],
        requests=sum(line.requests for line in lines),
        failed=sum(line.failed for line in lines),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
    )


def unmatched_of(
    lines: Mapping[Name, tuple[int, int]],
    matches: Mapping[Name, Match],
    run: str,
    rules: str | None,
) -> tuple[Unmatched, ...]:
    """Return the names that mean no endpoint of production, those with the most requests first.

    ``run`` and ``rules`` (the path of the rules file) stand in the commands that fix them.
    """
    counts: Counter[tuple[Any, ...]] = Counter()
    for name, match in matches.items():
        if match.reason is not None:
            text = clean_name(*name)[1]
            key = (match.method, text, match.route, match.reason, match.closest)
            counts[key] += lines[name][0]
    return tuple(
        Unmatched(
            method, name, route, requests, reason, closest, _fix(run, rules, name, reason, closest)
        )
        for (method, name, route, reason, closest), requests in counts.most_common()
    )


def _fix(run: str, rules: str | None, name: str, reason: Reason, closest: str | None) -> str | None:
    """The command that says what a name means; the endpoint in it is the closest one, or left to fill in."""
    if reason == "no_production_template":
        return None  # there is nothing yet that it could mean
    endpoint = closest.split(" | ")[0] if closest else "METHOD /ROUTE"
    command = [
        "mobius-rum",
        "import",
        "remap",
        run,
        "--rules",
        rules or "routes.toml",
        "--add",
        name,
        endpoint,
    ]
    return shlex.join(command)

"""The command ``explain``: one endpoint, and why its test tells the truth or not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final

import typer

from mobius_pipeline.config import load_config, pick_zones
from mobius_pipeline.errors import UsageError
from mobius_pipeline.options import (
    ConfigOption,
    JsonOption,
    SinceOption,
    UntilOption,
    ZoneOption,
    parse_stretch,
    print_json,
)

if TYPE_CHECKING:
    from mobius_analysis.cells import CorrelationResult
    from mobius_analysis.correlate import Cell
    from mobius_analysis.matching import Match
    from mobius_instrumentation.zones import Zone

__all__ = ["MatchOption", "explain", "parse_match", "split_endpoint"]


MatchOption = Annotated[
    str,
    typer.Option(
        "--match",
        help="Compare with production's minutes of the tests' hours of day (hour), of like load (load), or all (none).",
    ),
]


def parse_match(text: str) -> Match:
    """Read how production is matched.

    Raises
    ------
    UsageError
        There is no such way.
    """
    from mobius_analysis.matching import MATCHES

    found = next((one for one in MATCHES if one == text.strip().lower()), None)
    if found is None:
        raise UsageError(f"{text!r} is none of {', '.join(MATCHES)}", field="--match")
    return found


@dataclass(frozen=True, slots=True)
class _Question:
    endpoint: str
    region: str | None
    service: str | None
    environment: str | None
    match: Match


_METHOD: Final = re.compile(r"[A-Za-z_]+(?= )")
_LISTED: Final = 8


def explain(
    *,
    endpoint: Annotated[
        str, typer.Argument(help="Method and route, such as 'GET /search', or the route alone.")
    ],
    region: Annotated[
        str | None, typer.Option("--region", help="Region; needed where there are several.")
    ] = None,
    service: Annotated[
        str | None, typer.Option("--service", help="Service; needed where several have the route.")
    ] = None,
    since: SinceOption = "24h",
    until: UntilOption = None,
    zone: ZoneOption = None,
    environment: Annotated[
        str | None,
        typer.Option("--environment", help="Only this deployment environment.", show_default=False),
    ] = None,
    match: MatchOption = "none",
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Say of one endpoint where its test differs from production, and what explains it."""
    from mobius_analysis.endpoint_detail import load_detail
    from mobius_analysis.explain_tables import print_detail
    from mobius_analysis.rollup import Only, Window
    from mobius_pipeline.store import Purpose, connect

    now = datetime.now(UTC)
    begin, end = parse_stretch(since, until, now)
    if end - begin < timedelta(minutes=1):
        raise UsageError(
            "the time from --since to --until is shorter than a minute", field="--since"
        )
    way = parse_match(match)
    zones = pick_zones(load_config(config), zone)
    home, result, cell = _find(
        zones, _Question(endpoint, region, service, environment, way), (begin, end)
    )
    subject = Only(*cell.subject, environment=environment or "")
    client = connect(home, Purpose.ANALYSIS)
    try:
        document = load_detail(
            client, home, subject, Window.of(begin, end), match=way, result=result
        )
    finally:
        client.close()
    if json:
        print_json(document)
    else:
        print_detail(document)


def _find(
    zones: Sequence[Zone], asked: _Question, times: tuple[datetime, datetime]
) -> tuple[Zone, CorrelationResult, Cell]:
    """Compare the zones' endpoints, and pick the one that is meant.

    Raises
    ------
    UsageError
        None is meant, or several are: the error lists them.
    """
    from mobius_analysis.cells import load_cells
    from mobius_pipeline.store import Purpose, connect

    method, route = split_endpoint(asked.endpoint)
    homes = [one for one in zones if asked.region is None or asked.region in one.regions]
    if not homes:
        known = ", ".join(sorted(name for one in zones for name in one.regions))
        raise UsageError(
            f"no zone has the region {asked.region!r}; known: {known}", field="--region"
        )
    found: list[tuple[Zone, CorrelationResult, Cell]] = []
    for home in homes:
        client = connect(home, Purpose.ANALYSIS)
        try:
            result = load_cells(
                client, home, *times, environment=asked.environment, match=asked.match
            )
        finally:
            client.close()
        found += [(home, result, cell) for cell in result.cells]
    meant = [
        one
        for one in found
        if one[2].route == route
        and (method is None or one[2].method.lower() == method.lower())
        and asked.region in (None, one[2].region)
        and asked.service in (None, one[2].service)
    ]
    if len(meant) == 1:
        return meant[0]
    raise _not_one(asked.endpoint, [cell for _, _, cell in meant], [cell for _, _, cell in found])


def split_endpoint(endpoint: str) -> tuple[str | None, str]:
    """Split 'GET /search' into method and route; the method is None where there is none."""
    text = endpoint.strip()
    found = _METHOD.match(text)
    if found is None:
        return None, text
    return found[0], text[found.end() :].strip()


def _not_one(endpoint: str, meant: list[Cell], known: list[Cell]) -> UsageError:
    if meant:
        names = sorted({f"--region {cell.region} --service {cell.service}" for cell in meant})
        return UsageError(
            f"{endpoint!r} means {len(meant)} endpoints; say which: {_some(names)}",
            field="--region",
        )
    names = sorted({f"{cell.method} {cell.route}" for cell in known})
    if not names:
        return UsageError("no traffic in this time, neither users nor tests; try a longer --since")
    return UsageError(f"no endpoint {endpoint!r} in this time; known: {_some(names)}")


def _some(names: list[str]) -> str:
    rest = len(names) - _LISTED
    return "; ".join(names[:_LISTED]) + (f"; and {rest:,} more" if rest > 0 else "")

"""The command `mobius-rum import remap`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mobius_pipeline.config import load_config
from mobius_pipeline.errors import UsageError
from mobius_pipeline.options import ConfigOption, JsonOption, ZoneOption, print_json

if TYPE_CHECKING:
    from mobius_pipeline.imports.remap import Remapped

__all__ = ["remap"]


def remap(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Runs that are imported already.")
    ],
    *,
    rules: Annotated[
        Path | None,
        typer.Option(
            "--rules", help="TOML file that says which routes names mean.", show_default=False
        ),
    ] = None,
    add: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--add",
            metavar="NAME ENDPOINT",
            help="Write first into the rules file what a name means: 'search' 'GET /search'.",
            show_default=False,
        ),
    ] = None,
    zone: ZoneOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Give runs that are imported already the routes of today's production and rules. Nothing counts twice."""
    from mobius_pipeline.imports.remap import remap as remap_runs
    from mobius_pipeline.imports.rule_file import add_rule

    zones = load_config(config)
    chosen = [each for each in zones if zone in (None, each.name)]
    if not chosen:
        raise UsageError(
            f"no zone {zone!r}; known: {', '.join(sorted(zones.zones))}", field="--zone"
        )
    if add is not None:
        if rules is None:
            raise UsageError("say which file it is to be written into", field="--rules")
        add_rule(rules, *add)
    results = remap_runs(chosen, runs, rules)
    if json:
        print_json({"runs": [result.document() for result in results]})
    else:
        sys.stdout.write("".join(_text(result) for result in results))


def _text(result: Remapped) -> str:
    lines = [f"run {result.run} in zone {result.zone}: {result.requests_moved:,} requests moved"]
    lines += [
        f"  {c.name}: {c.method} {c.route} -> {c.to_method} {c.to_route} ({c.requests:,} requests)"
        for c in result.changes
    ]
    for one in result.unmatched:
        lines.append(
            f"  no production endpoint for {one.method} {one.name} ({one.requests:,} requests)"
        )
        lines += [f"    fix: {one.fix}"] if one.fix else []
    return "\n".join(lines) + "\n"

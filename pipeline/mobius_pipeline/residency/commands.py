"""``mobius-rum residency``: check the policy, explain what a viewer sees, write it as SQL, list who read rows, erase, sum up."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from mobius_pipeline.config import find_zones_file, load_config, pick_zones
from mobius_pipeline.errors import UsageError
from mobius_pipeline.options import (
    ConfigOption,
    JsonOption,
    SinceOption,
    UntilOption,
    ZoneOption,
    format_time,
    parse_stretch,
    print_json,
)
from mobius_pipeline.residency.erase_commands import erase
from mobius_pipeline.residency.retention_commands import apply
from mobius_pipeline.residency.status_commands import status

if TYPE_CHECKING:
    from mobius_pipeline.residency.policy import Policy
    from mobius_pipeline.residency.sight import PlaceSight

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("check")(check)
    app.command("explain")(explain)
    app.command("sql")(sql)
    app.command("erase")(erase)
    app.command("audit")(audit)
    app.command("apply")(apply)
    app.command("status")(status)


def check(*, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Print the policy that holds; fail, with file and key, where zones.toml contradicts itself."""
    from mobius_pipeline.residency.contradictions import load_policy, remarks
    from mobius_pipeline.residency.policy import PolicyError

    file = find_zones_file(config)
    try:
        policy = load_policy(file)
    except PolicyError as error:
        if json:
            problems = [each.model_dump() for each in error.problems]
            print_json({"file": str(file), "valid": False, "problems": problems})
        for each in error.problems:
            typer.echo(f"mobius-rum: {file}: {each.key}: {each.problem}", err=True)
        raise typer.Exit(error.exit_code) from None
    notes = remarks(policy)
    if json:
        print_json(
            {
                "file": str(file),
                "valid": True,
                "problems": [],
                "remarks": [each.model_dump() for each in notes],
                "policy": policy.model_dump(mode="json"),
            }
        )
        return
    typer.echo(f"{file}: valid")
    _print_table(policy)
    for each in notes:
        typer.echo(f"note: {each.key}: {each.problem}")


def explain(
    *,
    viewer: Annotated[str, typer.Option("--viewer", help="Who looks, by name.")],
    group: Annotated[
        list[str] | None,
        typer.Option(
            "--group",
            help="A group that the viewer's login brings, besides those of [viewers]; may be repeated.",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Say what a viewer sees by the policy, what not, and by which rule."""
    from mobius_pipeline.residency.contradictions import load_policy
    from mobius_pipeline.residency.sight import see

    file = find_zones_file(config)
    found = see(load_policy(file), viewer, group or ())
    if json:
        print_json({"file": str(file), **asdict(found)})
        return
    typer.echo(f"{found.viewer}: groups {', '.join(found.groups) or 'none'}")
    for name in found.unknown_groups:
        typer.echo(f"group {name!r} is not in {file}: it gives nothing")
    for place in found.places:
        _print_place(place)


def sql(
    *,
    zone: Annotated[str, typer.Option("--zone", help="Zone whose store the statements are for.")],
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Write a zone's policy as ClickHouse SQL (roles, grants, row policies, limits); run nothing."""
    from mobius_pipeline.residency.contradictions import load_policy
    from mobius_pipeline.residency.sql import policy_statements

    file = find_zones_file(config)
    policy = load_policy(file)
    if zone not in policy.zones:
        known = ", ".join(policy.zones)
        raise UsageError(f"no zone {zone!r} in {file}; known: {known}", field="--zone")
    statements = policy_statements(policy, zone)
    if json:
        print_json({"file": str(file), "zone": zone, "statements": statements})
        return
    typer.echo("".join(f"{each};\n" for each in statements), nl=False)


def audit(
    *,
    viewer: Annotated[
        str | None,
        typer.Option(
            "--viewer",
            help="Only reads of this name, or of this subject of a login.",
            show_default=False,
        ),
    ] = None,
    since: SinceOption = "7d",
    until: UntilOption = None,
    zone: ZoneOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """List who read single requests, which and why, the newest first; each zone keeps its own list."""
    from mobius_pipeline.residency.audit import load_reads

    begin, end = parse_stretch(since, until, datetime.now(UTC))
    zones = pick_zones(load_config(config), zone)
    found = [read for each in zones for read in load_reads(each, begin, end, viewer or "")]
    found.sort(key=lambda read: read.at, reverse=True)
    if json:
        print_json({"since": begin, "until": end, "reads": [asdict(read) for read in found]})
        return
    for read in found:
        who = f"{read.viewer} ({read.subject})" if read.subject else read.viewer
        rows = " ".join(f"{name}={value}" for name, value in read.rows.items())
        why = f": {read.reason}" if read.reason else ""
        typer.echo(f"{format_time(read.at)}  {read.zone}  {who}  {read.action} {rows}{why}")
    typer.echo(f"{len(found):,} reads")


def _print_place(place: PlaceSight) -> None:
    typer.echo(f"{place.place}: {place.level or 'nothing'}")
    for rule in place.because:
        typer.echo(f"  because {rule}")
    if place.level is not None:
        typer.echo(f"  sees {', '.join(place.tables)}")
        if place.least_subjects is not None:
            typer.echo(f"  cells of at least {place.least_subjects} people")
    if place.hidden:
        typer.echo(f"  hidden {', '.join(place.hidden)}")
    if place.reason_for_rows:
        typer.echo("  asked for a reason before rows are read")


def _print_table(policy: Policy) -> None:
    from rich.console import Console
    from rich.table import Table

    from mobius_pipeline.residency.effective import effective_lines

    table = Table("place", "key", "value", "from", box=None, pad_edge=False)
    for line in effective_lines(policy):
        table.add_row(line.place, line.key, line.value, line.origin)
    Console(markup=False, highlight=False).print(table)

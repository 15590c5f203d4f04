"""``mobius-rum quarantine``: list, release. Libraries load when they run."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mobius_pipeline.config import find_zones_file, load_config, pick_zones
from mobius_pipeline.errors import UsageError
from mobius_pipeline.options import ConfigOption, JsonOption, ZoneOption, format_time, print_json
from mobius_pipeline.system_user import system_user

if TYPE_CHECKING:
    from mobius_pipeline.quarantine_review import Held

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("list")(list_held)
    app.command("release")(release_held)


def list_held(
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many of the newest.")] = 100,
    zone: ZoneOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """List spans that arrived in a zone and belong to another or to none, the newest last."""
    from mobius_pipeline.quarantine_review import find_held

    found = {each.name: find_held(each) for each in pick_zones(load_config(config), zone)}
    if json:
        zones = {
            name: {"total": len(held), "held": [_document(each) for each in held[-limit:]]}
            for name, held in found.items()
        }
        print_json({"zones": zones})
        return
    for name, held in found.items():
        typer.echo(f"{name}: {sum(each.spans for each in held):,} spans of {len(held):,} messages")
        for each in held[-limit:]:
            typer.echo(
                f"  {each.id}  {format_time(each.at)}  {each.spans:,} spans of {each.service or '(no service)'}, region"
                f" {each.region or '(none)'}, {each.state}: {each.reason}"
            )


def release_held(
    *,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Which, as `list` prints them.")
    ] = None,
    zone: Annotated[str, typer.Option("--zone", help="Zone whose quarantine it is.")],
    as_region: Annotated[
        str, typer.Option("--as-region", help="Region of this zone that the spans are to have.")
    ],
    reason: Annotated[str, typer.Option("--reason", help="Why, for the zone's audit log.")],
    region: Annotated[
        str | None,
        typer.Option(
            "--region", help="All that named this region; '' for none.", show_default=False
        ),
    ] = None,
    service: Annotated[
        str | None,
        typer.Option("--service", help="All of this service, of those.", show_default=False),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be released; change nothing.")
    ] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Release what was quarantined into the same zone, each at most once, after somebody has looked at it."""
    from mobius_pipeline.quarantine_review import find_held, release, require_own_region
    from mobius_pipeline.residency.audit import RowRead, record_read

    (chosen_zone,) = pick_zones(load_config(find_zones_file(config)), zone)
    chosen = _chosen(find_held(chosen_zone), names or [], region, service)
    require_own_region(chosen_zone, as_region)  # before anything is written
    if not dry_run:
        what = {"as_region": as_region, "released": " ".join(each.id for each in chosen)[:4_000]}
        read = RowRead(system_user(), "", "quarantine_release", what, reason)
        record_read(chosen_zone, read, reason_needed=True)
    done = release(chosen_zone, chosen, as_region, dry_run=dry_run)
    if json:
        print_json({"zone": zone, "dry_run": dry_run, "as_region": as_region, **asdict(done)})
        return
    verb = "would release" if dry_run else "released"
    typer.echo(
        f"{zone}: {verb} {len(done.released):,} as {as_region}; {len(done.already):,} were before, "
        f"{len(done.interrupted):,} were interrupted (published or not: look for the header release-of)"
    )


def _chosen(
    held: list[Held], names: list[str], region: str | None, service: str | None
) -> list[Held]:
    if not names and region is None and service is None:
        raise UsageError("say which: ids, --region or --service", field="ID")
    if unknown := set(names) - {each.id for each in held}:
        raise UsageError(f"nothing of id {min(unknown)} is in the quarantine", field="ID")
    return [
        each
        for each in held
        if (not names or each.id in names)
        and region in {None, each.region}
        and service in {None, each.service}
    ]


def _document(held: Held) -> dict[str, Any]:
    return {"id": held.id, **asdict(held)}

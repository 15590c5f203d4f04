"""The command ``residency export``. Libraries load when it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from mobius_analysis.lengths import parse_length
from mobius_pipeline.config import load_config, pick_zones
from mobius_pipeline.options import (
    ConfigOption,
    JsonOption,
    SinceOption,
    ZoneOption,
    format_time,
    parse_time,
    print_json,
    progress,
)

if TYPE_CHECKING:
    from mobius_analysis.hub_job import ExportedHour
    from mobius_instrumentation.zones import Zone, Zones

__all__ = ["export_by_policy", "export_line", "register"]


def register(app: typer.Typer) -> None:
    """Add ``export`` to the group ``residency`` of ``app``, which is made where it is missing."""
    group = next(
        (each.typer_instance for each in app.registered_groups if each.name == "residency"), None
    )
    if group is None:
        group = typer.Typer()
        app.add_typer(group, name="residency")
    group.command("export")(export)


def export(
    *,
    since: SinceOption = "7d",
    delay: Annotated[
        str,
        typer.Option(
            "--delay",
            help="How long after its end an hour is complete; what comes later stays in the zone.",
        ),
    ] = "1h",
    zone: ZoneOption = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Export finished hours of the rollup to the hub, each once; cells of few people stay, and what gives them away."""
    now = datetime.now(UTC)
    begin, length = parse_time(since, now, field="--since"), parse_length(delay, "--delay")
    zones = load_config(config)
    chosen = pick_zones(zones, zone)
    done: dict[str, tuple[ExportedHour, ...]] = {}
    with progress("Exporting hours") as advance:
        for each in chosen:
            done[each.name] = export_by_policy(
                zones, each, since=begin, now=now, delay=length, watch=advance
            )
    if json:
        found = {name: [asdict(hour) for hour in hours] for name, hours in done.items()}
        print_json({"hub": zones.hub.database if zones.hub else None, "zones": found})
        return
    if zones.hub is None:
        typer.echo(f"{zones.file} has no [hub]: nothing leaves a zone")
        return
    for name, hours in done.items():
        typer.echo(export_line(name, hours))


def export_line(zone: str, hours: tuple[ExportedHour, ...]) -> str:
    """Say in one line what an export did."""
    if not hours:
        return f"{zone}: no hour to export"
    sent, cells = sum(each.sent_cells for each in hours), sum(each.account.cells for each in hours)
    totals = sum(each.sent_totals for each in hours)
    all_totals = sum(each.account.totals for each in hours)
    by = " and ".join(sorted({each.counted_by for each in hours}))
    return (
        f"{zone}: {len(hours)} hours from {format_time(hours[0].hour)} on: {sent:,} of {cells:,} cells and "
        f"{totals:,} of {all_totals:,} totals sent, counted by {by}"
    )


def export_by_policy(
    zones: Zones,
    zone: Zone,
    *,
    since: datetime,
    now: datetime,
    delay: timedelta = timedelta(hours=1),
    watch: Callable[[int], None] = lambda _hours: None,
) -> tuple[ExportedHour, ...]:
    """Export ``zone`` as the policy beside the map allows; nothing without a hub, or where the rollup may not cross.

    Raises
    ------
    PolicyError
        The policy contradicts itself; nothing is exported by it.
    """
    from mobius_analysis.hub_job import export_zone
    from mobius_pipeline.residency.contradictions import load_policy

    rules = load_policy(zones.file).zones[zone.name].to_hub
    if zones.hub is None or "latency_minute" not in rules.tables:
        return ()
    return export_zone(zone, zones.hub, rules, since=since, now=now, delay=delay, watch=watch)

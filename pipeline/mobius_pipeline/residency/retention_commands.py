"""The command ``residency apply``. Libraries load when it runs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Final

import typer

from mobius_pipeline.config import load_config, pick_zones
from mobius_pipeline.options import ConfigOption, JsonOption, ZoneOption, print_json

if TYPE_CHECKING:
    from mobius_instrumentation.zones import Zone
    from mobius_pipeline.residency.policy import Policy
    from mobius_pipeline.residency.retention import Kept

__all__ = ["apply"]

_ALTER_SECONDS: Final = 3_600.0


def apply(
    *,
    zone: ZoneOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be run; change nothing.")
    ] = False,
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster", help="Change tables ON CLUSTER of this name.", show_default=False
        ),
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Have each zone's store keep rows as long as zones.toml says: sets the tables' TTL."""
    from mobius_pipeline.residency.contradictions import load_policy

    zones = load_config(config)
    policy = load_policy(zones.file)
    found = {
        each.name: _kept(each, policy, cluster, dry_run=dry_run) for each in pick_zones(zones, zone)
    }
    if json:
        rows = {name: [asdict(kept) for kept in tables] for name, tables in found.items()}
        print_json({"dry_run": dry_run, "zones": rows})
        return
    for name, tables in found.items():
        for kept in tables:
            typer.echo(f"{name}: {kept.table}: {_said(kept, dry_run=dry_run)}")


def _kept(zone: Zone, policy: Policy, cluster: str | None, *, dry_run: bool) -> tuple[Kept, ...]:
    from mobius_pipeline.migration_files import Target
    from mobius_pipeline.residency.retention import apply_retention, load_retention
    from mobius_pipeline.store import Purpose, connect, store_errors

    run = load_retention if dry_run else apply_retention
    client = connect(zone, Purpose.MIGRATE, timeout_seconds=_ALTER_SECONDS)
    try:
        with store_errors(zone):
            return run(
                client, Target(zone.database, cluster), policy.zones[zone.name].retention.days()
            )
    finally:
        client.close()


def _said(kept: Kept, *, dry_run: bool) -> str:
    now = _days(kept.declared_days)
    if kept.foreign:
        return f"left alone, its TTL is not of this policy: {kept.foreign}"
    if kept.statement is None:
        return f"kept {now}"
    if dry_run:
        return f"kept {_days(kept.store_days)}, would be {now}: {kept.statement}"
    return f"kept {_days(kept.store_days)} so far, from now on {now}"


def _days(days: int | None) -> str:
    return "for ever" if days is None else f"{days:,} days"

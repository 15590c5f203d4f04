"""``mobius-rum residency status``: what crossed the borders of each zone, and what was kept from it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from mobius_pipeline.config import load_config, pick_zones
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
    from mobius_instrumentation.zones import Zone

__all__ = ["status"]


def status(
    *,
    since: SinceOption = "24h",
    until: UntilOption = None,
    zone: ZoneOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Say what was sent to the hub and held back, removed, quarantined, and read by whom, zone by zone."""
    begin, end = parse_stretch(since, until, datetime.now(UTC))
    zones = pick_zones(load_config(config), zone)
    accounts = {each.name: _account(each, begin, end) for each in zones}
    if json:
        print_json({"since": begin, "until": end, "zones": accounts})
        return
    for name, account in accounts.items():
        _tell(name, account)


def _account(zone: Zone, since: datetime, until: datetime) -> dict[str, Any]:
    from mobius_pipeline.residency.account import (
        load_exported_hours,
        load_quarantined,
        load_reads_by_viewer,
        load_removed,
    )
    from mobius_pipeline.store import Purpose, connect, store_errors

    client = connect(zone, Purpose.ANALYSIS)
    try:
        with store_errors(zone):
            return {
                "exported_hours": [asdict(x) for x in load_exported_hours(client, since, until)],
                "quarantined": [asdict(x) for x in load_quarantined(client, since, until)],
                "removed": [asdict(x) for x in load_removed(client, since, until)],
                "reads": [asdict(x) for x in load_reads_by_viewer(client, since, until)],
            }
    finally:
        client.close()


def _tell(zone: str, account: dict[str, Any]) -> None:
    hours = account["exported_hours"]
    sums = {
        key: sum(hour[key] for hour in hours)
        for key in ("sent_cells", "sent_totals", "small_cells", "small_totals", "hidden_beside")
    }
    typer.echo(f"{zone}: {len(hours):,} hours exported to the hub")
    typer.echo(f"  sent {sums['sent_cells']:,} cells, {sums['sent_totals']:,} totals")
    typer.echo(
        f"  held back {sums['small_cells']:,} cells and {sums['small_totals']:,} totals that were too small,"
        f" {sums['hidden_beside']:,} that would have given one away"
    )
    for each in account["quarantined"]:
        named = f" ({each['region']})" if each["region"] else ""
        typer.echo(f"  quarantined {each['spans']:,} spans: {each['reason']}{named}")
    for each in account["removed"]:
        typer.echo(
            f"  {each['attributes']:,} attributes removed by the {each['remover']} from {each['spans']:,} spans of"
            f" {each['service'] or '(no service)'} in {each['region'] or '(no region)'}"
        )
    for each in account["reads"]:
        typer.echo(
            f"  {each['viewer']} read single requests {each['reads']:,} times: {each['action']}"
        )

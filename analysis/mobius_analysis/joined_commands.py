"""The command ``join``. Libraries load when it runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mobius_pipeline.config import load_config, pick_zones
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

if TYPE_CHECKING:
    import polars as pl
    from clickhouse_connect.driver.client import Client

    from mobius_instrumentation.zones import Zone
    from mobius_pipeline.joining.runs import TestRun

__all__ = ["join"]

_MOST_SLACK = timedelta(days=1)

RunOption = Annotated[
    str | None, typer.Option("--run", help="Only this run, however old it is.", show_default=False)
]


def join(
    *,
    run: RunOption = None,
    refuse: Annotated[
        bool,
        typer.Option("--refuse", help="Give the run's server spans back to production, for good."),
    ] = False,
    allow: Annotated[
        bool, typer.Option("--allow", help="Take a refusal of the run back, and join it.")
    ] = False,
    slack: Annotated[
        str,
        typer.Option("--slack", help="How far the clocks of load tool and services may be apart."),
    ] = "60s",
    since: SinceOption = "48h",
    until: UntilOption = None,
    zone: ZoneOption = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Join test runs with their server spans by trace id: spans leave production, and time is split into its parts.

    Does the runs from --since to --until and all that were imported within two days; doing it again adds what arrived
    since.
    """
    from mobius_analysis.joined_tables import print_joined

    now = datetime.now(UTC)
    begin, end = parse_stretch(since, until, now)
    if (refuse or allow) and (run is None or (refuse and allow)):
        raise UsageError("goes with --run, and not with the other", field="--refuse or --allow")
    tolerance = _slack(slack)
    zones = pick_zones(load_config(config), zone)
    found = [
        _join_zone(one, run, (begin, end), tolerance, refused=refuse if refuse or allow else None)
        for one in zones
    ]
    if run is not None and not any(runs for runs, _ in found):
        names = ", ".join(one.name for one in zones)
        raise UsageError(f"no run {run!r} was imported into {names}", field="--run")
    document = _document([(one.name, *each) for one, each in zip(zones, found, strict=True)])
    if json:
        print_json(document)
    else:
        print_joined(document)


def _slack(text: str) -> timedelta:
    from mobius_analysis.lengths import parse_length

    slack = parse_length(text, "--slack")
    if slack > _MOST_SLACK:
        raise UsageError(
            "is over a day: a clock that is so far off names other spans", field="--slack"
        )
    return slack


def _join_zone(
    zone: Zone,
    name: str | None,
    between: tuple[datetime, datetime],
    slack: timedelta,
    *,
    refused: bool | None,
) -> tuple[list[dict[str, Any]], pl.DataFrame]:
    """Join the runs of one zone; return them as documents, and their requests."""
    from mobius_analysis.joined_load import load_joined
    from mobius_pipeline.imports.zone_store import open_store
    from mobius_pipeline.joining.join import take_back
    from mobius_pipeline.joining.runs import refuse

    with open_store(zone) as client:
        runs = _runs(client, name, between)
        if refused is not None and runs:
            refuse(client, runs[0].run, refused=refused)
            runs = _runs(client, name, between)
            if refused:
                take_back(client, runs[0].run)
        joined, frame = load_joined(client, runs, slack=slack)
    documents = [
        {
            "zone": zone.name,
            "test": run.test,
            "start": format_time(run.start),
            "end": format_time(run.end),
            **one.document(),
        }
        for run, one in zip(runs, joined, strict=True)
    ]
    return documents, frame


def _runs(client: Client, name: str | None, between: tuple[datetime, datetime]) -> list[TestRun]:
    from mobius_pipeline.joining.runs import find_run, pending_runs, runs_between

    if name is not None:
        one = find_run(client, name)
        return [] if one is None else [one]
    runs = {run.run: run for run in (*runs_between(client, *between), *pending_runs(client))}
    return sorted(runs.values(), key=lambda run: (run.start, run.run))


def _document(found: list[tuple[str, list[dict[str, Any]], pl.DataFrame]]) -> dict[str, Any]:
    import polars as pl

    from mobius_analysis.joined import split, split_document

    overall = split_document(split(pl.concat([frame for _, _, frame in found])))["overall"]
    return {
        "runs": [run for _, runs, _ in found for run in runs],
        "overall": overall,
        "endpoints": [
            {"zone": zone, **endpoint}
            for zone, _, frame in found
            for endpoint in split_document(split(frame))["endpoints"]
        ],
    }

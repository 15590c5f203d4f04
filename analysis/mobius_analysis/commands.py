"""The commands of this part, mounted: here ``correlate`` and ``schedule``. Libraries load when one of them runs."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import typer

from mobius_analysis import gate_commands, hub_commands, parity_commands
from mobius_analysis.explain_commands import MatchOption, explain, parse_match
from mobius_analysis.joined_commands import join
from mobius_analysis.lengths import parse_length
from mobius_analysis.suite_commands import suite
from mobius_instrumentation.zones import Zone
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
    progress,
)

__all__ = ["register"]

_MOST_WINDOWS: Final = 1000

WindowOption = Annotated[
    str | None,
    typer.Option(
        "--window", help="Cut the time into windows of this length (1h); one window when left out."
    ),
]
EnvironmentOption = Annotated[
    str | None,
    typer.Option("--environment", help="Only this deployment environment.", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Mount this part's commands on ``app``."""
    app.command()(correlate)
    app.command()(explain)
    app.command()(schedule)
    app.command()(join)
    gate_commands.register(app)
    parity_commands.register(app)
    hub_commands.register(app)
    app.command()(suite)


def correlate(
    *,
    since: SinceOption = "24h",
    until: UntilOption = None,
    zone: ZoneOption = None,
    window: WindowOption = None,
    environment: EnvironmentOption = None,
    match: MatchOption = "none",
    save: Annotated[
        bool, typer.Option("--save/--no-save", help="Keep cells and findings in the store.")
    ] = True,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Say whether synthetic tests told the truth about production, endpoint by endpoint.

    With --match nothing is saved: findings are those of the whole production.
    """
    from mobius_analysis.cells import merge_documents
    from mobius_analysis.jobs import run_job
    from mobius_analysis.tables import print_results

    now = datetime.now(UTC)
    begin, end = parse_stretch(since, until, now)
    length = None if window is None else parse_length(window, "--window")
    _check(begin, end, length)
    way = parse_match(match)
    zones = pick_zones(load_config(config), zone)
    results = []
    with progress("Comparing (%)", 100 * len(zones)) as advance:
        for one in zones:
            watch = _percent(advance)
            results.append(
                run_job(
                    one,
                    begin,
                    end,
                    now=now,
                    window=length,
                    environment=environment,
                    match=way,
                    save=save and way == "none",
                    watch=watch,
                )
            )
            watch(1.0)
    if json:
        print_json(merge_documents([result.correlation for result in results]))
    else:
        print_results(results)


def schedule(
    *,
    every: Annotated[
        str, typer.Option("--every", help="How often each job runs (60s, 5m).")
    ] = "60s",
    since: Annotated[
        str, typer.Option("--since", help="How far back each run looks (24h).")
    ] = "24h",
    zone: ZoneOption = None,
    config: ConfigOption = None,
) -> None:
    """Run the jobs regularly, in the foreground, until stopped; where there is a hub, export to it too."""
    from mobius_analysis.schedule import run_regularly

    seconds = parse_length(every, "--every")
    look_back = parse_length(since, "--since")
    zones = load_config(config)

    def export(one: Zone, now: datetime) -> str:
        done = hub_commands.export_by_policy(zones, one, since=now - look_back, now=now)
        return hub_commands.export_line(one.name, done)

    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    run_regularly(
        pick_zones(zones, zone),
        seconds,
        look_back,
        stop,
        log=sys.stderr,
        export=export if zones.hub else None,
    )


def _percent(advance: Callable[[int], None]) -> Callable[[float], None]:
    """Tell ``advance`` how many percent came since the last share of a whole that was done."""
    told = 0

    def watch(share: float) -> None:
        nonlocal told
        advance(int(100 * share) - told)
        told = int(100 * share)

    return watch


def _check(begin: datetime, end: datetime, length: timedelta | None) -> None:
    if end - begin < timedelta(minutes=1):
        raise UsageError(
            "the time from --since to --until is shorter than a minute", field="--since"
        )
    if length is None:
        return
    if length < timedelta(minutes=1) or length % timedelta(minutes=1):
        raise UsageError("a window has whole minutes", field="--window")
    if (end - begin) / length > _MOST_WINDOWS:
        raise UsageError(f"more than {_MOST_WINDOWS:,} windows: take longer ones", field="--window")

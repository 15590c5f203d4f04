"""`mobius-rum torture`: the command line of the fault campaign."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from mobius_infra.torture.faults import BrokerKind, TortureOptions, read_faults
from mobius_pipeline.options import JsonOption, print_json, progress

__all__ = ["torture"]


def torture(
    *,
    kills: Annotated[int, typer.Option("--kills", min=0, help="Kills in all.")] = 20,
    spans: Annotated[int, typer.Option("--spans", min=1000, help="Spans to produce.")] = 50_000,
    broker: Annotated[
        BrokerKind,
        typer.Option(
            "--broker", help="The embedded broker, or a real Apache Kafka (needs Java 17)."
        ),
    ] = "tansu",
    workers: Annotated[
        int, typer.Option("--workers", min=1, max=16, help="Workers that share the topic.")
    ] = 3,
    seed: Annotated[
        int | None,
        typer.Option("--seed", help="Gives the same plan and spans again.", show_default=False),
    ] = None,
    faults: Annotated[
        str | None,
        typer.Option(
            "--faults", metavar="LIST", help="Only these, separated by commas.", show_default=False
        ),
    ] = None,
    joins: Annotated[
        int, typer.Option("--joins", min=0, help="How often a worker comes; as often one leaves.")
    ] = 2,
    broker_kills: Annotated[
        int | None,
        typer.Option(
            "--broker-kills", min=0, help="How many kills hit the broker.", show_default=False
        ),
    ] = None,
    store_away: Annotated[
        float,
        typer.Option(
            "--store-away", min=0, metavar="SECONDS", help="Keep the store away so long, once."
        ),
    ] = 0.0,
    pauses: Annotated[
        int, typer.Option("--pauses", min=0, help="Pauses beyond the lease, of each kind.")
    ] = 1,
    lease_seconds: Annotated[
        float, typer.Option("--lease-seconds", min=1, help="As of `ingest`.")
    ] = 5.0,
    replay: Annotated[
        bool,
        typer.Option("--replay/--no-replay", help="Store the topic again and compare checksums."),
    ] = True,
    keep: Annotated[
        Path | None,
        typer.Option(
            "--keep", metavar="DIR", help="Work there, and leave it there.", show_default=False
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Kill and pause everything while spans flow, and compare each span at the end.

    Exits with 0 when nothing is lost, nothing is stored twice, and the rollup is exact; with 1 otherwise.
    """
    from mobius_infra.torture.running import run_torture

    options = TortureOptions(
        kills=kills,
        spans=spans,
        broker=broker,
        workers=workers,
        seed=time.time_ns() % 1_000_000 if seed is None else seed,
        faults=read_faults(faults),
        joins=joins,
        broker_kills=broker_kills,
        store_away_seconds=store_away,
        pauses=pauses,
        lease_seconds=lease_seconds,
        replay=replay,
        keep=keep,
    )
    with progress("spans stored", spans) as show:
        document = run_torture(options, _say, show)
    if json:
        print_json(document)
    else:
        for key, value in document.items():
            typer.echo(f"{key}: {value}")
    if not document["clean"]:
        raise typer.Exit(1)


def _say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S', time.gmtime())} {text}\n")
    sys.stderr.flush()

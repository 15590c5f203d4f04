"""`mobius-rum up`: the command line of the local stack."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mobius_infra.stack.folder import default_data_folder
from mobius_infra.stack.options import BrokerKind, StackOptions
from mobius_infra.stack.ports import DEFAULTS
from mobius_pipeline.errors import UsageError

__all__ = ["up"]


def _port(option: str, what: str) -> typer.models.OptionInfo:
    info: typer.models.OptionInfo = typer.Option(option, metavar="NUMBER", help=what)
    return info


def up(
    *,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", help="Data folder.  [default: ~/.local/share/mobius-rum]", show_default=False
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--for", metavar="SECONDS", help="Stop by itself so long after everything answered."
        ),
    ] = None,
    json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print one JSON document at the end; all else goes to standard error."
        ),
    ] = False,
    no_demo: Annotated[
        bool,
        typer.Option(
            "--no-demo", help="No demo services, no traffic, no synthetic runs, no history."
        ),
    ] = False,
    history: Annotated[
        float,
        typer.Option(
            "--history", metavar="HOURS", help="Length of the generated history; 0 for none."
        ),
    ] = 24.0,
    broker: Annotated[
        BrokerKind,
        typer.Option(
            "--broker",
            help="The embedded broker, in memory; or a real Apache Kafka, which keeps its data (needs Java 17).",
        ),
    ] = BrokerKind.EMBEDDED,
    dashboard_port: Annotated[int, _port("--dashboard-port", "Port of the dashboard.")] = DEFAULTS[
        "--dashboard-port"
    ],
    broker_port: Annotated[
        int, _port("--broker-port", "Port of the broker; Kafka's controller has the next.")
    ] = DEFAULTS["--broker-port"],
    store_port: Annotated[
        int, _port("--store-port", "Port of the hub's store; the zones' follow.")
    ] = DEFAULTS["--store-port"],
    demo_port: Annotated[
        int, _port("--demo-port", "First port of the demo services; there are six.")
    ] = DEFAULTS["--demo-port"],
    worker_port: Annotated[
        int, _port("--worker-port", "First port of the workers' health; there are two.")
    ] = DEFAULTS["--worker-port"],
) -> None:
    """Start the whole system here: broker, stores, workers, demo shop, jobs, dashboard.

    Ctrl-C stops all of it; a second Ctrl-C stops it at once.
    """
    if seconds is not None and not seconds > 0:
        raise UsageError(f"needs more than 0 seconds, not {seconds:g}", field="--for")
    if not 0 <= history <= 24 * 31:
        raise UsageError(f"takes 0 to 744 hours, not {history:g}", field="--history")
    from mobius_infra.stack.session import run

    options = StackOptions(
        data=data or default_data_folder(),
        seconds=seconds,
        json=json,
        demo=not no_demo,
        history_hours=history,
        broker=broker,
        dashboard_port=dashboard_port,
        broker_port=broker_port,
        store_port=store_port,
        demo_port=demo_port,
        worker_port=worker_port,
    )
    raise typer.Exit(run(options))

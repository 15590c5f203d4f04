"""The commands of this part: ``migrate``, ``ingest``, ``status``, ``import``."""

from __future__ import annotations

import logging
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer

from mobius_instrumentation.zones import Hub, Zone, Zones
from mobius_pipeline.config import find_zones_file, load_config, pick_zones
from mobius_pipeline.errors import DependencyError, UsageError
from mobius_pipeline.options import ConfigOption, JsonOption, ZoneOption, format_time, print_json

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add this part's commands to ``app``."""
    from mobius_pipeline.dead_letter_commands import register as register_dead_letters
    from mobius_pipeline.imports.commands import register as register_imports
    from mobius_pipeline.quarantine_commands import register as register_quarantine
    from mobius_pipeline.residency.commands import register as register_residency

    app.command("migrate")(migrate)
    app.command("ingest")(ingest)
    app.command("status")(status)
    imports = typer.Typer(
        no_args_is_help=True, help="Import files of spans, or of a test tool's results."
    )
    register_imports(imports)
    app.add_typer(imports, name="import")
    letters = typer.Typer(
        no_args_is_help=True, help="Messages that could not be stored: look, and publish again."
    )
    register_dead_letters(letters)
    app.add_typer(letters, name="dead-letters")
    quarantine = typer.Typer(
        no_args_is_help=True, help="Spans of another zone's region, or of none: look, and release."
    )
    register_quarantine(quarantine)
    app.add_typer(quarantine, name="quarantine")
    residency = typer.Typer(
        no_args_is_help=True,
        help="Where data may be, and who may see them: check and explain zones.toml.",
    )
    register_residency(residency)
    app.add_typer(residency, name="residency")


def migrate(
    *,
    zone: ZoneOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be run; change nothing.")
    ] = False,
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster", help="Make replicated tables ON CLUSTER of this name.", show_default=False
        ),
    ] = None,
    topics: Annotated[
        bool, typer.Option("--topics/--no-topics", help="Make missing Kafka topics too.")
    ] = True,
    partitions: Annotated[
        int, typer.Option("--partitions", min=1, help="Partitions of a new spans topic.")
    ] = 2,
    replication: Annotated[
        int, typer.Option("--replication", min=1, help="Replicas of a new topic.")
    ] = 1,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Bring stores to this version's schema, and make missing topics; nothing happens where nothing is missing."""
    from mobius_pipeline.kafka_client import ensure_topics
    from mobius_pipeline.migrate import migrate as run

    zones = load_config(config)
    chosen = pick_zones(zones, zone)
    stores: list[Zone | Hub] = [*chosen, *([zones.hub] if zones.hub and zone is None else [])]
    reports = [run(store, dry_run=dry_run, cluster=cluster) for store in stores]
    if topics and not dry_run:
        for each in chosen:
            ensure_topics(each, partitions=partitions, replication=replication)
    if json:
        print_json({"stores": {report.store: _report_document(report) for report in reports}})
        return
    for report in reports:
        verb = "would apply" if dry_run else "applied"
        done = ", ".join(f"{step.version:04}_{step.name}" for step in report.steps) or "nothing"
        typer.echo(
            f"{report.store} ({report.database}): {verb} {done}; schema version {report.version}"
        )
        if dry_run:
            for step in report.steps:
                typer.echo("\n\n".join(f"{statement};" for statement in step.statements))


def _report_document(report: Any) -> dict[str, Any]:
    return {
        "database": report.database,
        "version": report.version,
        "steps": [
            {
                "version": step.version,
                "name": step.name,
                "applied": step.applied,
                "statements": list(step.statements),
            }
            for step in report.steps
        ],
    }


def ingest(
    *,
    zone: ZoneOption = None,
    batch_spans: Annotated[
        int, typer.Option("--batch-spans", min=1, help="Most spans in one insert.")
    ] = 65_536,
    batch_ms: Annotated[
        int, typer.Option("--batch-ms", min=1, help="Longest wait for a batch to fill.")
    ] = 2000,
    name: Annotated[
        str,
        typer.Option(
            "--name",
            help="Name of this worker's place, kept over restarts: a restarted worker goes on at once with what the "
            "older one of its name had.",
        ),
    ] = "",
    lease_seconds: Annotated[
        float,
        typer.Option(
            "--lease-seconds",
            min=1,
            help="How long a worker that stands still keeps its partitions; an insert may take half of it.",
        ),
    ] = 30.0,
    batch_mb: Annotated[
        int,
        typer.Option(
            "--batch-mb",
            min=1,
            help="Most megabytes of gathered messages; one insert holds half of it.",
        ),
    ] = 64,
    message_mb: Annotated[
        int,
        typer.Option(
            "--message-mb",
            min=1,
            help="A message over this, or over twice this decompressed, is dead.",
        ),
    ] = 8,
    poison_share: Annotated[
        float,
        typer.Option(
            "--poison-share",
            min=0,
            max=1,
            help="Stop when more than this share of the last messages (100 at least) cannot be read; 1: never.",
        ),
    ] = 0.5,
    health_port: Annotated[
        int,
        typer.Option(
            "--health-port",
            min=0,
            max=65_535,
            help="Answer /livez, /readyz and /metrics there; 0 for nowhere.",
        ),
    ] = 0,
    health_host: Annotated[
        str, typer.Option("--health-host", help="Address that --health-port is on.")
    ] = "127.0.0.1",
    stop_seconds: Annotated[
        float,
        typer.Option(
            "--stop-seconds",
            min=0,
            help="Time that a stop may take; then what is under way is left to the next worker (exit code 4).",
        ),
    ] = 20.0,
    config: ConfigOption = None,
) -> None:
    """Move one zone's spans from its topic into its store, until stopped (Ctrl-C or SIGTERM).

    Any number of workers may serve a zone; they share its partitions. A second signal stops one at once.
    """
    from mobius_pipeline.residency.attributes import load_attributes
    from mobius_pipeline.wire import WireLimits
    from mobius_pipeline.worker import WorkerOptions, run_worker
    from mobius_pipeline.worker.batch import BatchLimits
    from mobius_pipeline.worker.poison import PoisonLimits
    from mobius_pipeline.worker.stopping import stop_by_signal

    zones = load_config(config)
    chosen = pick_zones(zones, zone)
    if len(chosen) != 1:
        raise UsageError(
            f"a worker serves one zone: name it ({', '.join(each.name for each in chosen)})",
            field="--zone",
        )
    attributes = load_attributes(zones.file, chosen[0].name)
    configure_logs()
    stop = threading.Event()
    options = WorkerOptions(
        limits=BatchLimits(
            spans=batch_spans,
            seconds=batch_ms / 1000,
            bytes=batch_mb * 500_000,
            gathered_bytes=batch_mb * 1_000_000,
        ),
        wire=WireLimits(encoded_bytes=message_mb << 20, decoded_bytes=message_mb << 21),
        poison=PoisonLimits(share=poison_share),
        attributes=attributes,
        name=name,
        lease_seconds=lease_seconds,
        health_host=health_host,
        health_port=health_port,
    )
    with stop_by_signal(stop, stop_seconds):
        run_worker(chosen[0], stop, options)


def configure_logs() -> None:
    """Log to standard error: JSON lines, or colours where a person watches."""
    renderer: Any = (
        structlog.dev.ConsoleRenderer()
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _started_zones(config: Path | None) -> Zones:
    """Residency map of a stack that may be starting: one that is not written yet is "not there yet", not an error."""
    try:
        file = find_zones_file(config)
    except UsageError as error:
        raise DependencyError("the stack", "an unknown address", remedy=error.problem) from error
    if not file.exists():
        raise DependencyError("the stack", str(file), reason="not written yet")
    return load_config(file)


def status(
    *, zone: ZoneOption = None, config: ConfigOption = None, json: JsonOption = False
) -> None:
    """Show what each zone holds; exits with 3 until every broker and store answers."""
    from mobius_pipeline.status import status_document

    document = status_document(pick_zones(_started_zones(config), zone))
    if json:
        print_json(document)
        return
    for name, values in document["zones"].items():
        newest = format_time(values["newest"]) if values["newest"] else "none yet"
        typer.echo(
            f"{name}: {values['spans']:,} spans of {values['traces']:,} traces in {values['minutes']:,} minutes, "
            f"newest {newest}; {values['lag']:,} messages behind, {values['dead_letters']:,} dead letters, "
            f"{values['quarantined']:,} spans quarantined"
        )

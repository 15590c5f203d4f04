"""The command ``residency erase``. Libraries load when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from mobius_pipeline.config import load_config, pick_zones
from mobius_pipeline.errors import UsageError
from mobius_pipeline.options import ConfigOption, JsonOption, print_json

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from mobius_pipeline.residency.erase import Erased, Target
    from mobius_pipeline.residency.erase_files import FilesFound

__all__ = ["erase"]

_ERASE_SECONDS: Final = 3_600.0
# A shorter text stands in files by chance.
_LEAST_CHARACTERS: Final = 8
_STAYS: Final = (
    "messages in the zone's topics stay until their retention is over: erase again then",
    "the rollup and what was exported of it stay: they add up many requests and name none",
)


def erase(
    *,
    zone: Annotated[str, typer.Option("--zone", help="Zone to erase in.")],
    trace: Annotated[
        str | None,
        typer.Option("--trace", help="Trace to erase: 32 hexadecimal digits.", show_default=False),
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option(
            "--subject",
            help="Person to erase, by enduser.pseudo.id, with all their traces.",
            show_default=False,
        ),
    ] = None,
    spool: Annotated[
        list[Path] | None,
        typer.Option(
            "--spool",
            help="A spool's folder to look through too; may be repeated.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count and look; change nothing.")
    ] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Erase a trace or a person from a zone's store, show that it has, name backups and spools that hold it still.

    Exits with 1 when something remains, or could not be looked into.
    """
    from mobius_pipeline.residency import erase as store
    from mobius_pipeline.residency.contradictions import load_policy
    from mobius_pipeline.residency.erase_files import search_files
    from mobius_pipeline.store import Purpose, connect, store_errors

    zones = load_config(config)
    (chosen,) = pick_zones(zones, zone)
    places: list[str | Path] = [*load_policy(zones.file).zones[zone].backups, *(spool or [])]
    _check(trace, subject)
    client = connect(chosen, Purpose.MIGRATE, timeout_seconds=_ERASE_SECONDS)
    try:
        with store_errors(chosen):
            target = _target(client, trace, subject)
            rows = store.erase(client, target, dry_run=dry_run)
    finally:
        client.close()
    files = search_files(places, target.needles)
    if json:
        print_json(_document(zone, target, rows, files, dry_run=dry_run))
    else:
        _print(zone, target, rows, files)
    if any(row.after for row in rows) or files.holding or files.unread:
        raise typer.Exit(1)


def _check(trace: str | None, subject: str | None) -> None:
    from mobius_pipeline.residency.erase import parse_trace

    if (trace is None) == (subject is None):
        raise UsageError("give one of them", field="--trace or --subject")
    if subject is not None and len(subject) < _LEAST_CHARACTERS:
        raise UsageError(f"has at least {_LEAST_CHARACTERS} characters", field="--subject")
    try:
        if trace is not None:
            parse_trace(trace)
    except ValueError:
        raise UsageError(
            "a trace id is 32 hexadecimal digits, not all 0", field="--trace"
        ) from None


def _target(client: Client, trace: str | None, subject: str | None) -> Target:
    from mobius_pipeline.residency.erase import Target, find_target, parse_trace

    return find_target(client, subject or "") if trace is None else Target((parse_trace(trace),))


def _document(
    zone: str, target: Target, rows: tuple[Erased, ...], files: FilesFound, *, dry_run: bool
) -> dict[str, object]:
    return {
        "zone": zone,
        "traces": len(target.traces),
        "dry_run": dry_run,
        "tables": {row.table: {"before": row.before, "after": row.after} for row in rows},
        "files": {
            "searched": files.searched,
            "holding": [str(file) for file in files.holding],
            "unread": list(files.unread),
        },
        "stays": list(_STAYS),
    }


def _print(zone: str, target: Target, rows: tuple[Erased, ...], files: FilesFound) -> None:
    typer.echo(f"{zone}: {len(target.traces):,} traces")
    for row in rows:
        typer.echo(f"  {row.table}: {row.before:,} rows before, {row.after:,} after")
    typer.echo(f"{files.searched:,} files of backups and spools searched")
    for file in files.holding:
        typer.echo(f"  holds it still, remove or rewrite it: {file}")
    for place in files.unread:
        typer.echo(f"  not looked into (packed, elsewhere or unreadable): {place}")
    for each in _STAYS:
        typer.echo(f"note: {each}")

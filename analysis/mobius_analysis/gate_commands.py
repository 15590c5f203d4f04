"""The command ``gate``. Libraries load when it runs."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from mobius_instrumentation.zones import Zones
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
    write_text,
)

if TYPE_CHECKING:
    from mobius_analysis.gate_budgets import Budget

__all__ = ["register"]

_BUDGETS_FILE: Final = "budgets.toml"


def register(app: typer.Typer) -> None:
    """Mount the command on ``app``."""
    app.command()(gate)


def gate(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE...]", help="Result files of one run, imported first.", show_default=False
        ),
    ] = None,
    *,
    run: Annotated[
        str | None, typer.Option("--run", help="Judge this imported run.", show_default=False)
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(
            "--test",
            help="Judge this test's runs of --release; its newest run of each region when left out.",
            show_default=False,
        ),
    ] = None,
    release: Annotated[
        str | None, typer.Option("--release", help="Version that was tested.", show_default=False)
    ] = None,
    region: Annotated[
        str | None,
        typer.Option("--region", help="FILE: region that was tested.", show_default=False),
    ] = None,
    service: Annotated[
        str | None,
        typer.Option("--service", help="FILE: service that was tested.", show_default=False),
    ] = None,
    environment: Annotated[
        str | None,
        typer.Option("--environment", help="FILE: environment tested.", show_default=False),
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option("--budget", help="For every endpoint: p95=200ms (p50, p99 too)."),
    ] = None,
    budgets: Annotated[
        Path | None,
        typer.Option(
            "--budgets", help=f"Budgets by endpoint ({_BUDGETS_FILE}).", show_default=False
        ),
    ] = None,
    max_regression: Annotated[
        str | None,
        typer.Option(
            "--max-regression",
            help="Production's p95 may grow by this share (10%).",
            show_default=False,
        ),
    ] = None,
    junit: Annotated[
        Path | None, typer.Option("--junit", help="Write JUnit XML here.", show_default=False)
    ] = None,
    markdown: Annotated[
        Path | None,
        typer.Option("--markdown", help="Write a pull request's comment here.", show_default=False),
    ] = None,
    save: Annotated[
        bool, typer.Option("--save/--no-save", help="Keep the predictions, to score them later.")
    ] = True,
    since: SinceOption = "30d",
    until: UntilOption = None,
    zone: ZoneOption = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Will this build keep its budgets in production? Predicted from its test run; exit code 1 unless it passes."""
    from mobius_analysis.gate_budgets import parse_share
    from mobius_analysis.gate_job import Ask, run_gate
    from mobius_analysis.gate_reports import document, print_result
    from mobius_analysis.gate_reports import junit as junit_of
    from mobius_analysis.gate_reports import markdown as markdown_of

    now = datetime.now(UTC)
    begin, end = parse_stretch(since, until, now)
    _check(files, run, test, release, region)
    ask = Ask(
        since=begin,
        until=end,
        run=run or "",
        test=test or "",
        release=release or "",
        budgets=_budgets(budget or (), budgets, wanted=max_regression is None),
        max_regression=None
        if max_regression is None
        else parse_share(max_regression, field="--max-regression"),
    )
    zones = load_config(config)
    if files and region:
        name = _import(
            zones,
            files,
            region=region,
            test=test,
            release=release,
            service=service,
            environment=environment,
        )
        ask = dataclasses.replace(ask, run=name, test="", release="", until=max(end, now))
    with progress("Pairing runs") as advance:
        result = run_gate(pick_zones(zones, zone), ask, now=now, save=save, advance=advance)
    if junit is not None:
        write_text(junit, junit_of(result), field="--junit")
    if markdown is not None:
        write_text(markdown, markdown_of(result), field="--markdown")
    if json:
        print_json(document(result))
    else:
        print_result(result)
    if result.verdict != "pass":
        raise typer.Exit(1)


def _check(
    files: list[str] | None,
    run: str | None,
    test: str | None,
    release: str | None,
    region: str | None,
) -> None:
    if files:
        if run is not None:
            raise UsageError("give either FILE or --run", field="--run")
        if region is None:
            raise UsageError("a result file does not say where it was tested", field="--region")
    elif run is None and test is None:
        raise UsageError("say what to judge: --run, --test (with --release), or a result file")
    elif run is not None and (test is not None or release is not None):
        raise UsageError("a run has one test and release; leave them out", field="--run")


def _budgets(
    options: tuple[str, ...] | list[str], file: Path | None, *, wanted: bool
) -> tuple[Budget, ...]:
    """Take those of the options before those of the file; ``budgets.toml`` of this folder where none is named."""
    from mobius_analysis.gate_budgets import Budget, parse_budget, read_budgets

    made = tuple(Budget(*parse_budget(text)) for text in options)
    if file is None and not made and wanted and Path(_BUDGETS_FILE).is_file():
        file = Path(_BUDGETS_FILE)
    if file is not None:
        made += read_budgets(file)
    if wanted and not made:
        raise UsageError(
            f"no budget: give --budget p95=200ms, --max-regression 10%, or a file {_BUDGETS_FILE}"
        )
    return made


def _import(
    zones: Zones,
    files: list[str],
    *,
    region: str,
    test: str | None,
    release: str | None,
    service: str | None,
    environment: str | None,
) -> str:
    from mobius_pipeline.imports.spans import zone_of_region
    from mobius_pipeline.imports.synthetic import import_synthetic

    result = import_synthetic(
        zone_of_region(zones, region),
        files,
        region=region,
        test=test,
        release=release,
        service=service,
        environment=environment,
    )
    return result.run

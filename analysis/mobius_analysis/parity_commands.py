"""The command ``parity``. Libraries load when it runs."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

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
    progress,
    write_text,
)

if TYPE_CHECKING:
    from mobius_analysis.parity_load import Comparison
    from mobius_analysis.rollup import Window
    from mobius_analysis.scenario_mix import Mix
    from mobius_instrumentation.zones import Zone

__all__ = ["register"]

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def register(app: typer.Typer) -> None:
    """Mount the command on ``app``."""
    app.command()(parity)


def parity(
    *,
    test: Annotated[
        str | None,
        typer.Option(
            "--test", help="Compare this test's runs; all tests when left out.", show_default=False
        ),
    ] = None,
    run: Annotated[
        str | None, typer.Option("--run", help="Compare this run alone.", show_default=False)
    ] = None,
    write_k6: Annotated[
        Path | None,
        typer.Option("--write-k6", help="Write a k6 script from users' mix.", show_default=False),
    ] = None,
    write_locust: Annotated[
        Path | None,
        typer.Option(
            "--write-locust", help="Write a locustfile from users' mix.", show_default=False
        ),
    ] = None,
    service: Annotated[
        str | None,
        typer.Option("--service", help="Scenario: whose traffic to take.", show_default=False),
    ] = None,
    region: Annotated[
        str | None,
        typer.Option("--region", help="Scenario: where to take it.", show_default=False),
    ] = None,
    environment: Annotated[
        str | None,
        typer.Option("--environment", help="Scenario: only this one.", show_default=False),
    ] = None,
    since: SinceOption = "24h",
    until: UntilOption = None,
    zone: ZoneOption = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Is the test's traffic mix that of production? Or write a scenario from production's own mix."""
    from mobius_analysis.rollup import Window

    now = datetime.now(UTC)
    window = Window.of(*parse_stretch(since, until, now))
    if window.end <= window.start:
        raise UsageError(
            "the time from --since to --until is shorter than a minute", field="--since"
        )
    zones = pick_zones(load_config(config), zone)
    if write_k6 is not None or write_locust is not None:
        mix = _mix(zones, window, service, region, environment)
        written = _write(mix, test, {"k6": write_k6, "locust": write_locust})
        if json:
            print_json({"scenario": _mix_document(mix), "written": written})
        else:
            typer.echo(_mix_text(mix, written))
        return
    found = _compare(zones, window, test, run)
    if json:
        print_json({"tests": [_document(one) for one in found]})
    else:
        for one in found:
            _print(one)


def _compare(
    zones: tuple[Zone, ...], window: Window, test: str | None, run: str | None
) -> list[Comparison]:
    from mobius_analysis.pair_history import load_runs
    from mobius_analysis.parity_load import compare
    from mobius_pipeline.store import Purpose, connect

    found: list[Comparison] = []
    begin = datetime(2000, 1, 1, tzinfo=UTC) if run else window.start
    with progress("Comparing", len(zones)) as advance:
        for zone in zones:
            client = connect(zone, Purpose.ANALYSIS)
            try:
                runs = load_runs(client, begin, window.end, test=test or "", run=run or "")
                found += [
                    compare(client, zone.name, [r for r in runs if r.test == name], window)
                    for name in sorted({r.test for r in runs})
                ]
            finally:
                client.close()
            advance(1)
    if not found:
        what = f"run {run!r}" if run else f"run of test {test!r}" if test else "test run"
        raise UsageError(
            f"no {what} from {window.start:%d %b %H:%M} UTC on: import one, or take an earlier --since",
            field="--run" if run else "--test",
        )
    return found


def _document(one: Comparison) -> dict[str, Any]:
    from mobius_analysis.parity import worst

    lowest = worst(one.dimensions)
    return {
        "zone": one.zone,
        "test": one.test,
        "runs": [run.run for run in one.runs],
        "services": list(one.services),
        "window_start": format_time(one.window.start),
        "window_end": format_time(one.window.end),
        "test_requests": one.requests[0],
        "production_requests": one.requests[1],
        "worst": None if lowest is None else lowest.name,
        "dimensions": [
            {
                "name": d.name,
                "outcome": d.outcome,
                "score": None if d.score is None else d.score.document(),
                "chance_score": None if d.chance is None else float(f"{d.chance:.4g}"),
                "text": d.text,
            }
            for d in one.dimensions
        ],
    }


def _print(one: Comparison) -> None:
    import sys

    from rich.console import Console
    from rich.table import Table

    from mobius_analysis.parity import worst

    out = Console(width=None if sys.stdout.isatty() else 140)
    lowest = worst(one.dimensions)
    said = f"worst is {lowest.name}: {lowest.text}" if lowest else "no dimension differs"
    head = f"test {one.test} in zone {one.zone} ({len(one.runs)} runs): {said}"
    out.print(head, style="bold red" if lowest else "bold", markup=False, highlight=False)
    table = Table(box=None, pad_edge=False)
    for column in ("dimension", "", "score (95 %)", "by chance above", "what"):
        table.add_column(column, justify="right" if "%" in column or "above" in column else "left")
    order = {"differs": 0, "unclear": 1, "alike": 2, "unknown": 3}
    styles = {"differs": "bold red", "unclear": "yellow", "alike": "green", "unknown": "dim"}
    for d in sorted(
        one.dimensions, key=lambda d: (order[d.outcome], d.score.value if d.score else 2)
    ):
        table.add_row(
            d.name,
            f"[{styles[d.outcome]}]{d.outcome}[/]",
            "-" if d.score is None else _score(d.score.value, d.score.low, d.score.high),
            "-" if d.chance is None else f"{d.chance:.2f}",
            d.text.replace("[", "\\["),
        )
    out.print(table)
    out.print()


def _score(value: float, low: float | None, high: float | None) -> str:
    return f"{value:.2f}" + ("" if low is None or high is None else f" ({low:.2f} to {high:.2f})")


# ---------------------------------------------------------------------------- scenarios


def _mix(
    zones: tuple[Zone, ...],
    window: Window,
    service: str | None,
    region: str | None,
    environment: str | None,
) -> Mix:
    from mobius_analysis.scenario_mix import load_mix
    from mobius_pipeline.store import Purpose, connect

    if service is None:
        raise UsageError("say whose traffic the scenario is to have", field="--service")
    regions = [(zone, name) for zone in zones for name in zone.regions]
    if region is None and len(regions) > 1:
        known = ", ".join(name for _, name in regions)
        raise UsageError(f"say where to take the traffic: {known}", field="--region")
    chosen = [(zone, name) for zone, name in regions if region in (None, name)]
    if not chosen:
        known = ", ".join(name for _, name in regions)
        raise UsageError(f"no region {region!r}; known: {known}", field="--region")
    zone, name = chosen[0]
    client = connect(zone, Purpose.ANALYSIS)
    try:
        return load_mix(client, window, service=service, region=name, environment=environment or "")
    finally:
        client.close()


def _write(mix: Mix, test: str | None, files: dict[str, Path | None]) -> list[str]:
    from mobius_analysis.scenario_k6 import k6_script
    from mobius_analysis.scenario_locust import locustfile

    name = test or "production-mix"
    if not _NAME.fullmatch(name):
        raise UsageError("must be 1 to 64 of the characters A-Z a-z 0-9 _ -", field="--test")
    written = []
    for tool, file in files.items():
        if file is None:
            continue
        text = k6_script(mix, test=name) if tool == "k6" else locustfile(mix, test=name)
        write_text(file, text, field=f"--write-{tool}")
        written.append(str(file))
    return written


def _mix_document(mix: Mix) -> dict[str, Any]:
    return {
        "service": mix.service,
        "region": mix.region,
        "window_start": format_time(mix.window.start),
        "window_end": format_time(mix.window.end),
        "requests": mix.requests,
        "requests_per_second": float(f"{mix.rate:.4g}"),
        "share_left_out": round(mix.left_out, 4),
        "hour_factors": list(mix.hours),
        "endpoints": [
            {
                "method": one.method,
                "route": one.route,
                "requests_per_second": float(f"{one.rate:.4g}"),
                "parameters": list(one.parameters),
            }
            for one in mix.endpoints
        ],
    }


def _mix_text(mix: Mix, written: list[str]) -> str:
    head = f"{mix.service} in {mix.region}: {mix.rate:.3g} requests a second on average"
    lines = [f"{head}, from {mix.requests:,} requests of users"]
    lines += [
        f"  {one.rate / mix.rate:6.1%}  {one.rate:9.3g}/s  {one.method:7} {one.route}"
        for one in mix.endpoints
    ]
    if mix.left_out > 0:
        lines.append(f"  {mix.left_out:6.2%}  left out: rarer than 1 in 2,000, or no HTTP request")
    if names := sorted({name for one in mix.endpoints for name in one.parameters}):
        lines.append(
            f"values for {', '.join(names)} and for bodies come from a file of yours: MOBIUS_DATA"
        )
    return "\n".join([*lines, *(f"written: {file}" for file in written)])

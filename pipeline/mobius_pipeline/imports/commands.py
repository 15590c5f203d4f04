"""The commands `mobius-rum import spans` and `mobius-rum import synthetic`; registers `remap` beside them."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mobius_pipeline.config import load_config
from mobius_pipeline.imports.formats.recognise import FORMATS
from mobius_pipeline.imports.remap_commands import remap
from mobius_pipeline.options import ConfigOption, JsonOption, print_json

if TYPE_CHECKING:
    from mobius_pipeline.imports.spans import SpanImport
    from mobius_pipeline.imports.synthetic import SyntheticImport
    from mobius_pipeline.joining.join import RunJoin

__all__ = ["register"]

_Files = Annotated[
    list[str], typer.Argument(metavar="FILE...", help="Plain, gzip or zstd; - is standard input.")
]
_Region = Annotated[
    str, typer.Option("--region", help="Region of the spans that name none; decides the zone.")
]
_UNSAID = "What a file may not say"


def register(import_app: typer.Typer) -> None:
    """Add the commands to the sub-app ``import``."""
    import_app.command("spans")(spans)
    import_app.command("synthetic")(synthetic)
    import_app.command("remap")(remap)


def spans(
    files: _Files,
    *,
    region: _Region,
    wait: Annotated[
        bool, typer.Option("--wait", help="Return when the worker has stored every span.")
    ] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Import spans: OTLP JSON lines or OTLP protobuf. All files are checked before anything is published."""
    from mobius_pipeline.imports.spans import import_spans

    result = import_spans(load_config(config), files, region=region, wait=wait)
    if json:
        print_json(dataclasses.asdict(result))
    else:
        sys.stdout.write(_text(result))


def synthetic(
    files: _Files,
    *,
    region: Annotated[
        str, typer.Option("--region", help="Region that the test sent its requests to.")
    ],
    test: Annotated[
        str | None,
        typer.Option(
            "--test",
            help="Name of the test; our listener's files say it themselves.",
            show_default=False,
        ),
    ] = None,
    service: Annotated[
        str | None, typer.Option("--service", help="Service that was tested.", show_default=False)
    ] = None,
    release: Annotated[
        str | None, typer.Option("--release", help="Version that was tested.", show_default=False)
    ] = None,
    environment: Annotated[
        str | None,
        typer.Option("--environment", help="Environment that was tested.", show_default=False),
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            help=f"Recognised when left out. One of {', '.join(FORMATS)}.",
            show_default=False,
        ),
    ] = None,
    run: Annotated[
        str | None, typer.Option("--run", help="Name of this run of the test.", show_default=False)
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option(
            "--rules", help="TOML file that says which routes names mean.", show_default=False
        ),
    ] = None,
    started: Annotated[
        str | None,
        typer.Option("--started", help="When the run began; ISO 8601.", rich_help_panel=_UNSAID),
    ] = None,
    url: Annotated[
        str | None, typer.Option("--url", help="The URL it asked for.", rich_help_panel=_UNSAID)
    ] = None,
    method: Annotated[
        str | None, typer.Option("--method", help="Its HTTP method.", rich_help_panel=_UNSAID)
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name", help="A name in place of the URL, for several.", rich_help_panel=_UNSAID
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target", help="Target of a blackbox probe's text.", rich_help_panel=_UNSAID
        ),
    ] = None,
    requests: Annotated[
        int | None,
        typer.Option(
            "--requests", min=1, help="How many requests were made.", rich_help_panel=_UNSAID
        ),
    ] = None,
    generator: Annotated[
        str | None,
        typer.Option(
            "--generator",
            help="Service whose client spans are the test's requests.",
            rich_help_panel=_UNSAID,
        ),
    ] = None,
    join: Annotated[
        bool,
        typer.Option(
            "--join/--no-join",
            help="Count the server spans that the file names by trace id as the test's, not as production's.",
        ),
    ] = True,
    load: Annotated[
        str | None,
        typer.Option(
            "--load",
            help="open (sent by the clock) or closed (each after the answer before it).",
            rich_help_panel=_UNSAID,
        ),
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Import one run of a test tool: one result file, or the files of one run that belong together.

    What a file says is taken from it. What it does not say (hey writes no time, no URL and no method) must be
    given, and the error says what.
    """
    from mobius_pipeline.imports.given_options import given_of
    from mobius_pipeline.imports.spans import zone_of_region
    from mobius_pipeline.imports.synthetic import import_synthetic
    from mobius_pipeline.joining.after_import import join_imported

    zone = zone_of_region(load_config(config), region)
    result = import_synthetic(
        zone,
        files,
        region=region,
        test=test,
        service=service,
        release=release,
        environment=environment,
        format=format_,
        run=run,
        rules=rules,
        given=given_of(
            started=started,
            url=url,
            method=method,
            name=name,
            target=target,
            requests=requests,
            generator=generator,
        ),
        load=load,
    )
    joined = join_imported(zone, result.run, wanted=join)
    if json:
        print_json(result.document() | {"join": joined.document()})
    else:
        sys.stdout.write(_synthetic_text(result) + join_line(joined))


def _synthetic_text(result: SyntheticImport) -> str:
    document = result.document()
    head = f"run {result.run} of test {result.test} ({result.format}): {result.requests:,} requests"
    lines = [f"{head}, {result.failed:,} failed, {document['start']} to {document['end']}"]
    if result.already_imported:
        lines.append("this content was imported before, nothing was added")
    lines += [
        f"  {e.method:7} {e.route:40} {_count(e.requests):>9} requests  {e.failed:>7,} failed  "
        f"p50 {_ms(e.p50_ms)}  p95 {_ms(e.p95_ms)}  p99 {_ms(e.p99_ms)}"
        for e in result.endpoints
    ]
    lines += [
        f"  no production endpoint for {u.method} {u.name} ({u.requests:,} requests)"
        + (f"; nearest is {u.closest}" if u.closest else "")
        + (f"\n    fix: {u.fix}" if u.fix else "")
        for u in result.unmatched
    ]
    lines += _load_lines(result)
    lines += [f"note: {warning}" for warning in result.warnings]
    return "\n".join(lines) + "\n"


def join_line(joined: RunJoin) -> str:
    """Say in a line what the join of a run found; nothing where no request names a trace."""
    if not joined.with_id:
        return ""
    share = joined.document()["join_rate"]
    text = f"joined by trace: {joined.joined:,} of {joined.with_id:,} requests with an id ({share:.1%})"
    text += (
        f", of {joined.requests:,} in all; {joined.moved_spans:,} server spans count as this run's"
    )
    if joined.refused:
        text += " (its spans stay where they are, as was said)"
    if joined.contradicted:
        text += f"; {joined.contradicted:,} requests name traces of another time, method or status"
    return text + "\n"


def _load_lines(result: SyntheticImport) -> list[str]:
    load = result.load
    why = f" ({load.evidence})" if load.evidence else ""
    lines = [f"load: {load.model}{why}"]
    if load.omission is not None:
        o = load.omission
        lines.append(
            f"  of all requests p95 {o.p95_ms:.1f} ms, p99 {o.p99_ms:.1f} ms; corrected for coordinated omission "
            f"p95 {o.corrected_p95_ms:.1f} ms, p99 {o.corrected_p99_ms:.1f} ms ({o.connections} connections, "
            f"one request each in {o.interval_ms:.1f} ms)"
        )
    return lines


def _count(requests: int | None) -> str:
    return "-" if requests is None else f"{requests:,}"


def _ms(value: float | None) -> str:
    return "      - ms" if value is None else f"{value:7.1f} ms"


def _text(result: SpanImport) -> str:
    head = f"{result.published:,} of {result.spans:,} spans published to zone {result.zone}"
    lines = [f"{head} in {result.seconds:.1f} s"]
    if result.repeated_span_ids:
        lines.append(
            f"the input repeats {result.repeated_span_ids:,} span ids "
            f"({result.distinct_span_ids:,} are distinct); every row was kept"
        )
    lines += [
        f"{name}: this content was imported before, nothing was added"
        for name in result.already_imported
    ]
    return "\n".join(lines) + "\n"

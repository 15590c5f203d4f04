"""The commands `mobius-rum import spans` and `mobius-rum import synthetic`."""

from __future__ import annotations

import dataclasses
import sys
from typing import Annotated

import typer

from mobius_pipeline.config import load_config
from mobius_pipeline.imports.spans import SpanImport, import_spans
from mobius_pipeline.options import ConfigOption, JsonOption, print_json

__all__ = ["register"]

_Files = Annotated[
    list[str], typer.Argument(metavar="FILE...", help="Plain, gzip or zstd; - is standard input.")
]
_Region = Annotated[
    str, typer.Option("--region", help="Region of the spans that name none; decides the zone.")
]


def register(import_app: typer.Typer) -> None:
    """Add the commands to the sub-app ``import``."""
    import_app.command("spans")(spans)


def spans(
    files: _Files,
    region: _Region,
    wait: Annotated[
        bool, typer.Option("--wait", help="Return when the worker has stored every span.")
    ] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Import spans: OTLP JSON lines or OTLP protobuf. All files are checked before anything is published."""
    result = import_spans(load_config(config), files, region=region, wait=wait)
    if json:
        print_json(dataclasses.asdict(result))
    else:
        sys.stdout.write(_text(result))


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

"""`mobius-rum bench`: finds the benchmarks, runs them one after the other, prints what they measured."""

from __future__ import annotations

import os
import pkgutil
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final

import typer

import mobius_infra.benchmarks
from mobius_pipeline.errors import UsageError
from mobius_pipeline.options import JsonOption, print_json

__all__ = ["bench", "names", "run_all"]

_NOT_BENCHMARKS: Final = {"__main__", "commands"}


def names() -> list[str]:
    """Benchmarks that there are: modules of this package that are neither private nor its own machinery."""
    found = (module.name for module in pkgutil.iter_modules(mobius_infra.benchmarks.__path__))
    return sorted(
        name for name in found if name not in _NOT_BENCHMARKS and not name.startswith("_")
    )


def run_all(
    wanted: list[str], options: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """Run the named benchmarks, all of them for an empty list.

    ``options`` are arguments of a benchmark's ``run``, by its name.

    Raises
    ------
    UsageError
        There is no benchmark of that name.
    """
    known = names()
    for name in wanted:
        if name not in known:
            raise UsageError(f"no benchmark {name!r}; known: {', '.join(known)}")
    results: dict[str, Any] = {}
    for name in wanted or known:
        sys.stderr.write(f"{name} ...\n")
        began = time.monotonic()
        arguments = (options or {}).get(name, {})
        results[name] = import_module(f"mobius_infra.benchmarks.{name}").run(**arguments)
        results[name]["took_seconds"] = round(time.monotonic() - began, 1)
    return {"machine": _machine(), "benchmarks": results}


def bench(
    *,
    name: Annotated[
        list[str] | None, typer.Argument(help="Benchmarks to run; all when left out.")
    ] = None,
    spans: Annotated[
        int, typer.Option("--spans", min=1, help="ingest: how many spans to produce.")
    ] = 1_000_000,
    per_message: Annotated[
        str, typer.Option("--per-message", help="ingest: spans a message, one run each.")
    ] = "100,512",
    repeats: Annotated[
        int, typer.Option("--repeats", min=1, help="ingest: runs of each pipeline.")
    ] = 3,
    rate: Annotated[
        float, typer.Option("--rate", min=1, help="instrumentation: requests a second.")
    ] = 100,
    seconds: Annotated[
        float, typer.Option("--seconds", min=2, help="instrumentation: length of a run.")
    ] = 4,
    turns: Annotated[
        int, typer.Option("--turns", min=1, help="instrumentation: runs of each variant.")
    ] = 8,
    kills: Annotated[
        int,
        typer.Option(
            "--kills", min=0, help="ingest: kill each pipeline this often in one more run."
        ),
    ] = 0,
    without_collector: Annotated[
        bool, typer.Option("--without-collector", help="ingest: measure our pipeline alone.")
    ] = False,
    endpoints: Annotated[
        int, typer.Option("--endpoints", min=1, help="correlate: endpoints of the zone.")
    ] = 2000,
    regions: Annotated[
        int, typer.Option("--regions", min=1, help="correlate: regions of the zone.")
    ] = 10,
    days: Annotated[
        int, typer.Option("--days", min=1, max=366, help="correlate: days that the rollup holds.")
    ] = 7,
    dense: Annotated[
        bool, typer.Option("--dense", help="correlate: every endpoint used in every minute.")
    ] = False,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="statistics: a twelfth of the repetitions, not to be quoted."),
    ] = False,
    plots: Annotated[
        Path | None,
        typer.Option("--plots", help="statistics: folder for plots, tables and all figures."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Measure against named peers and limits."""
    sizes = per_message.split(",")
    if not all(size.isdecimal() and int(size) for size in sizes):
        raise UsageError(
            f"{per_message!r} is no list of numbers such as 100,512", field="--per-message"
        )
    ingest = {
        "spans": spans,
        "per_message": tuple(map(int, sizes)),
        "repeats": repeats,
        "kills": kills,
        "collector": not without_collector,
    }
    options: dict[str, dict[str, Any]] = {
        "ingest": ingest,
        "instrumentation": {"rate": rate, "seconds": seconds, "turns": turns},
        "correlate": {"endpoints": endpoints, "regions": regions, "days": days, "dense": dense},
        "statistics": {"quick": quick, "plots": plots},
    }
    document = run_all(name or [], options)
    if json:
        print_json(document)
        return
    for title, result in document["benchmarks"].items():
        typer.echo(title)
        for line in _lines(result):
            typer.echo(f"    {line}")


def _lines(result: Mapping[str, Any]) -> Iterator[str]:
    """One line a figure; of a table, one a row."""
    for key, value in result.items():
        if isinstance(value, Mapping):
            yield f"{key}:"
            yield from (f"    {line}" for line in _lines(value))
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            yield f"{key}:"
            for row in value:
                yield "    " + ", ".join(f"{name} {_plain(cell)}" for name, cell in row.items())
        else:
            yield f"{key}: {value}"


def _plain(cell: Any) -> str:
    if isinstance(cell, Mapping):
        return "(" + ", ".join(f"{name} {_plain(one)}" for name, one in cell.items()) + ")"
    return "-" if cell is None else str(cell)


def _machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
    }

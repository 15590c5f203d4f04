"""`mobius-rum bench`: finds the benchmarks, runs them one after the other, prints what they measured."""

from __future__ import annotations

import os
import pkgutil
import platform
import sys
import time
from importlib import import_module
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


def run_all(wanted: list[str]) -> dict[str, Any]:
    """Run the named benchmarks, all of them for an empty list.

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
        results[name] = import_module(f"mobius_infra.benchmarks.{name}").run()
        results[name]["took_seconds"] = round(time.monotonic() - began, 1)
    return {"machine": _machine(), "benchmarks": results}


def bench(
    name: Annotated[
        list[str] | None, typer.Argument(help="Benchmarks to run; all when left out.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Measure against named peers and limits."""
    document = run_all(name or [])
    if json:
        print_json(document)
        return
    for title, result in document["benchmarks"].items():
        typer.echo(title)
        for key, value in result.items():
            typer.echo(f"    {key}: {value}")


def _machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
    }

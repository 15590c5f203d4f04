"""The command ``mobius-rum dashboard``."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from mobius_pipeline.config import find_zones_file, load_config
from mobius_pipeline.errors import UsageError
from mobius_pipeline.options import ConfigOption

__all__ = ["register", "streamlit_command"]


def register(app: typer.Typer) -> None:
    """Add the commands of this part to ``app``."""
    app.command()(dashboard)


def dashboard(
    config: ConfigOption = None,
    port: Annotated[
        int, typer.Option("--port", min=1, max=65535, help="Port on 127.0.0.1.")
    ] = 8501,
    viewer: Annotated[
        str | None,
        typer.Option(
            "--viewer",
            help="Name of the local user who looks, with the groups of [viewers] in zones.toml; "
            "MOBIUS_VIEWER_ZONES and MOBIUS_VIEWER_LEVEL narrow what that user sees.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Serve the dashboard on 127.0.0.1 until Ctrl-C; with MOBIUS_OIDC_* set, to people who log in."""
    environment = dict(os.environ)
    if viewer is not None:
        environment["MOBIUS_VIEWER"] = viewer
    file = find_zones_file(config).resolve()
    _check_settings(file, environment)
    environment["MOBIUS_CONFIG"] = str(file)
    _refuse_busy(port)
    command = streamlit_command(port)
    # Replaced, not wrapped: signals and the exit code of Streamlit are those of this command.
    os.execve(command[0], command, environment)  # noqa: S606 - fixed program and arguments, no shell


def _check_settings(file: Path, environment: Mapping[str, str]) -> None:
    """Report a wrong map, policy or login here, not on a page.

    Raises
    ------
    UsageError
        One of them is; names file and key, or the variable.
    """
    from mobius_dashboards.oidc_options import oidc_options, oidc_secrets
    from mobius_dashboards.viewer import local_viewer, login_viewer
    from mobius_pipeline.residency.contradictions import load_policy

    load_config(file)
    policy = load_policy(file)
    if oidc_options(environment) is None:
        viewer = local_viewer(policy, environment)
        if not viewer.zones:
            why = f"`mobius-rum residency explain --viewer {viewer.name}`"
            typer.echo(f"note: {viewer.name} sees no zone; why: {why}", err=True)
        return
    oidc_secrets(environment)
    login_viewer(policy, "", (), environment)
    if environment.get("MOBIUS_VIEWER"):
        raise UsageError(
            "names a local user, but MOBIUS_OIDC_ISSUER lets people log in: take one of the two away",
            field="MOBIUS_VIEWER (--viewer)",
        )


def streamlit_command(port: int) -> list[str]:
    """Program and arguments that serve the dashboard on ``port`` of the loopback address."""
    from mobius_dashboards.theme import streamlit_flags

    return [
        sys.executable,
        "-m",
        "mobius_dashboards.serve",
        "run",
        str(Path(__file__).with_name("app.py")),
        "--server.address=127.0.0.1",
        f"--server.port={port}",
        "--server.headless=true",
        "--server.fileWatcherType=none",
        "--browser.gatherUsageStats=false",
        # A traceback shows paths and values to whoever looks; it goes to the log alone.
        "--client.showErrorDetails=none",
        "--client.toolbarMode=minimal",
        "--runner.magicEnabled=false",
        *streamlit_flags(),
    ]


def _refuse_busy(port: int) -> None:
    """Say which option helps when ``port`` is taken; Streamlit itself would only say that it is.

    Raises
    ------
    UsageError
        Somebody else listens on the port.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UsageError(
                f"port {port} is in use ({error.strerror}); choose another one", field="--port"
            ) from error

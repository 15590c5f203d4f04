from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer

from mobius_dashboards.commands import dashboard, register, streamlit_command
from mobius_dashboards.serve import PRELOADED
from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import UsageError
from mobius_pipeline.residency.policy import PolicyError

ZONE = Zone("eu", ("eu-west-1",), ("127.0.0.1:9",), "http://127.0.0.1:9", "rum_eu")


def test_streamlit_knows_every_flag_that_it_is_given() -> None:
    flags = [part.partition("=")[0] for part in streamlit_command(8501) if part.startswith("--")]
    known = subprocess.run(
        [sys.executable, "-m", "streamlit", "run", "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert flags
    assert [flag for flag in flags if flag not in known] == []


def test_it_serves_on_the_loopback_address_and_reports_to_nobody() -> None:
    command = streamlit_command(8502)
    assert {
        "--server.address=127.0.0.1",
        "--server.port=8502",
        "--browser.gatherUsageStats=false",
    } <= set(command)
    assert Path(command[4]).is_file()


def test_a_busy_port_is_named_with_its_option(zones_file_factory: Callable[..., Path]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=rf"--port.*{port}|{port}.*--port"):
            dashboard(config=zones_file_factory(ZONE), port=port)


def test_a_wrong_policy_is_refused_before_anything_is_served(
    zones_file_factory: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOBIUS_VIEWER_ZONES", "mars")
    with pytest.raises(UsageError, match="mars"):
        dashboard(config=zones_file_factory(ZONE))


def test_a_policy_that_contradicts_itself_is_not_served(
    zones_file_factory: Callable[..., Path],
) -> None:
    file = zones_file_factory(ZONE)
    file.write_text(file.read_text() + '[groups.sre]\nspans = ["mars"]\n', encoding="utf-8")
    with pytest.raises(PolicyError, match=r"groups\.sre\.spans: no zone 'mars'"):
        dashboard(config=file)


def test_where_people_log_in_nobody_is_a_local_user(
    zones_file_factory: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = zones_file_factory(ZONE)
    monkeypatch.setenv("MOBIUS_OIDC_ISSUER", "https://login.example")
    with pytest.raises(UsageError, match="MOBIUS_OIDC_CLIENT_ID"):
        dashboard(config=file)
    monkeypatch.setenv("MOBIUS_OIDC_CLIENT_ID", "rum")
    with pytest.raises(UsageError, match="MOBIUS_OIDC_CLIENT_SECRET"):
        dashboard(config=file)
    monkeypatch.setenv("MOBIUS_OIDC_CLIENT_SECRET", "secret")
    with pytest.raises(UsageError, match="declares no groups"):
        dashboard(config=file)
    file.write_text(file.read_text() + '[groups.sre]\nspans = ["eu"]\n', encoding="utf-8")
    with pytest.raises(UsageError, match="names a local user"):
        dashboard(config=file, viewer="ana")


def test_what_is_loaded_ahead_exists() -> None:
    assert [name for name in PRELOADED if find_spec(name) is None] == []


def test_the_command_is_mounted() -> None:
    app = typer.Typer()
    register(app)
    assert [command.callback for command in app.registered_commands] == [dashboard]

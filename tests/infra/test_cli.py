"""`mobius-rum` as a person meets it: help, version, errors, exit codes. Each runs the real program."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment in which nothing is set up, and nothing of this machine is touched."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MOBIUS_")}
    return {
        **kept,
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "NO_COLOR": "1",
        "COLUMNS": "120",
    }


@pytest.fixture
def cli(environment: dict[str, str], tmp_path: Path) -> Run:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mobius_infra.cli", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=environment,
            cwd=tmp_path,
        )

    return run


def test_help_lists_the_commands_of_every_part(cli: Run) -> None:
    done = cli("--help")
    assert done.returncode == 0
    for command in (
        "up",
        "bench",
        "migrate",
        "ingest",
        "status",
        "import",
        "correlate",
        "dashboard",
    ):
        assert re.search(rf"\b{command}\b", done.stdout), command


def test_version(cli: Run) -> None:
    done = cli("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"mobius-rum \d+\.\d+\.\d+\n", done.stdout)


def test_help_and_status_do_not_load_the_libraries_of_other_parts() -> None:
    code = (
        "import sys; sys.argv = ['mobius-rum', '--help']\n"
        "from mobius_infra.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'polars', 'streamlit', 'scipy', 'numpy', 'fastapi', 'chdb', 'altair', 'locust', 'uvicorn'}\n"
        "print(sorted(heavy & sys.modules.keys()), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_a_missing_library_names_its_extra(environment: dict[str, str]) -> None:
    code = (
        "import sys; sys.modules['polars'] = None; sys.argv = ['mobius-rum', 'probe']\n"
        "from mobius_infra import cli\n"
        "@cli.app.command()\n"
        "def probe() -> None:\n    import polars\n"
        "cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "mobius-rum: this needs polars, which is not installed; it comes with the extra 'analysis': "
        "pip install 'mobius-rum[analysis]'\n"
    )


def test_an_error_for_people_is_one_message_and_its_code(cli: Run) -> None:
    done = cli("correlate", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("mobius-rum: no zones.toml: start the local stack")
    waiting = cli("status", "--json")
    assert (waiting.returncode, waiting.stdout) == (3, "")
    assert "Traceback" not in done.stderr


def test_an_unexpected_error_keeps_its_traceback(environment: dict[str, str]) -> None:
    code = (
        "import sys; sys.argv = ['mobius-rum', 'probe']\n"
        "from mobius_infra import cli\n"
        "@cli.app.command()\n"
        "def probe() -> None:\n    raise KeyError('a fault of ours')\n"
        "cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "a fault of ours" in done.stderr


def test_ctrl_c_is_130(environment: dict[str, str]) -> None:
    code = (
        "import sys, time; sys.argv = ['mobius-rum', 'probe']\n"
        "from mobius_infra import cli\n"
        "@cli.app.command()\n"
        "def probe() -> None:\n    print('here', flush=True); time.sleep(60)\n"
        "cli.main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--for", "0"), "needs more than 0 seconds"),
        (("--for", "nan"), "needs more than 0 seconds"),
        (("--history", "-1"), "takes 0 to 744 hours"),
        (("--broker-port", "70000"), "there is no port 70000"),
        (("--broker-port", "8131"), "--broker-port"),
        (("--nonsense",), "No such option"),
    ],
)
def test_up_refuses_bad_options_before_anything_starts(
    cli: Run, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = cli("up", "--store-port", "8130", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data" / "mobius-rum" / "zones.toml").exists()


def test_up_names_a_busy_port_and_its_option(cli: Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        done = cli("up", "--dashboard-port", str(port), "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"port {port}, wanted for the dashboard, is in use" in done.stderr
    assert "--dashboard-port" in done.stderr
    assert not list((tmp_path / "data" / "mobius-rum" / "logs").glob("*.log"))


def test_up_says_when_the_data_folder_cannot_be_written(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = cli("up", "--data", str(tmp_path / "file" / "below"))
    assert done.returncode == 2
    assert "cannot write the data folder" in done.stderr


def test_bench_names_the_benchmarks_there_are(cli: Run) -> None:
    done = cli("bench", "speed-of-light", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "known: " in done.stderr
    assert "storage" in done.stderr

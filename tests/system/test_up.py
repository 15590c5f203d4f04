"""The whole system from its one command: `mobius-rum up`, as a person would run it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
import pytest

pytestmark = [pytest.mark.system, pytest.mark.kafka, pytest.mark.store, pytest.mark.timeout(240)]

SPANS = Path(__file__).parents[1] / "data"


def free_block(count: int) -> int:
    """First of ``count`` ports that follow each other and are free."""
    for first in range(21_000 + os.getpid() % 20_000, 60_000, count):
        with contextlib.ExitStack() as listeners:
            try:
                for port in range(first, first + count):
                    listeners.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue
            return first
    raise RuntimeError("no free ports")


@dataclass
class Up:
    """A running `mobius-rum up`, and what it left of itself."""

    folder: Path
    arguments: tuple[str, ...]
    ports: dict[str, int] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MOBIUS_")}
        return {**kept, "XDG_STATE_HOME": str(self.folder / "state")}

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def command(self, *more: str) -> list[str]:
        first = free_block(14)
        self.ports = {
            "dashboard": first,
            "broker": first + 1,
            "store": first + 2,
            "demo": first + 5,
            "worker": first + 12,
        }
        ports = [f"--{name}-port={port}" for name, port in self.ports.items()]
        return [
            sys.executable,
            "-m",
            "mobius_infra.cli",
            "up",
            "--data",
            str(self.data),
            *ports,
            *self.arguments,
            *more,
        ]

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command(),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def line(self, pattern: str) -> str:
        """Wait for a line that matches."""
        assert self.process is not None
        assert self.process.stdout is not None
        seen = []
        for line in self.process.stdout:
            seen.append(line)
            if re.search(pattern, line):
                return line
        pytest.fail("it ended before it said so:\n" + "".join(seen))

    def state(self) -> dict[str, dict[str, Any]]:
        document = json.loads((self.data / "state.json").read_text())
        return {part["name"]: part for part in document["parts"]}

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mobius_infra.cli", *arguments],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def processes(self) -> list[psutil.Process]:
        """Every process that belongs to this stack, wherever it hangs."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.pid != os.getpid() and process.environ().get("XDG_STATE_HOME") == str(
                    self.folder / "state"
                ):
                    found.append(process)
        return found


def eventually_gone(up: Up, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while left := up.processes():
        assert time.monotonic() < deadline, [process.cmdline() for process in left]
        time.sleep(0.1)


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Up]:
    """The stack without the demo, running."""
    up = Up(tmp_path, ("--no-demo",))
    up.start()
    yield up
    assert up.process is not None
    up.process.kill()
    up.process.communicate()
    eventually_gone(up)


def test_the_stack_without_a_demo(bare: Up) -> None:
    # 1. It starts, and says each part's address.
    address = bare.line(r"^The dashboard: ").split()[2]
    parts = bare.state()
    assert list(parts) == [
        "broker", "store-hub", "store-eu", "store-us", "worker-eu", "worker-us", "jobs", "dashboard",
    ]  # fmt: skip
    with urlopen(address, timeout=10) as answer:
        assert answer.status == 200

    # 2. Commands in another shell reach it without being told anything.
    status = bare.cli("status", "--json")
    assert status.returncode == 0, status.stderr
    zones = json.loads(status.stdout)["zones"]
    assert {name: zone["spans"] for name, zone in zones.items()} == {"eu": 0, "us": 0}
    # 3. A second one on the same data is told where the first one is.
    second = subprocess.run(
        bare.command(),
        env=bare.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 2
    assert bare.process is not None
    assert f"process {bare.process.pid}" in second.stderr
    assert address in second.stderr

    # 4. What dies is started again, and works as before: a worker, and a store with data in it.
    for name in ("store-eu", "worker-eu"):
        os.kill(bare.state()[name]["pid"], signal.SIGKILL)
        assert "killed by SIGKILL" in bare.line(rf"^{name} ended")
        bare.line(rf"^{name} answers again")
        assert bare.state()[name]["restarts"] == 1
    imported = bare.cli(
        "import", "spans", str(sample()), "--region", "eu-west-1", "--wait", "--json"
    )
    assert imported.returncode == 0, imported.stderr
    published = json.loads(imported.stdout)["published"]
    zones = json.loads(bare.cli("status", "--json").stdout)["zones"]
    assert {name: zone["spans"] for name, zone in zones.items()} == {"eu": published, "us": 0}

    # 5. SIGTERM stops everything.
    bare.process.terminate()
    bare.line(r"^stopped$")
    assert bare.process.wait(timeout=30) == 0
    eventually_gone(bare)
    assert bare.cli("status", "--json").returncode == 3


def sample() -> Path:
    found = sorted(SPANS.rglob("*.otlp.jsonl*"))
    assert found, "tests/data has no sample of spans"
    return min(found, key=lambda file: file.stat().st_size)


def test_nothing_outlives_a_killed_stack(bare: Up) -> None:
    bare.line(r"^store-us ")
    assert bare.process is not None
    assert len(bare.processes()) > 4
    bare.process.kill()
    bare.process.wait()
    eventually_gone(bare)


def test_every_span_is_accounted_for(tmp_path: Path) -> None:
    up = Up(tmp_path, ("--for", "15", "--history", "1", "--json"))
    done = subprocess.run(
        up.command(), env=up.environment, capture_output=True, text=True, timeout=220, check=False
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    for name, zone in document["zones"].items():
        account = zone["spans"]
        assert account["produced"] > 1_000, (name, account)
        assert account == {**account, "stored": account["produced"], "lost": 0, "duplicated": 0}, (
            done.stderr
        )
        assert (zone["dead_letters"], zone["quarantined"]) == (0, 0)
    assert document["seconds"] >= 15
    assert document["synthetic_runs"] > 0
    assert document["dashboard"]["answered"] is True
    assert document["restarts"] == {}, done.stderr
    regions = {(cell["zone"], cell["region"]) for cell in document["cells"]}
    assert regions == {("eu", "eu-west-1"), ("eu", "eu-central-1"), ("us", "us-east-1")}
    assert sum(document["verdicts"].values()) == len(document["cells"])
    untested = {cell["route"] for cell in document["cells"] if cell["verdict"] == "untested"}
    assert "/orders/{order_id}" in untested
    eventually_gone(up)

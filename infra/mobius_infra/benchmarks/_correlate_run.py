"""One measured run of the correlate job, in a process of its own: its peak of memory is its own, too.

Started by :mod:`mobius_infra.benchmarks.correlate` with what to do as JSON, answers with JSON.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import psutil

from mobius_analysis.cells import load_cells
from mobius_analysis.jobs import run_job
from mobius_analysis.verdicts import VERDICTS
from mobius_infra.benchmarks._engine import cpu_seconds
from mobius_instrumentation.zones import Zone
from mobius_pipeline.store import Purpose, connect

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["Task", "run_task"]


@dataclass(frozen=True, slots=True)
class Task:
    """What to correlate: ``minutes`` from ``since`` on (ISO 8601), cut into ``windows``; ``job``: with findings, saved."""

    url: str
    database: str
    engine_pid: int
    since: str
    minutes: int
    windows: int = 1
    job: bool = False

    def arguments(self) -> list[str]:
        """Return the command that runs it."""
        return [
            sys.executable,
            "-m",
            "mobius_infra.benchmarks._correlate_run",
            json.dumps(asdict(self)),
        ]


class _TimedClient:
    """A client that counts the CPU time of its own threads: reading answers off the wire and taking them apart."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.cpu_seconds = 0.0
        self.bytes = 0

    def query_arrow(self, *args: Any, **kwargs: Any) -> Any:
        begin = time.thread_time()
        table = self._client.query_arrow(*args, **kwargs)
        self.cpu_seconds += time.thread_time() - begin
        self.bytes += table.nbytes
        return table

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def run_task(task: Task) -> dict[str, Any]:
    """Correlate once and say what it took; CPU time where processes share cores, wall time as it was."""
    zone = Zone("eu", ("eu-00",), ("127.0.0.1:1",), task.url, task.database)
    since = datetime.fromisoformat(task.since)
    until = since + timedelta(minutes=task.minutes)
    engine, own = psutil.Process(task.engine_pid), psutil.Process()
    _forget_peak(engine)
    client = _TimedClient(connect(zone, Purpose.ANALYSIS))
    before, ours, began = cpu_seconds(engine), cpu_seconds(own), time.monotonic()
    if task.job:
        cells = run_job(zone, since, until, now=until).correlation.cells
    else:
        length = timedelta(minutes=task.minutes // task.windows)
        cells = load_cells(cast("Client", client), zone, since, until, length).cells
    seconds = time.monotonic() - began
    clickhouse, all_ours = cpu_seconds(engine) - before, cpu_seconds(own) - ours
    whole = clickhouse + all_ours
    answer = {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(whole, 2),
        "cells": len(cells),
        "verdicts": {v: n for v in VERDICTS if (n := sum(cell.verdict == v for cell in cells))},
        "peak_memory_mib": _peak(own),
        "engine_peak_memory_mib": _peak(engine),
    }
    if not task.job:
        answer["transferred_mib"] = round(client.bytes / 2**20)
        answer["share"] = {
            "clickhouse": round(clickhouse / whole, 3),
            "transfer": round(client.cpu_seconds / whole, 3),
            "polars": round((all_ours - client.cpu_seconds) / whole, 3),
        }
    return answer


def _forget_peak(process: psutil.Process) -> None:
    """Make the kernel count a process's peak of memory from now on (proc(5), clear_refs)."""
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def _peak(process: psutil.Process) -> int:
    """Peak of resident memory in MiB; what getrusage says is at least that of the process that started this one."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    [peak] = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return round(int(peak) / 1024)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run_task(Task(**json.loads(sys.argv[1])))))

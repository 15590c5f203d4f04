"""A real store for fuzz targets: started at the first use, with one migrated zone."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mobius_instrumentation.zones import Zone
from mobius_pipeline.migrate import migrate
from mobius_pipeline.store import Purpose, connect
from tests.conftest import start_store

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["Engine", "close_engine", "engine"]

_TABLES: Final = (
    "spans", "latency_minute", "quarantine", "trace_times", "synthetic_results", "synthetic_runs", "synthetic_imports",
)  # fmt: skip
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Engine:
    """A store server's process, the zone in it, and a client as the worker opens it."""

    process: subprocess.Popen[str]
    folder: Path
    zone: Zone
    client: Client

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.client.query(query).result_rows]

    def clear(self) -> None:
        for table in _TABLES:
            self.client.command(f"TRUNCATE TABLE {table}")

    def cpu_seconds(self) -> float:
        """What the server's process has used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text("utf-8").rpartition(")")[2]
        return sum(map(int, fields.split()[11:13])) / _TICKS


@cache
def engine() -> Engine:
    folder = Path(tempfile.mkdtemp(prefix="mobius-fuzz-store-"))
    process, url = start_store(folder)
    zone = Zone("eu", ("eu-west-1", "eu-central-1"), ("127.0.0.1:1",), url, "rum_fuzz")
    migrate(zone)
    return Engine(process, folder, zone, connect(zone, Purpose.INGEST))


def close_engine() -> float:
    """Stop the store; its CPU seconds. Nothing where none was started."""
    if not engine.cache_info().currsize:
        return 0.0
    running = engine()
    seconds = running.cpu_seconds()
    running.client.close()
    running.process.terminate()
    running.process.wait(timeout=30)
    shutil.rmtree(running.folder, ignore_errors=True)
    engine.cache_clear()
    return seconds

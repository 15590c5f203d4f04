"""Has a pipeline drain a topic, and measures what that takes: CPU time of both sides, wall time, memory, disk."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import psutil

from mobius_infra.benchmarks._engine import Engine, cpu_seconds
from mobius_infra.benchmarks._pipelines import Pipeline
from mobius_pipeline.errors import TerminalError
from mobius_pipeline.store import Purpose, connect

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["Drained", "drain", "kill_and_compare"]

_POLL_SECONDS: Final = 0.25
_STALL_SECONDS: Final = 120.0
# After a kill only this tells that a pipeline is done: nothing more comes. Short where nothing is missing; else longer
# than the session of a group.
_COMPLETE_SECONDS: Final = 3.0
_SETTLED_SECONDS: Final = 60.0
_QUIET_SECONDS: Final = 2.0
_IDLE_SECONDS: Final = 2.0
_SAMPLE_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Drained:
    """What it took to store ``spans`` spans.

    Attributes
    ----------
    worker_seconds
        CPU time (user and system) of the pipeline's process, without what its start takes.
    engine_seconds
        CPU time of the engine until its merges are quiet, without what it uses idle.
    wall_seconds
        From the start of the process until the last span is there.
    peak_bytes
        Most resident memory of the pipeline's process.
    table_bytes
        On disk after all parts are merged, by what the table holds.
    doubled
        Rows stored beyond the number of spans: a pipeline repeats what it takes for failed.
    requests
        Of the rollup; 0 where there is none.
    """

    spans: int
    doubled: int
    worker_seconds: float
    engine_seconds: float
    wall_seconds: float
    peak_bytes: int
    table_bytes: dict[str, int]
    requests: int


@dataclass(slots=True)
class _Memory:
    """Samples a process's resident memory in a thread."""

    process: psutil.Process
    peak: int = 0
    _end: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def watch(self) -> Iterator[None]:
        thread = threading.Thread(target=self._sample, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._end.set()
            thread.join()

    def _sample(self) -> None:
        while not self._end.wait(_SAMPLE_SECONDS):
            try:
                self.peak = max(self.peak, int(self.process.memory_info().rss))
            except psutil.NoSuchProcess:
                return


def drain(
    pipeline: Pipeline,
    store: Engine,
    *,
    warm_up: tuple[str, int],
    backlog: tuple[str, int],
    database: str,
) -> Drained:
    """Have ``pipeline`` store a backlog (topic, and how many spans it holds).

    1. Store a small topic first: what the process takes for its start, and the engine for its first insert, is no
       cost of a span.
    2. Read the engine's idle consumption.
    3. Store the backlog.
    4. Wait until the engine's merges are quiet; read CPU times.
    5. Merge to one part a partition, for the size alone.

    Raises
    ------
    TerminalError
        The pipeline ends, or stops storing.
    """
    warm = pipeline.prepare(store, warm_up[0], f"{database}_warm")
    ready = pipeline.prepare(store, backlog[0], database)
    client = connect(store.zone, Purpose.INGEST, database=database)
    start_seconds, _, _ = _store(warm, store, warm_up[1])  # 1
    _await_quiet(client)
    idle_from = cpu_seconds(store.process)  # 2
    time.sleep(_IDLE_SECONDS)
    before = cpu_seconds(store.process)
    idle = (before - idle_from) / _IDLE_SECONDS
    began = time.monotonic()
    worker_seconds, wall_seconds, peak = _store(ready, store, backlog[1])  # 3
    _await_quiet(client)  # 4
    engine_seconds = cpu_seconds(store.process) - before - idle * (time.monotonic() - began)
    sizes = {what: _merged_bytes(client, table) for what, table in ready.tables.items()}  # 5
    requests = 0
    if "rollup" in ready.tables:
        [[requests]] = client.query("SELECT sum(requests) FROM latency_minute").result_rows
    doubled = _rows(client, ready) - backlog[1]
    client.close()
    return Drained(
        spans=backlog[1],
        doubled=doubled,
        worker_seconds=worker_seconds - start_seconds,
        engine_seconds=engine_seconds,
        wall_seconds=wall_seconds,
        peak_bytes=peak,
        table_bytes=sizes,
        requests=int(requests),
    )


def kill_and_compare(
    pipeline: Pipeline,
    store: Engine,
    *,
    backlog: tuple[str, set[bytes]],
    database: str,
    kills: int,
) -> dict[str, float]:
    """Kill the pipeline's process (SIGKILL) ``kills`` times, each time just after spans became visible.

    The k-th kill comes once k / (kills + 1) of the spans are stored, and the process is started again at once.

    Returns
    -------
    dict
        ``lost`` spans, ``doubled`` rows (beyond the first of an id), and ``seconds`` until the last span came.
    """
    topic, produced = backlog
    ready = pipeline.prepare(store, topic, database)
    client = connect(store.zone, Purpose.INGEST, database=database)
    marks = [len(produced) * kill // (kills + 1) for kill in range(1, kills + 1)]
    process = ready.start()
    began = last = time.monotonic()
    stored = 0
    try:
        while time.monotonic() - last < _patience(stored, len(produced)):
            now = _rows(client, ready)
            if now != stored:
                stored, last = now, time.monotonic()
            if marks and stored >= marks[0]:
                marks.pop(0)
                process.kill()
                process.wait()
                process = ready.start()
            time.sleep(0.02 if marks else _POLL_SECONDS)
    finally:
        process.kill()
        process.wait()
    ids = client.raw_query(
        f"SELECT {ready.span_id} FROM {ready.tables['spans']}",  # noqa: S608 - constants of the pipelines
        fmt="RowBinary",
    )
    client.close()
    distinct = {ids[at : at + 8] for at in range(0, len(ids), 8)}
    return {
        "kills": kills - len(marks),
        "lost": len(produced - distinct),
        "doubled": len(ids) // 8 - len(distinct),
        "seconds": round(last - began, 1),
    }


def _patience(stored: int, spans: int) -> float:
    if not stored:
        return _STALL_SECONDS
    return _COMPLETE_SECONDS if stored >= spans else _SETTLED_SECONDS


def _store(pipeline: Pipeline, store: Engine, spans: int) -> tuple[float, float, int]:
    """Run the pipeline until all spans are stored: its CPU seconds, wall seconds, peak of memory in bytes."""
    client = connect(store.zone, Purpose.INGEST, database=pipeline.database)
    began = last = time.monotonic()
    process = pipeline.start()
    watched = psutil.Process(process.pid)
    memory = _Memory(watched)
    stored = 0
    try:
        with memory.watch():
            while stored < spans:
                time.sleep(_POLL_SECONDS)
                now = _rows(client, pipeline)
                if now > spans:  # some are there twice: are all?
                    now = _distinct(client, pipeline)
                if now != stored:
                    stored, last = now, time.monotonic()
                if process.poll() is not None or time.monotonic() - last > _STALL_SECONDS:
                    raise TerminalError(
                        f"a pipeline of the benchmark stopped at {stored} of {spans} spans"
                    )
        used = cpu_seconds(watched)
    finally:
        _end(process)
        client.close()
    return used, last - began, memory.peak


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _rows(client: Client, pipeline: Pipeline) -> int:
    [[rows]] = client.query(
        "SELECT sum(rows) FROM system.parts WHERE active AND database = {database:String} AND table = {table:String}",
        parameters={"database": pipeline.database, "table": pipeline.tables["spans"]},
    ).result_rows
    return int(rows)


def _distinct(client: Client, pipeline: Pipeline) -> int:
    [[ids]] = client.query(
        f"SELECT uniqExact({pipeline.span_id}) FROM {pipeline.tables['spans']}"  # noqa: S608 - constants of the pipelines
    ).result_rows
    return int(ids)


def _await_quiet(client: Client) -> None:
    """Wait until no part is being merged and none has been for a while."""
    before, since = None, time.monotonic()
    while time.monotonic() - since < _QUIET_SECONDS:
        time.sleep(_POLL_SECONDS)
        now = client.query(
            "SELECT (SELECT count() FROM system.merges), count(), sum(rows) FROM system.parts WHERE active"
        ).result_rows
        if now != before or now[0][0]:
            before, since = now, time.monotonic()


def _merged_bytes(client: Client, table: str) -> int:
    client.command(f"OPTIMIZE TABLE {table} FINAL")
    [[size]] = client.query(
        "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = currentDatabase() "
        "AND table = {table:String}",
        parameters={"table": table},
    ).result_rows
    return int(size)

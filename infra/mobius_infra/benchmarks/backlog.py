"""Memory of a worker that drains a backlog of a gigabyte, against a limit that the kernel holds it to.

The limit is on the process's data (``RLIMIT_DATA``: heap and all private memory); beyond it an allocation fails, so a
worker that finishes has kept to it. Its peak resident memory is the kernel's own figure (``VmHWM``).
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from kafka import KafkaProducer

from mobius_infra.benchmarks._engine import Engine, broker, engine
from mobius_infra.benchmarks._spans import make_messages
from mobius_pipeline.errors import TerminalError
from mobius_pipeline.kafka_client import ensure_topics
from mobius_pipeline.status import lag
from mobius_pipeline.store import Purpose, connect

__all__ = ["run"]

_BYTES: Final = 1_000_000_000
_PARTITIONS: Final = 6
_LIMIT_MB: Final = 512
_SECONDS: Final = 1_800.0
# An outage's backlog holds whatever services sent: messages of a usual size, and now and then one of a megabyte.
_SPANS_A_BIG_MESSAGE: Final = 4_000
_BIG_EVERY: Final = 40


def run(size_bytes: int = _BYTES, limit_mb: int = _LIMIT_MB) -> dict[str, Any]:
    """Produce a backlog of ``size_bytes``, let one worker with default limits drain it, and watch its memory."""
    with broker() as address, engine(kafka=address) as store:
        ensure_topics(store.zone, partitions=_PARTITIONS)
        produced = _produce(store, size_bytes)
        began = time.monotonic()
        peak_kb = _drain(store, limit_mb)
        seconds = time.monotonic() - began
        client = connect(store.zone, Purpose.ANALYSIS)
        (stored,) = client.query("SELECT count() FROM spans").result_rows[0]
        client.close()
    if stored != produced["spans"]:
        raise TerminalError(f"{produced['spans']} spans were produced and {stored} stored")
    return {
        "what": "peak resident memory of one worker that drains a backlog, and the limit that it was held to",
        **produced,
        "partitions": _PARTITIONS,
        "limit_mb": limit_mb,
        "peak_resident_mb": round(peak_kb / 1000, 1),
        "ratio": round(peak_kb / 1000 / limit_mb, 3),
        "seconds": round(seconds, 1),
        "megabytes_per_second": round(produced["bytes"] / 1e6 / seconds, 1),
    }


def _produce(store: Engine, size_bytes: int) -> dict[str, int]:
    """Send the same few messages again and again: what is measured is their passage, not what is in them."""
    usual = [(each, 480) for each in make_messages(4_800, region="eu-west-1")]
    parts = make_messages(_SPANS_A_BIG_MESSAGE, region="eu-west-1", seed=2)
    big = (b"".join(parts), -(-_SPANS_A_BIG_MESSAGE // 6) * 6)
    producer = KafkaProducer(
        bootstrap_servers=list(store.zone.kafka),
        acks="all",
        linger_ms=20,
        batch_size=1 << 20,
        max_request_size=8 << 20,
    )
    spans = size = messages = 0
    while size < size_bytes:
        value, count = big if messages % _BIG_EVERY == 0 else usual[messages % len(usual)]
        producer.send(store.zone.spans_topic, value, partition=messages % _PARTITIONS)
        messages, spans, size = messages + 1, spans + count, size + len(value)
    producer.flush(timeout=120)
    producer.close()
    return {"bytes": size, "messages": messages, "spans": spans}


def _drain(store: Engine, limit_mb: int) -> int:
    """Run a worker until nothing is left; returns its peak resident memory in kilobytes."""
    zone = store.zone
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "zones.toml"
        config.write_text(
            f'[zones.{zone.name}]\nregions = ["eu-west-1"]\nkafka = ["{zone.kafka[0]}"]\n'
            f'clickhouse = "{zone.clickhouse}"\n',
            encoding="utf-8",
        )
        log = Path(folder) / "worker.log"
        with log.open("wb") as output:
            worker = subprocess.Popen(
                [
                    *(sys.executable, "-m", "mobius_infra.cli", "ingest"),
                    *("--config", str(config), "--zone", zone.name),
                ],
                stderr=output,
                preexec_fn=lambda: resource.setrlimit(  # noqa: PLW1509 - the child runs this one call and then its program
                    resource.RLIMIT_DATA, (limit_mb << 20, limit_mb << 20)
                ),
            )
        try:
            return _watch(store, worker, log)
        finally:
            worker.terminate()
            worker.wait()


def _watch(store: Engine, worker: subprocess.Popen[bytes], log: Path) -> int:
    deadline = time.monotonic() + _SECONDS
    while lag(store.zone):
        if worker.poll() is not None or time.monotonic() > deadline:
            lines = log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise TerminalError(f"the worker did not drain the backlog within its limit:\n{lines}")
        time.sleep(1)
    status = Path(f"/proc/{worker.pid}/status").read_text(encoding="ascii").splitlines()
    (peak,) = (line for line in status if line.startswith("VmHWM"))
    return int(peak.split()[1]) * 1024 // 1000

"""How long the correlate job takes for a large zone, how much memory, and how both grow.

A zone of users and tests is drawn (:mod:`mobius_infra.benchmarks._correlate_traffic`) into the tables of the
migrations, a service at a time; at an eighth, a quarter, half and all of it the first day is correlated in a
process of its own. Then the whole zone again: fewer minutes, several windows, and the scheduled job with
everything it saves.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from typing import Any, Final

from mobius_infra.benchmarks._correlate_run import Task
from mobius_infra.benchmarks._correlate_store import Filling
from mobius_infra.benchmarks._correlate_traffic import DAY, MINUTES, Traffic
from mobius_infra.benchmarks._engine import engine
from mobius_pipeline.errors import TerminalError
from mobius_pipeline.options import progress

__all__ = ["run"]

_SIZES: Final = (0.125, 0.25, 0.5, 1.0)
_WINDOWS: Final = (2, 4)
_DENSE_RATE: Final = 10_000.0
"""Users' requests a second at 2,000 endpoints: 30 a minute in each of 20,000 cells."""


def run(
    endpoints: int = 2000, regions: int = 10, days: int = 7, *, dense: bool = False
) -> dict[str, Any]:
    """Fill and correlate; ``dense``: every endpoint is used in every region in nearly every minute."""
    traffic = Traffic(endpoints, regions, days)
    if dense:
        traffic = replace(traffic, requests_per_second=_DENSE_RATE, exponent=0.0)
    points = sorted({max(1, round(traffic.services * size)) for size in _SIZES})
    steps = traffic.services + len(points) + len(_WINDOWS) + 3
    with engine() as store, progress("Filling and correlating", steps) as advance:
        filling = Filling(store.zone, traffic)
        day = Task(
            store.zone.clickhouse, store.zone.database, store.process.pid, DAY.isoformat(), MINUTES
        )
        curve = []
        for service in range(traffic.services):
            filling.add(service)
            advance(1)
            if service + 1 in points:
                curve.append({**filling.size(), **_measure(day)})
                advance(1)
        minutes = []
        for part in (4, 2):
            minutes.append(
                {"minutes": MINUTES // part, **_measure(replace(day, minutes=MINUTES // part))}
            )
            advance(1)
        windows = []
        for count in _WINDOWS:
            windows.append({"windows": count, **_measure(replace(day, windows=count))})
            advance(1)
        job = _measure(replace(day, job=True))
        filled = filling.document()
        filling.close()
    return {
        "what": "correlate one day of a large zone: seconds, memory, and where the CPU time goes",
        "traffic": traffic.document(),
        "store": filled,
        "curve_by_endpoints": curve,
        "curve_by_minutes": minutes,
        "curve_by_windows": windows,
        "job_with_findings_saved": job,
    }


def _measure(task: Task) -> dict[str, Any]:
    done = subprocess.run(task.arguments(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise TerminalError(f"the measured run failed: {done.stderr.strip()[-500:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer

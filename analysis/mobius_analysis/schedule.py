"""Runs the jobs regularly: the process that keeps verdicts and findings up to date."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TextIO

from apscheduler.schedulers.background import BackgroundScheduler

from mobius_analysis.jobs import run_job
from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import MobiusError

__all__ = ["run_regularly"]


def _now() -> datetime:
    return datetime.now(UTC)


def run_regularly(
    zones: Sequence[Zone],
    every: timedelta,
    look_back: timedelta,
    stop: threading.Event,
    *,
    log: TextIO,
    clock: Callable[[], datetime] = _now,
    export: Callable[[Zone, datetime], str] | None = None,
) -> None:
    """Run the correlate job of each zone at once and then every ``every``, until ``stop`` is set.

    ``export`` is run as often, where there is a hub; it gets the time, and returns what it did in a line.

    A run that takes longer than ``every`` is not overtaken by the next, and a run that fails is told
    on ``log`` and tried again at its next turn: a store that restarts must not end the schedule.
    """
    scheduler = BackgroundScheduler(timezone=UTC)
    for zone in zones:
        scheduler.add_job(
            _run,
            "interval",
            args=(zone, look_back, log, clock),
            seconds=every.total_seconds(),
            next_run_time=clock(),
            id=f"correlate {zone.name}",
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,
        )
        if export:
            scheduler.add_job(
                _export,
                "interval",
                args=(zone, export, log, clock),
                seconds=every.total_seconds(),
                next_run_time=clock(),
                id=f"export {zone.name}",
                max_instances=1,
                coalesce=True,
                misfire_grace_time=None,
            )
    scheduler.start()
    try:
        stop.wait()
    finally:
        scheduler.shutdown(wait=True)


def _run(zone: Zone, look_back: timedelta, log: TextIO, clock: Callable[[], datetime]) -> None:
    begin = time.monotonic()
    now = clock()
    try:
        result = run_job(zone, now - look_back, now, now=now)
    except MobiusError as error:
        _tell(log, f"correlate {zone.name}: {error}")
        return
    _tell(
        log,
        f"correlate {zone.name}: {len(result.correlation.cells)} cells, {len(result.findings)} findings"
        f" in {time.monotonic() - begin:.1f} s",
    )


def _export(
    zone: Zone,
    export: Callable[[Zone, datetime], str],
    log: TextIO,
    clock: Callable[[], datetime],
) -> None:
    try:
        _tell(log, f"export {export(zone, clock())}")
    except MobiusError as error:
        _tell(log, f"export {zone.name}: {error}")


def _tell(log: TextIO, text: str) -> None:
    log.write(f"{_now():%Y-%m-%dT%H:%M:%SZ} {text}\n")
    log.flush()

"""Runs the jobs regularly: the process that keeps verdicts and findings up to date."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TextIO

from apscheduler.schedulers.background import BackgroundScheduler

from mobius_analysis.jobs import run_job
from mobius_analysis.rollup import Window
from mobius_analysis.suite_tracks import bin_length
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
    on ``log`` and tried again at its next turn: a store that restarts must not end the schedule. Changes without a
    release are looked for once a bin of theirs, which costs more than all the rest of a run.
    """
    scheduler = BackgroundScheduler(timezone=UTC)
    for zone in zones:
        scheduler.add_job(
            _Correlation(zone, look_back, log, clock).run,
            "interval",
            seconds=every.total_seconds(),
            next_run_time=_now(),
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
                next_run_time=_now(),
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


class _Correlation:
    """The correlate job of one zone, run after run."""

    def __init__(
        self, zone: Zone, look_back: timedelta, log: TextIO, clock: Callable[[], datetime]
    ) -> None:
        self._zone, self._look_back, self._log, self._clock = zone, look_back, log, clock
        self._assessed: int | None = None

    def run(self) -> None:
        begin = time.monotonic()
        now = self._clock()
        since = now - self._look_back
        # A minute later, when what belongs to the bin has arrived.
        last_bin = (int(now.timestamp()) // 60 - 1) // bin_length(Window.of(since, now))
        try:
            result = run_job(self._zone, since, now, now=now, suite=last_bin != self._assessed)
        except MobiusError as error:
            _tell(self._log, f"correlate {self._zone.name}: {error}")
            return
        self._assessed = last_bin
        _tell(
            self._log,
            f"correlate {self._zone.name}: {len(result.correlation.cells)} cells,"
            f" {len(result.findings)} findings in {time.monotonic() - begin:.1f} s",
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

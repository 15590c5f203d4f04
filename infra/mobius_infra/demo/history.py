"""Push a generated past of the demo shop through the real path: Kafka, and the importer of results.

``python -m mobius_infra.demo.history --hours 24 --config zones.toml --json`` gives charts, releases
and intervals something to stand on as soon as the stack is up; the live services then go on from the
same latency models. Everything generated says so (resource attribute ``mobius.demo.generated``).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np

from mobius_infra.demo import shop
from mobius_infra.demo.counters import write_atomically
from mobius_infra.demo.history_draw import TestRun, draw_requests, test_runs
from mobius_infra.demo.history_import import import_runs
from mobius_infra.demo.history_push import Push
from mobius_infra.demo.history_runs import RunFile, write_run_files
from mobius_infra.demo.history_spans import SpanRows, Traced, encode_requests, resource_of, trace
from mobius_infra.demo.span_templates import message
from mobius_instrumentation.zones import Zone, Zones
from mobius_pipeline.config import load_config
from mobius_pipeline.errors import MobiusError, UsageError

__all__ = ["Period", "RegionHistory", "draw_region", "main", "messages", "push_history"]

_HOUR_NS: Final = 3_600_000_000_000
_SLAB_NS: Final = 150_000_000_000
_RELEASE_HOURS: Final = 6.0
_SCOPE: Final = "mobius_infra.demo.history"


@dataclass(frozen=True, slots=True)
class Period:
    """When the history begins, when the release is rolled out in it, when it ends; ns since the epoch."""

    start_ns: int
    release_ns: int
    end_ns: int

    @classmethod
    def before(cls, end_ns: int, hours: float) -> Period:
        """Period of ``hours`` that ends at ``end_ns``; its last quarter, at most 6 h, is the release's."""
        length = round(hours * _HOUR_NS)
        release = min(_RELEASE_HOURS * _HOUR_NS, length / 4)
        return cls(end_ns - length, end_ns - round(release), end_ns)


@dataclass(frozen=True, slots=True, eq=False)
class RegionHistory:
    """One region's past: all requests with their ids, and the encoded spans."""

    region: str
    runs: list[TestRun]
    traced: list[Traced] = field(default_factory=list)
    spans: list[SpanRows] = field(default_factory=list)


def draw_region(region: str, period: Period, seed: int) -> RegionHistory:
    """Draw the past of one region. The same seed and period give the same spans, ids included."""
    # Ids depend on the time too: two histories in one store must not share any.
    rng = np.random.default_rng([seed, shop.REGIONS.index(region), period.end_ns])
    label = f"{period.end_ns // 10**9 % 10**6:06d}"
    history = RegionHistory(
        region, test_runs(region, period.start_ns, period.end_ns, period.release_ns, label)
    )
    span_ns = (period.start_ns, period.end_ns)
    for requests in draw_requests(region, span_ns, period.release_ns, history.runs, rng):
        traced = trace(requests, rng)
        history.traced.append(traced)
        history.spans.extend(encode_requests(traced, history.runs, rng))
    return history


def messages(histories: list[RegionHistory], period: Period) -> Iterator[tuple[bytes, int]]:
    """OTLP messages in the order of time, each with its number of spans.

    One message holds 150 s of one service, release and region: few and big, as brokers
    like them, yet in bursts under the 1 MB that Kafka takes by default.
    """
    edges = np.arange(period.start_ns, period.end_ns + _SLAB_NS, _SLAB_NS)
    groups: dict[tuple[str, str, str], list[tuple[SpanRows, list[int]]]] = {}
    for history in histories:
        for rows in history.spans:
            key = (history.region, rows.service, rows.version)
            groups.setdefault(key, []).append(
                (rows, np.searchsorted(rows.start_ns, edges).tolist())
            )
    for slab in range(edges.size - 1):
        for (region, service, version), parts in groups.items():
            chosen = [rows.rows[cut[slab] : cut[slab + 1]] for rows, cut in parts]
            spans = sum(len(rows) for rows in chosen)
            if spans:
                resource = resource_of(service, version, region)
                yield message(resource, _SCOPE, b"".join(rows.tobytes() for rows in chosen)), spans


def push_history(
    zones: Zones, hours: float, *, seed: int = 1, now_ns: Callable[[], int] = time.time_ns
) -> dict[str, object]:
    """Draw, push and import the history of all the shop's regions that ``zones`` knows.

    Returns
    -------
    The document of ``--json``: spans that each zone's broker acknowledged, runs imported, seconds.

    Raises
    ------
    UsageError
        The map knows none of the shop's regions.
    DependencyError
        A broker or store does not answer.
    """
    begin = time.monotonic()
    period = Period.before(now_ns(), hours)
    produced: dict[str, dict[str, int]] = {}
    waiting: list[tuple[Zone, RunFile]] = []
    with TemporaryDirectory(prefix="mobius-history-") as folder:
        for zone in zones:
            regions = [region for region in zone.regions if region in shop.REGIONS]
            if regions:
                histories = [draw_region(region, period, seed) for region in regions]
                produced[zone.name] = {"produced": _push(zone, histories, period)}
                waiting += [(zone, file) for file in _write(histories, Path(folder), seed)]
        # Last, so that the workers take up the spans meanwhile.
        imported = import_runs(waiting)
    if not produced:
        raise UsageError(f"{zones.file} has none of the demo's regions: {', '.join(shop.REGIONS)}")
    seconds = round(time.monotonic() - begin, 3)
    return {"zones": produced, "synthetic_runs": imported, "seconds": seconds}


def _push(zone: Zone, histories: list[RegionHistory], period: Period) -> int:
    with Push(zone) as push:
        for octets, spans in messages(histories, period):
            push.send(octets, spans)
        return push.acknowledged()


def _write(histories: list[RegionHistory], folder: Path, seed: int) -> list[RunFile]:
    rng = np.random.default_rng(seed)
    files: list[RunFile] = []
    for history in histories:
        tests = [traced for traced in history.traced if traced.requests.tests]
        if tests:
            files += write_run_files(folder, history.runs, tests, rng)
    return files


def main(arguments: list[str] | None = None) -> int:
    """Generate the demo shop's past and push it into the local stack."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--hours", type=float, default=24.0, help="length of the history")
    parser.add_argument("--config", help="zones.toml; as for every command if left out")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--stats-file", type=Path, help="write the document of --json to this file too"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    try:
        if not 0 < options.hours <= 24 * 31:
            raise UsageError("must be more than 0 and at most 744", field="--hours")
        document = push_history(load_config(options.config), options.hours, seed=options.seed)
    except MobiusError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    text = json.dumps(document)
    if options.stats_file is not None:
        write_atomically(options.stats_file, text)
    sys.stdout.write(f"{text}\n" if options.json else f"{_sentence(document)}\n")
    return 0


def _sentence(document: dict[str, object]) -> str:
    return f"pushed the generated history: {json.dumps(document)}"


if __name__ == "__main__":
    sys.exit(main())

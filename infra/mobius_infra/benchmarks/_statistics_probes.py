"""Real data: neighbouring windows of scheduled probes, in which nothing was released and much drifts.

tests/data/probes: 93,097 probes of PostgreSQL's read latency on Azure, two regions by two sizes of virtual
machine, May 2023 to September 2024 (Azure/AzurePublicDataset, vm-noise-data; TUNA, EuroSys 2025; CC-BY-4.0).
Who compares two neighbouring windows should hardly ever be told that something changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from mobius_analysis.intervals import estimate
from mobius_analysis.ratio import Ratio, ratio
from mobius_analysis.verdicts import HEADLINE, Verdict, discoveries, judge
from mobius_infra.benchmarks._statistics_peers import PEERS
from mobius_infra.benchmarks._statistics_worlds import Draw, histograms
from mobius_pipeline.errors import UsageError

__all__ = ["load_probes", "neighbours", "windows_of"]

_NAME: Final = "pg_ro_latency_probes.parquet"
_SERIES: Final = ("region", "sku", "lifespan")
_DAYS: Final = (7, 14, 30)
_COUNTS: Final = (100, 300, 1000)
_LEAST: Final = 20


def load_probes(path: Path | None = None) -> pl.DataFrame:
    """Read the probes: region, sku, lifespan, starttime (UTC) and value (milliseconds) of each.

    Raises
    ------
    UsageError
        The data set is not there.
    """
    path = path or _data_folder() / _NAME
    try:
        return pl.read_parquet(path)
    except OSError as error:
        raise UsageError(f"cannot read the recorded probes ({error})", file=str(path)) from error


def _data_folder() -> Path:
    """In the wheel, or in the repository."""
    package = Path(__file__).resolve().parent
    packed = package / "probes"
    return packed if packed.is_dir() else package.parents[2] / "tests/data/probes"


def neighbours(probes: pl.DataFrame) -> list[dict[str, Any]]:
    """Compare each window with the next one of its series; one row per length of window and method.

    Series are region x size x lifespan (machines that stay, machines that come and go). Every length is one
    run, hence one family for the correction of claims, as in `correlate`.
    """
    rows = []
    for length in (*(f"{days} d" for days in _DAYS), *(f"{count} probes" for count in _COUNTS)):
        pairs = [
            pair
            for _, series in sorted(probes.group_by(*_SERIES))
            for pair in pairwise(windows_of(series, length))
        ]
        given = {"mobius": Counter(_judge(pairs))}
        for name, method in PEERS.items():
            given[name] = Counter(method(after, before) for before, after in pairs)
        rows += [_row(length, name, len(pairs), counts) for name, counts in given.items()]
    return rows


def windows_of(series: pl.DataFrame, length: str) -> Iterator[Draw]:
    """Cut one series into windows of ``length`` ("7 d" or "100 probes") of at least 20 probes each."""
    series = series.sort("starttime")
    size, unit = length.split()
    parts = (
        (part for _, part in series.group_by_dynamic("starttime", every=f"{size}d"))
        if unit == "d"
        else series.iter_slices(int(size))
    )
    for part in parts:
        if part.height >= (_LEAST if unit == "d" else int(size)):
            minutes = part["starttime"].dt.epoch("s").to_numpy() // 60
            seconds = part["value"].to_numpy() / 1000
            ones = np.ones(part.height)
            yield Draw(minutes, seconds, ones, histograms(minutes, seconds, ones))


def _judge(pairs: list[tuple[Draw, Draw]]) -> list[Verdict]:
    ratios = [_ratios(before, after) for before, after in pairs]
    members = [(i, q) for i, pair in enumerate(ratios) for q in HEADLINE if pair[q].known]
    survived = discoveries([ratios[i][q].p_beyond() for i, q in members])
    kept: list[dict[float, bool]] = [{} for _ in pairs]
    for (i, q), survives in zip(members, survived, strict=True):
        kept[i][q] = survives
    return [
        judge(
            found,
            keep,
            production_requests=len(after.seconds),
            synthetic_requests=len(before.seconds),
        )
        for found, keep, (before, after) in zip(ratios, kept, pairs, strict=True)
    ]


def _ratios(before: Draw, after: Draw) -> dict[float, Ratio]:
    x, y = before.clusters, after.clusters
    if x is None or y is None:
        raise ValueError("a window without probes")
    return {q: ratio(estimate(y, q), estimate(x, q)) for q in HEADLINE}


def _row(length: str, method: str, pairs: int, counts: Counter[Verdict]) -> dict[str, Any]:
    flagged = counts["optimistic"] + counts["pessimistic"]
    return {
        "window": length,
        "method": method,
        "pairs": pairs,
        "flagged": flagged,
        "flagged_share": round(flagged / pairs, 4),
        "representative_share": round(counts["representative"] / pairs, 4),
    }

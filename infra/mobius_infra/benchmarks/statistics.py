"""Are the statistics honest? Simulated windows with a known truth and real probes, through the product's own functions.

docs/statistics.md says what the figures mean; its tables and plots are written by this benchmark
(``--plots``).
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from mobius_infra.benchmarks._statistics_claims import OURS, claim_tasks, measure_claims
from mobius_infra.benchmarks._statistics_coverage import coverage_tasks, measure_coverage
from mobius_infra.benchmarks._statistics_probes import load_probes, neighbours
from mobius_infra.benchmarks._statistics_tables import (
    coverage_table,
    coverage_targets,
    false_claims,
    false_passes,
    methods_table,
    power_table,
    real_targets,
    verdict_targets,
)
from mobius_pipeline.options import progress

__all__ = ["run"]

SEED: Final = 20260301
_REPEATS: Final = {"coverage": 120, "claims": 40}
_QUICK: Final = {"coverage": 10, "claims": 3}

Rows = list[dict[str, Any]]
T = TypeVar("T")


def run(
    *, quick: bool = False, plots: Path | None = None, workers: int | None = None, seed: int = SEED
) -> dict[str, Any]:
    """Simulate, compare with other methods, and judge real probes.

    Parameters
    ----------
    quick
        A twelfth of the repetitions: to see that it runs, not to quote.
    plots
        Folder for the plots and tables of docs/statistics.md and for every single world's figures (CSV).
    workers
        Processes; as many as there are cores by default. The figures don't depend on it.
    seed
        Of every world's random numbers.

    Raises
    ------
    UsageError
        The real probes are not there.
    """
    probes = load_probes()
    repeats = _QUICK if quick else _REPEATS
    count = workers or os.cpu_count() or 1
    coverage = _measure(
        "coverage", measure_coverage, coverage_tasks(repeats["coverage"], seed), count
    )
    claims = _measure("verdicts", measure_claims, claim_tasks(repeats["claims"], seed), count)
    real = neighbours(probes)
    document = {
        "what": "coverage of intervals, wrong verdicts and power where the truth is known; flags on real probes",
        "seed": seed,
        "repeats": dict(repeats),
        "targets": [
            *coverage_targets(coverage),
            *verdict_targets(claims, OURS),
            *real_targets(real, OURS),
        ],
        **_tables(coverage, claims),
        "real_data": real,
    }
    if plots is not None:
        from mobius_infra.benchmarks._statistics_pages import write_pages

        write_pages(plots, document, {"coverage": coverage, "claims": claims})
    return document


def _tables(coverage: Rows, claims: Rows) -> dict[str, Any]:
    plain = [row for row in coverage if row["sampling"] == "none" and not row["together"]]
    sampled = [
        row for row in coverage if row["minutes"] in {60, 360} and row["requests"] in {200, 2000}
    ]
    end = ("of", "quantile")
    return {
        "coverage": {
            "by_window": coverage_table(plain, ("minutes", "phi", *end)),
            "by_requests": coverage_table(plain, ("requests", "phi", *end)),
            "by_shape": coverage_table(plain, ("shape", "phi", *end)),
            "by_window_and_requests": coverage_table(plain, ("minutes", "requests", "phi", *end)),
            "by_sampling": coverage_table(sampled, ("sampling", "together", "phi", *end)),
        },
        "methods": methods_table(claims),
        "false_claims": false_claims(claims, ("phi", "minutes", "shift", "ratio")),
        "false_claims_by_requests": false_claims(claims, ("requests", "shift", "ratio")),
        "false_passes": false_passes(claims, ("phi", "minutes", "shift", "ratio")),
        "power": power_table(claims, ("shift", "ratio", "requests", "minutes", "phi")),
    }


def _measure(title: str, function: Callable[[T], Rows], tasks: list[T], workers: int) -> Rows:
    rows: Rows = []
    with progress(title, len(tasks)) as advance:
        for found in _each(function, tasks, workers):
            rows += found
            advance(1)
    return rows


def _each(function: Callable[[T], Rows], tasks: Iterable[T], workers: int) -> Iterator[Rows]:
    if workers == 1:
        yield from map(function, tasks)
        return
    # Spawned, not forked: the polars of this process has threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield from pool.map(function, tasks)

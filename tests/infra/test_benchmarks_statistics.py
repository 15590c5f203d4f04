"""The statistics benchmark knows the truth it claims to know, and the product's intervals and verdicts hold in it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import polars as pl
import pytest

from mobius_analysis.testing import Requests, clusters_from
from mobius_infra.benchmarks import statistics
from mobius_infra.benchmarks._statistics_claims import (
    OURS,
    ClaimTask,
    Shift,
    claim_tasks,
    measure_claims,
)
from mobius_infra.benchmarks._statistics_coverage import (
    CoverageTask,
    coverage_tasks,
    measure_coverage,
)
from mobius_infra.benchmarks._statistics_peers import (
    PEERS,
    hodges_lehmann,
    k6_threshold,
    kayenta,
    mann_whitney,
    raw_percentiles,
)
from mobius_infra.benchmarks._statistics_probes import load_probes, neighbours, windows_of
from mobius_infra.benchmarks._statistics_tables import (
    coverage_table,
    coverage_targets,
    false_claims,
    false_passes,
    power_table,
    real_targets,
    verdict_targets,
)
from mobius_infra.benchmarks._statistics_worlds import (
    SHAPES,
    Draw,
    Sampling,
    Shape,
    World,
    draw_pair,
    histograms,
    sample_quantiles,
    shifted,
    truth,
)
from mobius_pipeline.errors import UsageError

# The truth of the worlds.


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sampling", ["none", "head", "tail"])
def test_a_world_has_the_quantiles_that_it_says(shape: Shape, sampling: Sampling) -> None:
    # Many minutes, so that their loads are all there.
    world = World(shape, 0.0, 40_000, 5000, sampling)
    draw, _ = draw_pair(np.random.default_rng(1), world, world)
    order = np.argsort(draw.seconds)
    reached = np.cumsum(draw.weights[order]) / draw.weights.sum()
    for q in (0.5, 0.95, 0.99):
        share = reached[np.searchsorted(draw.seconds[order], truth(world, q)) - 1]
        assert share == pytest.approx(q, abs=0.012 if q == 0.5 else 0.005)


def test_sample_quantiles_take_weights() -> None:
    x = np.array([410.0, 12, 15, 81, 33])
    draw = Draw(np.arange(5), x, np.array([1.0, 1, 2, 1, 5]), None)
    assert sample_quantiles(draw, (0.3, 0.5, 0.85, 0.95)).tolist() == [15, 33, 81, 410]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shift_moves_every_quantile_by_its_ratio_or_the_tail_alone(shape: Shape) -> None:
    world = World(shape, 0.5)
    whole, tail = Shift(1.3).of(world), Shift(1.3, whole=False).of(world)
    for q in (0.5, 0.95, 0.99):
        assert truth(whole, q) / truth(world, q) == pytest.approx(1.3)
        assert truth(tail, q) / truth(world, q) == pytest.approx(1.0 if q == 0.5 else 1.3)
    draw, _ = draw_pair(np.random.default_rng(2), world, world)
    moved = shifted(draw, tail)
    assert (np.argsort(moved.seconds) == np.argsort(draw.seconds)).all()
    assert moved.seconds.max() == pytest.approx(1.3 * draw.seconds.max())


def test_the_short_way_to_clusters_is_the_products_own() -> None:
    rng = np.random.default_rng(3)
    minutes = 29_000_000 + np.sort(rng.integers(0, 50, 400))
    seconds = 0.05 * np.exp(rng.standard_normal(400))
    ours = histograms(minutes, seconds, np.full(400, 4.0))
    theirs = clusters_from(Requests(minutes, seconds, weight=4.0))
    assert ours is not None
    assert (ours.minutes == theirs.minutes).all()
    assert (ours.buckets == theirs.buckets).all()
    assert (ours.counts == theirs.counts).all()
    assert (ours.requests, ours.squared) == (theirs.requests, theirs.squared)
    assert histograms(minutes[:0], seconds[:0], seconds[:0]) is None


# The product in them. Few worlds and repetitions; bounds three standard errors away from the figures.


@pytest.mark.parametrize(
    ("world", "least"),
    [
        (World("lognormal", 0.5, 3000, 60), 0.92),
        (World("pareto", 0.8, 2000, 60), 0.88),
        (World("bimodal", 0.3, 2000, 360), 0.92),
        (World("lognormal", 0.5, 1000, 60, "head"), 0.92),
        (World("pareto", 0.5, 1000, 60, "tail"), 0.92),
    ],
)
def test_intervals_cover_and_are_not_merely_wide(world: World, least: float) -> None:
    rows = measure_coverage(CoverageTask(world, 60, (4,)))
    for row in coverage_table([{**row, "all": 0} for row in rows], ("all", "of")):
        assert row["coverage"] + 3 * row["coverage_se"] >= least
        assert row["coverage"] >= least - 0.03
        assert row["width_to_oracle"] < 2


def test_wrong_verdicts_are_rare_where_others_are_wrong_half_of_the_time() -> None:
    shifts = (Shift(1.0), Shift(1.1), Shift(1.1, whole=False), Shift(2.0))
    rows = [
        row
        for phi in (None, 0.8)
        for row in measure_claims(ClaimTask(World("lognormal", phi, 5000, 360), shifts, 25, (5,)))
    ]
    false = {
        (r["method"], r["phi"], r["shift"], r["ratio"]): r
        for r in false_claims(rows, ("phi", "shift", "ratio"))
    }
    assert all(row["false_claims"] <= 0.12 for key, row in false.items() if key[0] == OURS)
    assert false["Mann-Whitney", 0.8, "all", 1.0]["false_claims"] > 0.3
    assert false["raw percentiles", None, "all", 1.1]["false_claims"] > 0.3
    passes = {r["method"]: r["false_passes"] for r in false_passes(rows, ())}
    assert passes[OURS] <= 0.05
    flagged = {(r["method"], r["ratio"]): r["flagged"] for r in power_table(rows, ("ratio",))}
    assert flagged[OURS, 2.0] == 1


def test_short_windows_say_so_themselves() -> None:
    rows = measure_coverage(CoverageTask(World("lognormal", 0.8, 500, 10), 20, (6,)))
    assert all(row["noted"] == row["windows"] for row in rows)
    assert all(row["honest"] == row["windows"] for row in rows)


# What others say.


def draw_of(seconds: Any, minutes: Any = None) -> Draw:
    seconds = np.asarray(seconds, float)
    minutes = np.arange(len(seconds)) if minutes is None else np.asarray(minutes)
    weights = np.ones(len(seconds))
    return Draw(minutes, seconds, weights, histograms(minutes, seconds, weights))


def test_a_rank_test_of_the_reference_sample_finds_nothing() -> None:
    x = [12, 15, 15, 18, 20, 21, 22, 25, 27, 30, 31, 33, 38, 41, 47, 52, 66, 81, 120, 410]
    y = [1.15 * v + 2 for v in x]  # U 236.5, p .33
    assert mann_whitney(draw_of(y), draw_of(x)) == "representative"
    assert mann_whitney(draw_of([9 * v for v in x]), draw_of(x)) == "optimistic"
    assert mann_whitney(draw_of(x), draw_of([9 * v for v in x])) == "pessimistic"


def test_percentiles_and_thresholds_know_no_chance() -> None:
    x = np.linspace(1, 2, 101)
    assert raw_percentiles(draw_of(1.11 * x), draw_of(x)) == "optimistic"
    assert raw_percentiles(draw_of(1.09 * x), draw_of(x)) == "representative"
    assert raw_percentiles(draw_of(x / 1.11), draw_of(x)) == "pessimistic"
    assert k6_threshold(draw_of(1.11 * x), draw_of(x)) == "optimistic"
    assert k6_threshold(draw_of(x / 1.5), draw_of(x)) == "representative"


def test_the_shift_between_two_samples_is_the_median_of_all_differences() -> None:
    rng = np.random.default_rng(7)
    x, y = rng.standard_normal(40) + 1, rng.standard_normal(30)
    low, estimate, high = hodges_lehmann(x, y, 0.98)
    assert estimate == pytest.approx(np.median(np.subtract.outer(x, y)))
    # The same test inverted: at its bounds the statistic lies just within the 98 % of the normal.
    spread = np.sqrt(40 * 30 * 71 / 12)
    for bound, sign in ((low, 1), (high, -1)):
        u = np.sum(np.subtract.outer(x - bound, y) > 0)
        assert sign * (u - 600) / spread == pytest.approx(2.326, abs=0.03)


def test_kayenta_judges_values_a_minute_by_a_quarter_of_their_shift() -> None:
    rng = np.random.default_rng(8)
    minutes = np.repeat(np.arange(60), 20)
    x = np.exp(0.3 * rng.standard_normal(1200))
    assert kayenta(draw_of(1.5 * x, minutes), draw_of(x, minutes)) == "optimistic"
    assert kayenta(draw_of(x, minutes), draw_of(1.5 * x, minutes)) == "pessimistic"
    assert kayenta(draw_of(x, minutes), draw_of(x, minutes)) == "representative"


# Real data.


@pytest.fixture(scope="module")
def flags() -> list[dict[str, Any]]:
    """Flags on one of the eight series of probes."""
    series = (pl.col("lifespan") == "long", pl.col("sku") == "B8ms", pl.col("region") == "westus2")
    probes = load_probes().filter(*series)
    assert probes.height == 11_422
    return neighbours(probes)


def test_neighbouring_windows_of_real_probes_are_hardly_ever_flagged(
    flags: list[dict[str, Any]],
) -> None:
    ours = [row for row in flags if row["method"] == OURS]
    assert sum(row["pairs"] for row in ours) > 200
    assert sum(row["flagged"] for row in ours) <= 0.02 * sum(row["pairs"] for row in ours)
    ranks = [row["flagged_share"] for row in flags if row["method"] == "Mann-Whitney"]
    assert min(ranks) > 0.1
    assert real_targets([{**ours[0], "flagged_share": 0.021}], OURS)[0]["met"] is False


def test_windows_of_probes_hold_enough_and_are_cut_where_they_should() -> None:
    start = datetime(2026, 3, 2, tzinfo=UTC)  # a Monday
    moments = [start + timedelta(hours=6 * i) for i in range(130)]
    series = pl.DataFrame({"starttime": moments, "value": [0.1] * 130})
    assert [len(w.seconds) for w in windows_of(series, "50 probes")] == [50, 50]
    weeks = [len(w.seconds) for w in windows_of(series, "7 d")]
    assert weeks[0] == 28
    assert all(n >= 20 for n in weeks)
    with pytest.raises(UsageError, match="recorded probes"):
        load_probes(Path("none.parquet"))


# Tables and pages.


def test_tables_pool_counts_and_name_their_error() -> None:
    row = {
        "phi": 0.5, "minutes": 60, "requests": 200, "sampling": "none", "together": False, "of": "ratio",
        "quantile": "p50", "windows": 100, "intervals": 80, "covered": 72, "honest": 95, "noted": 10,
        "half_width": 0.1, "oracle_half_width": 0.08,
    }  # fmt: skip
    other = {**row, "covered": 80, "half_width": 0.2}
    [pooled] = coverage_table([row, other], ("phi", "of"))
    assert pooled["coverage"] == pytest.approx(152 / 160)
    assert pooled["coverage_se"] == pytest.approx(np.sqrt(0.95 * 0.05 / 160), abs=1e-4)
    assert pooled["without_interval"] == pytest.approx(0.2)
    assert pooled["half_width_percent"] == pytest.approx(100 * np.expm1(0.15), abs=0.01)
    bad = {**row, "covered": 40, "phi": 0.8}
    short = {**row, "minutes": 10}
    up_to_half, strong, below = coverage_targets([other, bad, short])
    assert up_to_half["met"]
    assert not strong["met"]
    assert strong["worst"] == pytest.approx(0.5)
    assert strong["where"]["phi"] == pytest.approx(0.8)
    assert below["worst"] == pytest.approx(0.95)


def test_verdicts_are_held_against_what_is_promised() -> None:
    base = {
        "method": OURS,
        "phi": None,
        "minutes": 60,
        "shift": "all",
        "windows": 100,
        "noted_wrong": 0,
    }
    nothing = {"optimistic": 0, "pessimistic": 0, "representative": 0, "inconclusive": 100}
    rows = [
        {
            **base,
            **nothing,
            "ratio": 1.0,
            "truth": "representative",
            "at_edge": False,
            "pessimistic": 2,
        },
        {
            **base,
            **nothing,
            "ratio": 1.1,
            "truth": "representative",
            "at_edge": True,
            "optimistic": 20,
        },
        {
            **base,
            **nothing,
            "ratio": 1.5,
            "truth": "optimistic",
            "at_edge": False,
            "representative": 50,
        },
    ]
    one, edge, unwarned, passes = verdict_targets(rows, OURS)
    assert one["met"]
    assert one["worst"] == pytest.approx(0.02)
    assert not edge["met"]
    assert not unwarned["met"]
    assert not passes["met"]
    assert passes["worst"] == pytest.approx(0.5)


def test_the_whole_benchmark_runs_and_writes_its_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[dict[str, Any]]
) -> None:
    # A handful of its worlds, few repetitions; the figures mean nothing.
    measured = [
        task
        for task in coverage_tasks(20, 1)
        if (task.world.requests, task.world.sampling) == (200, "none")
        and task.world.minutes in {10, 60}
        and task.world.phi in {0.5, 0.8}
    ]
    judged = [task for task in claim_tasks(2, 1) if task.world.requests == 200]
    monkeypatch.setattr(statistics, "coverage_tasks", lambda *_: measured)
    monkeypatch.setattr(statistics, "claim_tasks", lambda *_: judged)
    monkeypatch.setattr(statistics, "neighbours", lambda _: flags)
    document = statistics.run(quick=True, plots=tmp_path, workers=1)
    assert len(document["targets"]) == 8
    assert [row["method"] for row in document["methods"]] == [OURS, *PEERS]
    plots = sorted(path.name for path in tmp_path.glob("*.svg"))
    names = ("coverage", "false-claims", "power", "probes")
    assert plots == [f"statistics-{name}.svg" for name in names]
    for path in tmp_path.glob("*.svg"):
        assert ET.fromstring(path.read_text()).tag.endswith("svg")  # noqa: S314 - our own file
    assert (tmp_path / "statistics-tables.md").read_text().startswith("## Promised and found")
    powered = sum(7 for task in judged if task.world.shape == "lognormal")
    cells = pl.read_csv(tmp_path / "statistics-claims.csv")
    assert cells.height == 5 * (4 * len(judged) + powered)

"""Mix and within effects of known truth: mix only, within only, both, neither."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from mobius_analysis.blocks import Replicated, block_count, blocks_of, share_of
from mobius_analysis.decompose import Decomposition, decompose, log_quantile, segments
from mobius_analysis.histogram import bucket_of
from mobius_analysis.testing import drifting_load

VALUES = ("hit", "miss")


def rows(
    seed: int, shares: tuple[float, ...], medians: tuple[float, ...], *, minutes: int = 120, rate: float = 40,
    values: tuple[str, ...] = VALUES,
) -> pl.DataFrame:  # fmt: skip
    """Requests of one side: a segment by ``shares``, lognormal around its median (s), minutes that drift."""
    rng = np.random.default_rng(seed)
    load = drifting_load(rng, minutes, 0.5, 0.05)
    at = np.repeat(np.arange(minutes), rng.poisson(rate, minutes))
    segment = rng.choice(len(shares), size=len(at), p=shares)
    seconds = np.asarray(medians)[segment] * np.exp(load[at] + 0.3 * rng.standard_normal(len(at)))
    return pl.DataFrame(
        {
            "minute": at,
            "value": [values[s] for s in segment],
            "bucket": bucket_of(seconds),
            "weight": 1.0,
            "requests": 1,
        }
    )


def parts(found: Decomposition) -> tuple[float, float, float]:
    """Gap, mix and within of the data, as differences of logarithms."""
    assert found.mix is not None
    return found.gap.value, found.mix.value, found.gap.value - found.mix.value


def covers(found: Replicated, truth: float) -> bool:
    bounds = found.bounds()
    assert bounds.low is not None
    assert bounds.high is not None
    return bounds.low <= truth <= bounds.high


def test_mix_alone() -> None:
    """Users miss the cache more often; each kind is as fast as in the test."""
    both = segments(rows(1, (0.3, 0.7), (0.01, 0.1)), rows(2, (0.9, 0.1), (0.01, 0.1)), VALUES)
    found = decompose(both, 0.5)
    gap, mix, within = parts(found)
    assert gap > 1.5
    assert found.mix is not None
    assert mix / gap == pytest.approx(1, abs=0.05)
    assert covers(share_of(found.mix, found.gap), 1.0)
    assert abs(within) < 0.1
    assert all(abs(found.within[value].value) < 0.15 for value in VALUES)


def test_within_alone() -> None:
    """The same mix; misses are slower for users."""
    both = segments(rows(1, (0.3, 0.7), (0.01, 0.2)), rows(2, (0.3, 0.7), (0.01, 0.1)), VALUES)
    found = decompose(both, 0.95)
    gap, mix, _ = parts(found)
    assert gap == pytest.approx(np.log(2), abs=0.1)
    assert found.mix is not None
    assert abs(mix) < 0.05
    assert covers(share_of(found.mix, found.gap), 0.0)
    assert found.within["miss"].value == pytest.approx(gap, abs=0.05)
    assert abs(found.within["hit"].value) < 0.05


def test_both() -> None:
    production, test = (0.3, 0.7), (0.9, 0.1)
    both = segments(rows(1, production, (0.01, 0.2)), rows(2, test, (0.01, 0.1)), VALUES)
    found = decompose(both, 0.95)
    rng = np.random.default_rng(0)

    def quantile(shares: tuple[float, float], medians: tuple[float, float]) -> float:
        segment = rng.choice(2, size=2_000_000, p=shares)
        noise = np.sqrt(0.3**2 + 0.05**2) * rng.standard_normal(len(segment))
        return float(np.quantile(np.log(np.asarray(medians)[segment]) + noise, 0.95))

    whole = quantile(production, (0.01, 0.2))
    mix = whole - quantile(test, (0.01, 0.2))
    gap = whole - quantile(test, (0.01, 0.1))
    assert found.mix is not None
    assert covers(found.gap, gap)
    assert covers(found.mix, mix)
    assert covers(share_of(found.mix, found.gap), mix / gap)
    assert 0.2 < mix / gap < 0.8


def test_neither_explains_a_shift_of_everything() -> None:
    both = segments(rows(1, (0.5, 0.5), (0.02, 0.1)), rows(2, (0.5, 0.5), (0.01, 0.05)), VALUES)
    found = decompose(both, 0.95)
    assert found.mix is not None
    share = share_of(found.mix, found.gap).bounds()
    assert share.low is not None
    assert share.low < 0.1


def test_segments_that_one_side_lacks() -> None:
    production = rows(1, (0.5, 0.5), (0.01, 0.1))
    test = rows(2, (1.0, 0.0), (0.01, 0.1))
    found = decompose(segments(production, test, VALUES), 0.95)
    assert found.mix is not None
    assert found.mix.value == pytest.approx(found.gap.value, abs=0.05)
    assert set(found.within) == {"hit"}
    apart = segments(rows(1, (1.0,), (0.01,), values=("old",)), rows(2, (1.0,), (0.01,), values=("new",)), ("old", "new"))  # fmt: skip
    assert decompose(apart, 0.5).mix is None


def test_intervals_cover_as_often_as_they_say() -> None:
    """60 worlds of one truth: at least 54 cover."""
    rng = np.random.default_rng(3)
    noise = np.sqrt(0.3**2 + 0.05**2)

    def quantile(shares: tuple[float, float]) -> float:
        segment = rng.choice(2, size=1_000_000, p=shares)
        return float(
            np.quantile(
                np.log([0.01, 0.1])[segment] + noise * rng.standard_normal(len(segment)), 0.5
            )
        )

    truth = quantile((0.45, 0.55)) - quantile((0.55, 0.45))
    held = 0
    for seed in range(60):
        production = rows(2 * seed, (0.45, 0.55), (0.01, 0.1), minutes=90, rate=25)
        test = rows(2 * seed + 1, (0.55, 0.45), (0.01, 0.1), minutes=60, rate=25)
        mix = decompose(segments(production, test, VALUES), 0.5).mix
        assert mix is not None
        held += covers(mix, truth)
    assert held >= 54


def test_few_minutes_are_taken_as_independent_requests() -> None:
    short = segments(
        rows(1, (0.3, 0.7), (0.01, 0.1), minutes=90), rows(2, (0.9, 0.1), (0.01, 0.1), minutes=2, rate=300), VALUES
    )  # fmt: skip
    assert short.independent
    found = decompose(short, 0.5)
    assert found.gap.bounds().low is not None


def test_quantiles_of_histograms() -> None:
    assert np.isnan(log_quantile(np.zeros((1, 2)), np.array([0, 1]), 0.5))[0]
    exact = np.random.default_rng(1).lognormal(-3, 0.5, 50_000)
    buckets, counts = np.unique(bucket_of(exact), return_counts=True)
    for q in (0.05, 0.5, 0.95, 0.99):
        found = np.exp(log_quantile(counts.astype(float), buckets, q))
        assert found == pytest.approx(np.quantile(exact, q), rel=0.005)


def test_blocks_are_stretches_of_minutes() -> None:
    place, count = blocks_of(np.array([7, 3, 3, 100, 101, 5]))
    assert (count, place.tolist()) == (5, [2, 0, 0, 3, 4, 1])
    assert [block_count(T) for T in (2, 60, 360, 1440)] == [2, 9, 32, 82]
    place, count = blocks_of(np.arange(1440))
    assert len(np.unique(place)) == count
    assert (np.diff(place) >= 0).all()

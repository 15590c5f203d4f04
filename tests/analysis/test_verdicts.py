"""Verdicts: one always applies, claims are corrected, and what would settle the rest."""

from __future__ import annotations

from datetime import UTC, datetime
from math import hypot, inf, log, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from mobius_analysis.histogram import HALF_BUCKET
from mobius_analysis.intervals import Bounds, estimate
from mobius_analysis.ratio import Ratio, ratio
from mobius_analysis.testing import Requests, clusters_from, lognormal
from mobius_analysis.verdicts import (
    HEADLINE,
    VERDICTS,
    Sample,
    Verdict,
    _growth,
    _joint_growth,
    discoveries,
    judge,
    name_of,
    needs,
    strictness,
)

START = datetime(2026, 3, 1, tzinfo=UTC)


def between(low: float, high: float) -> Ratio:
    bounds = Bounds((low * high) ** 0.5, low, high)
    return Ratio(bounds, bounds)


def verdict(p50: Ratio | None, p95: Ratio | None, kept: bool = True) -> Verdict:
    ratios = {q: r for q, r in zip(HEADLINE, (p50, p95), strict=True) if r is not None}
    return judge(
        ratios, dict.fromkeys(ratios, kept), production_requests=1000, synthetic_requests=1000
    )


@pytest.mark.parametrize(
    ("p50", "p95", "expected"),
    [
        (between(0.95, 1.05), between(0.92, 1.08), "representative"),
        (between(0.95, 1.05), between(0.92, 1.12), "inconclusive"),
        (between(0.95, 1.05), between(1.11, 1.5), "optimistic"),
        (between(1.2, 1.3), between(0.5, 2.0), "optimistic"),
        (between(0.5, 0.8), between(0.92, 1.08), "pessimistic"),
        (between(0.5, 0.8), between(1.2, 1.5), "optimistic"),
        (between(1.2, 1.5), between(0.5, 0.8), "optimistic"),
        (between(1.05, 1.2), between(1.05, 1.2), "inconclusive"),
        (between(0.95, 1.05), None, "inconclusive"),
        (between(1.2, 1.3), None, "optimistic"),
        (None, None, "inconclusive"),
        (Ratio(Bounds(3.0), Bounds(3.0)), Ratio(Bounds(3.0), Bounds(3.0)), "inconclusive"),
    ],
)
def test_the_table_of_verdicts(p50: Ratio | None, p95: Ratio | None, expected: Verdict) -> None:
    assert verdict(p50, p95) == expected


def test_a_claim_that_the_family_does_not_keep_is_not_made() -> None:
    assert verdict(between(1.11, 1.5), between(0.9, 1.2), kept=False) == "inconclusive"


def test_sides_without_traffic() -> None:
    assert judge({}, {}, production_requests=5, synthetic_requests=0) == "untested"
    assert judge({}, {}, production_requests=0, synthetic_requests=5) == "unvisited"


limits = st.tuples(st.floats(0.1, 10), st.floats(1, 4), st.floats(0.5, 1)).map(
    lambda t: Ratio(
        Bounds(t[0], t[0] / t[1], t[0] * t[1]),
        Bounds(t[0], t[0] / t[1] ** t[2], t[0] * t[1] ** t[2]),
    )
)


@given(st.none() | limits, st.none() | limits, st.booleans(), st.integers(0, 3), st.integers(0, 3))
def test_exactly_one_verdict_always_applies(
    p50: Ratio | None, p95: Ratio | None, kept: bool, production: int, synthetic: int
) -> None:
    ratios = {q: r for q, r in zip(HEADLINE, (p50, p95), strict=True) if r is not None}
    found = judge(
        ratios,
        dict.fromkeys(ratios, kept),
        production_requests=production,
        synthetic_requests=synthetic,
    )
    assert found in VERDICTS
    # What a verdict excludes, said from the intervals alone.
    if found == "representative":
        assert not any(r.above() or r.below() for r in ratios.values())
        assert len(ratios) == 2
    if found in {"optimistic", "pessimistic"}:
        assert kept
        assert not all(r.equivalent() for r in ratios.values())
    if found == "pessimistic":
        assert not any(r.above() for r in ratios.values())


def test_benjamini_and_hochberg_of_their_own_paper() -> None:
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240]
    p += [0.4262, 0.5719, 0.6528, 0.7590, 1.0]
    assert discoveries(p) == [True] * 4 + [False] * 11
    assert discoveries([]) == []


def test_discoveries_are_those_of_scipy() -> None:
    rng = np.random.default_rng(7)
    for size in (1, 2, 5, 40, 400):
        p = np.where(rng.random(size) < 0.5, rng.random(size), rng.random(size) / 50).tolist()
        p[-1] = p[0]  # a tie
        assert discoveries(p) == (false_discovery_control(p) <= 0.05).tolist()


def test_names() -> None:
    assert [name_of(q) for q in (0.5, 0.95, 0.99, 0.999)] == ["p50", "p95", "p99", "p99.9"]


def cell(rng: np.random.Generator, T: int, rate: float, true_ratio: float) -> tuple[Ratio, Ratio]:
    flat = np.zeros(T)
    y = clusters_from(Requests(*lognormal(rng, START, flat, rate=rate, median=0.05 * true_ratio)))
    x = clusters_from(Requests(*lognormal(rng, START, flat, rate=rate, median=0.05)))
    return ratio(estimate(y, 0.5), estimate(x, 0.5)), ratio(estimate(y, 0.95), estimate(x, 0.95))


@pytest.mark.parametrize("true_ratio", [1.0, 1.1])
def test_nothing_is_claimed_of_a_null_family_more_often_than_nominal(true_ratio: float) -> None:
    # 1.1 is the worst null: the margin's own edge.
    rng = np.random.default_rng(31)
    false = 0
    for _ in range(200):
        family = [cell(rng, 24, 20, true_ratio) for _ in range(2)]
        kept = iter(discoveries([r.p_beyond() for pair in family for r in pair]))
        false += any(
            judge(
                dict(zip(HEADLINE, pair, strict=True)),
                {q: next(kept) for q in HEADLINE},
                production_requests=1,
                synthetic_requests=1,
            )
            in {"optimistic", "pessimistic"}
            for pair in family
        )
    assert false <= (0 if true_ratio == 1 else 0.05 * 200)


def needed(production: int, synthetic: int, true_ratio: float = 1.0) -> tuple[str, int | None, str]:
    rng = np.random.default_rng(32)
    sides = []
    for n, median in ((production, 0.05 * true_ratio), (synthetic, 0.05)):
        minutes = int(START.timestamp() // 60) + np.sort(rng.integers(0, 60, n))
        sides.append(
            clusters_from(Requests(minutes, median * np.exp(0.6 * rng.standard_normal(n))))
        )
    y, x = (estimate(side, 0.5) for side in sides)
    found = needs(
        0.5,
        ratio(y, x),
        {"production": y, "synthetic": x},
        {"production": Sample(production, 60), "synthetic": Sample(synthetic, 60)},
    )
    return found.side, found.requests, found.text


def test_it_asks_for_more_of_the_side_that_knows_less() -> None:
    side, requests, text = needed(20_000, 200)
    assert side == "synthetic"
    assert requests is not None
    assert 200 < requests < 10_000
    assert f"{requests:,} more synthetic requests" in text
    assert needed(200, 20_000)[0] == "production"


def test_what_it_asks_for_settles_it() -> None:
    side, requests, _ = needed(40_000, 400)
    assert side == "synthetic"
    assert requests is not None
    rng = np.random.default_rng(33)
    y, x = (
        clusters_from(Requests(*lognormal(rng, START, np.zeros(60), rate=n / 60, median=0.05)))
        for n in (40_000, 2 * (400 + requests))
    )
    assert ratio(estimate(y, 0.5), estimate(x, 0.5)).equivalent()


def test_what_grows_shrinks_with_the_root_of_the_sample_and_its_rounding_does_not() -> None:
    rounding = log(HALF_BUCKET)
    factor = _growth(0.1, 0.05, 0.08)
    assert hypot((0.1 - rounding) / sqrt(factor) + rounding, 0.05) == pytest.approx(0.08)
    assert _growth(0.1, 0.09, 0.08) == inf
    both = _joint_growth((0.1, 0.09), 0.08)
    shrunk = [(w - rounding) / sqrt(both) + rounding for w in (0.1, 0.09)]
    assert hypot(*shrunk) == pytest.approx(0.08)
    assert _joint_growth((0.1, 0.09), 1.4 * rounding) == inf


def test_it_asks_for_what_an_interval_needs_at_least() -> None:
    side, requests, text = needed(20_000, 4)
    assert side == "synthetic"
    assert requests is not None
    assert 2 <= requests <= 10
    assert "at all" in text


def test_at_the_margin_itself_no_number_would_settle_it() -> None:
    side: tuple[str, ...] = ("production", "synthetic")
    rng = np.random.default_rng(34)
    y = estimate(
        clusters_from(Requests(*lognormal(rng, START, np.zeros(60), rate=1500, median=0.05))), 0.5
    )
    edge = Ratio(Bounds(1.1, 1.07, 1.13), Bounds(1.1, 1.075, 1.125))
    found = needs(
        0.5,
        edge,
        {"production": y, "synthetic": y},
        {"production": Sample(3000, 60), "synthetic": Sample(3000, 60)},
    )
    assert found.requests is None
    assert found.minutes is None
    assert found.side in side
    assert "margin itself" in found.text


def test_a_larger_family_is_stricter() -> None:
    assert strictness(1) == pytest.approx(1)
    assert strictness(20) == pytest.approx(1.542, abs=1e-3)

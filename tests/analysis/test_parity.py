"""Each dimension of parity: the same traffic is alike, other traffic differs, and what is not known is said."""

from __future__ import annotations

import numpy as np
import pytest

from mobius_analysis import parity
from mobius_analysis.parity import Dimension
from mobius_analysis.scenario_mix import parameters_of


def drawn(rng: np.random.Generator, shares: list[float], n: int) -> dict[str, float]:
    counts = rng.multinomial(n, shares)
    return {f"GET /{i}": float(count) for i, count in enumerate(counts)}


def test_the_same_mix_is_alike_by_chance_as_often_as_claimed() -> None:
    rng = np.random.default_rng(1)
    shares = [0.4, 0.3, 0.2, 0.1]
    beyond = 0
    for seed in range(60):
        test, users = drawn(rng, shares, 800), drawn(rng, shares, 20_000)
        found = parity.mix("endpoints", test, users, requests=(800, 20_000), seed=seed)
        assert found.outcome == "alike"
        assert found.score is not None
        assert found.chance is not None
        beyond += found.score.value < found.chance
    assert beyond <= 9  # 5 % of 60 are 3


def test_another_mix_differs_and_says_where() -> None:
    test = {"GET /a": 900.0, "GET /b": 100.0}
    users = {"GET /a": 4000.0, "GET /b": 4000.0, "GET /c": 2000.0}
    found = parity.mix("endpoints", test, users, requests=(1000, 10_000))
    assert found.outcome == "differs"
    assert found.score is not None
    assert found.score.value == pytest.approx(0.5)
    assert found.score.low is not None
    assert found.score.high is not None
    assert found.score.low < 0.5 < found.score.high
    assert "GET /a: 90% of the test, 40% of users" in found.text


def test_a_few_requests_of_a_test_cannot_tell() -> None:
    found = parity.mix(
        "endpoints",
        {"GET /a": 3.0, "GET /b": 1.0},
        {"GET /a": 500.0, "GET /b": 500.0},
        requests=(4, 1000),
    )
    assert found.outcome == "unclear"


def test_arrivals_tell_a_pacemaker_from_a_crowd() -> None:
    rng = np.random.default_rng(2)
    crowd, paced = rng.poisson(8.0, 600).astype(float), np.full(300, 8.0)
    bursts = rng.poisson(rng.gamma(0.5, 16, 600)).astype(float)
    assert parity.arrivals(crowd[:300], crowd[300:], load_model="open").outcome == "alike"
    assert parity.arrivals(crowd[:300], crowd[300:], load_model="closed").outcome == "unclear"
    assert parity.arrivals(paced, crowd, load_model="closed").outcome == "differs"
    assert parity.arrivals(crowd, bursts, load_model="open").outcome == "differs"
    short = parity.arrivals(crowd[:5], crowd, load_model="open")
    assert (short.outcome, short.score) == ("unknown", None)
    assert parity.arrivals(None, None, load_model="open", reason="sampled").text == "sampled"


def test_concurrency_lies_in_the_range_of_users_minutes_or_not() -> None:
    minutes = np.linspace(2, 10, 100)
    assert parity.concurrency(6.0, minutes).outcome == "alike"
    beyond = parity.concurrency(50.0, minutes)
    assert beyond.outcome == "differs"
    assert beyond.score is not None
    assert beyond.score.value == pytest.approx(np.quantile(minutes, 0.95) / 50)
    assert parity.concurrency(None, minutes).score is None


def test_hours_sizes_and_caches() -> None:
    users = [1.0] * 24
    night = [1.0] * 2 + [0.0] * 22
    assert parity.hours(night, users, runs=12).outcome == "differs"
    assert parity.hours(users, users, runs=24).outcome == "alike"
    # One run can be in one hour only.
    assert parity.hours([1.0] + [0.0] * 23, users, runs=1).outcome == "unclear"

    rng = np.random.default_rng(3)
    small, large = rng.lognormal(5, 0.3, 2000), rng.lognormal(6, 0.3, 2000)
    assert parity.sizes("payloads", small[:1000], small[1000:], what="bytes").outcome == "alike"
    assert parity.sizes("payloads", small, large, what="bytes").outcome == "differs"
    assert "0 of the test's" in parity.sizes("payloads", small[:0], large, what="bytes").text

    assert parity.ratio_of_hits((980, 1000), (100, 1000)).outcome == "differs"
    assert parity.ratio_of_hits((500, 1000), (510, 1000)).outcome == "alike"
    assert parity.ratio_of_hits((0, 0), (510, 1000)).score is None


def test_shares_and_the_worst() -> None:
    covered = parity.share("versions", 95, 100, requests=1000, noun="x")
    missed = parity.share("regions", 30, 100, requests=1000, noun="x")
    assert (covered.outcome, missed.outcome) == ("alike", "differs")
    assert parity.share("regions", 0, 0, requests=0, noun="x").score is None
    worse = parity.share("environment", 10, 100, requests=1000, noun="x")
    nothing: list[Dimension] = [covered, parity.unknown("cache", "none")]
    assert parity.worst([missed, worse, *nothing]) == worse
    assert parity.worst(nothing) is None


def test_parameters_of_templates() -> None:
    assert parameters_of("/a/{b}/{c:path}/d/{b}") == ("b", "c")
    assert parameters_of("/plain") == ()

"""Error rates: bursts make intervals wide, silence proves little, a claim needs both floors."""

from __future__ import annotations

import numpy as np
import pytest

from mobius_analysis.error_rates import (
    ErrorComparison,
    ErrorVerdict,
    Failures,
    compare_errors,
    judge_errors,
)


def failures(requests: list[int] | np.ndarray, errors: list[int] | np.ndarray) -> Failures:
    n, e = np.asarray(requests, float), np.asarray(errors, float)
    return Failures(n, e, int(n.sum()), int(e.sum()), float(n.sum()))


def constant(minutes: int, rate: int, errors: int) -> Failures:
    return failures(np.full(minutes, rate), np.full(minutes, errors))


def verdict(one: ErrorComparison) -> ErrorVerdict | None:
    return judge_errors([one])[0]


def test_no_error_of_twenty_requests_is_no_evidence() -> None:
    production = constant(120, 100, 1)
    one = compare_errors(production, failures([20], [0]))
    assert one.synthetic is not None
    assert one.synthetic.bounds.high is not None
    assert one.synthetic.bounds.high > 0.1
    assert verdict(one) == "unclear"


def test_claims_and_their_directions() -> None:
    rng = np.random.default_rng(1)
    many = failures(np.full(200, 100), rng.binomial(100, 0.04, 200))
    few = failures(np.full(200, 100), rng.binomial(100, 0.01, 200))
    none = constant(200, 100, 0)
    assert verdict(compare_errors(many, few)) == "more"
    assert verdict(compare_errors(few, many)) == "less"
    assert verdict(compare_errors(many, none)) == "more"
    assert verdict(compare_errors(none, many)) == "less"
    assert verdict(compare_errors(none, none)) == "alike"
    assert compare_errors(many, none).document()["ratio"] == {
        "value": None,
        "low": pytest.approx(150, rel=0.5),
        "high": None,
    }


def test_a_difference_below_the_floor_is_never_claimed() -> None:
    production = failures(np.full(500, 20_000), np.full(500, 16))
    test = failures(np.full(500, 20_000), np.full(500, 4))
    one = compare_errors(production, test)
    assert one.difference is not None
    assert (one.difference.low or 0) > 0
    assert verdict(one) == "alike"
    # Six per cent more of a great share is no claim either: the ratio has a floor too.
    one = compare_errors(constant(500, 1000, 212), constant(500, 1000, 200))
    assert verdict(one) == "alike"


def test_a_side_without_requests_has_no_verdict() -> None:
    one = compare_errors(constant(10, 10, 1), failures([], []))
    assert verdict(one) is None
    assert one.document()["synthetic"] is None
    assert one.document()["difference"] is None


def test_a_burst_counts_less_than_the_same_errors_spread_out() -> None:
    spread = compare_errors(constant(100, 50, 1), constant(100, 50, 0)).production
    errors = np.zeros(100)
    errors[40:42] = 50
    burst = compare_errors(failures(np.full(100, 50), errors), constant(100, 50, 0)).production
    assert spread is not None
    assert burst is not None
    assert burst.bounds.value == spread.bounds.value
    assert burst.effective < spread.effective / 20


def bursts(rng: np.random.Generator, minutes: int, rate: int, share: float) -> Failures:
    """Failures come in minutes that fail at 50 %; the rest hardly does."""
    n = rng.poisson(rate, minutes) + 1
    bad = rng.random(minutes) < share * 2
    return failures(n, rng.binomial(n, np.where(bad, 0.5, 0.0)))


def test_equal_bursty_rates_are_seldom_claimed_to_differ() -> None:
    """400 pairs, both failing 4 % in bursts: at most 5 % claims, where independence would claim most."""
    rng = np.random.default_rng(5)
    pairs = [
        compare_errors(bursts(rng, 240, 40, 0.04), bursts(rng, 60, 40, 0.04)) for _ in range(400)
    ]
    claims = sum(verdict(one) in {"more", "less"} for one in pairs)
    assert claims <= 20
    covered = [
        one.production.bounds.low <= 0.04 <= one.production.bounds.high  # type: ignore[operator]  # a share has bounds
        for one in pairs
        if one.production is not None
    ]
    assert np.mean(covered) >= 0.92


def test_sampling_weights_count_for_the_rate_and_not_as_evidence() -> None:
    """All failures kept, one success in twenty: the rate is 1 %, not 17 %."""
    weights, failed = np.full(60, 99 + 1.0), np.full(60, 1.0)
    kept = 60 * 5 + 60
    side = Failures(weights, failed, kept, 60, 60 * (5 * 20.0**2 + 1))
    one = compare_errors(side, constant(60, 100, 1))
    assert one.production is not None
    assert one.production.bounds.value == pytest.approx(0.01)
    assert one.production.effective <= kept
    assert verdict(one) in {"alike", "unclear"}


def test_the_family_is_corrected() -> None:
    """A claim that stands alone falls among 200 comparisons that show nothing."""
    rng = np.random.default_rng(2)
    edge = compare_errors(constant(60, 60, 1), failures(np.full(60, 60), rng.binomial(1, 0.5, 60)))
    assert 0.0005 < edge.p_beyond() < 0.05
    assert verdict(edge) == "more"
    nothing = compare_errors(constant(60, 60, 1), constant(60, 60, 1))
    assert judge_errors([edge, *[nothing] * 200])[0] == "unclear"

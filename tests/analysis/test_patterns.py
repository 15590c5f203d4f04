"""Patterns of slow requests: two causes planted among decoys, and none where nothing is wrong."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mobius_analysis.patterns import find_patterns, matrix_of, slower_than

Times = dict[str, NDArray[np.float64]]


def times(seed: int, n: int) -> Times:
    """A request's calls in ms; the noise of one is large and means nothing for the whole."""
    rng = np.random.default_rng(seed)
    return {
        "stock": rng.lognormal(2.5, 0.2, n),
        "price": rng.lognormal(1.5, 0.2, n),
        "route": rng.lognormal(2.8, 0.2, n),
        "decoy": rng.choice([3.0, 47.0], n),
    }


def whole(parts: Times) -> NDArray[np.float64]:
    return parts["stock"] + parts["price"] + parts["route"] + 60


def found_in(production: Times, test: Times):  # type: ignore[no-untyped-def]  # a tuple of patterns
    slow = slower_than(whole(production), whole(test))
    both = {name: np.concatenate([production[name], test[name]]) for name in production}
    return find_patterns(both, np.concatenate([slow, np.zeros(len(test["stock"]), bool)]))


def test_two_causes_are_two_patterns() -> None:
    production, test = times(1, 4000), times(2, 4000)
    causes = np.arange(4000) % 10  # a tenth each
    production["stock"] = production["stock"] + np.where(causes == 0, 45, 0)
    production["price"] = production["price"] + np.where(causes == 1, 40, 0)
    patterns = found_in(production, test)
    assert {pattern.ranges[0].component for pattern in patterns} == {"stock", "price"}
    union = np.any([pattern.matches(production) for pattern in patterns], axis=0)
    true = causes <= 1
    assert (union & true).sum() / union.sum() > 0.95
    assert (union & true).sum() / true.sum() > 0.95
    assert all(pattern.precision.value > 0.9 for pattern in patterns)


def test_a_conjunction_is_found_where_one_range_does_not_do() -> None:
    """Slow only where two calls are slow together; each alone is common and harmless."""
    rng = np.random.default_rng(3)
    n = 6000
    a, b = rng.uniform(0, 10, n), rng.uniform(0, 10, n)
    slow = (a > 7) & (b > 7)
    pattern, *_ = find_patterns({"a": a, "b": b, "c": rng.uniform(0, 10, n)}, slow)
    assert {one.component for one in pattern.ranges} == {"a", "b"}
    assert pattern.precision.value > 0.9
    assert pattern.recall.value > 0.9


def test_equal_sides_have_no_pattern() -> None:
    for seed in range(20):
        assert found_in(times(2 * seed, 1000), times(2 * seed + 1, 1000)) == ()
    assert find_patterns({}, np.zeros(0, bool)) == ()
    assert find_patterns({"a": np.ones(100)}, np.zeros(100, bool)) == ()


def test_slow_is_what_the_test_lacks() -> None:
    test = np.arange(100.0)
    production = np.concatenate([np.arange(100.0), np.full(50, 500.0)])
    assert slower_than(production, test).sum() == 50


def test_parts_become_one_array_a_component() -> None:
    found = matrix_of([{"a": 1.0}, {"b": 2.0, "a": 3.0}])
    assert {name: values.tolist() for name, values in found.items()} == {"a": [1, 3], "b": [0, 2]}

"""The causes in the models are strong enough for the measurement to decide, and only where they act."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from mobius_infra.demo import shop
from mobius_infra.demo.history import Period
from mobius_infra.demo.history_draw import Requests, draw_requests
from mobius_infra.demo.history_draw import test_runs as runs_of

Latency = Callable[..., npt.NDArray[np.float64]]

DAY = Period.before(1_780_000_000_000_000_000, 24)
SEEDS = range(4)


def draw(region: str, seed: int) -> list[Requests]:
    runs = runs_of(region, DAY.start_ns, DAY.end_ns, DAY.release_ns, "x")
    rng = np.random.default_rng([seed, 7])
    return list(draw_requests(region, (DAY.start_ns, DAY.end_ns), DAY.release_ns, runs, rng))


@pytest.fixture(scope="module")
def days() -> dict[str, list[Requests]]:
    """Some days of each region, so that chance does not hide a bias of two percent."""
    return {region: [r for seed in SEEDS for r in draw(region, seed)] for region in shop.REGIONS}


def quantiles(
    requests: list[Requests], route: str, *, tests: bool, released: bool | None = None
) -> npt.NDArray[np.float64]:
    parts = []
    for one in requests:
        if one.endpoint.route == route and one.tests is tests:
            chosen = one.status < 500
            if released is not None:
                chosen &= one.released == released
            parts.append(one.storefront_ms[chosen])
    return np.quantile(np.concatenate(parts), [0.5, 0.95])


def truth(requests: list[Requests], route: str, released: bool | None = None) -> list[float]:
    users = quantiles(requests, route, tests=False, released=released)
    return list(users / quantiles(requests, route, tests=True, released=released))


@pytest.mark.parametrize("region", shop.REGIONS)
def test_products_are_described_well_everywhere(
    days: dict[str, list[Requests]], region: str
) -> None:
    assert truth(days[region], "/products/{product_id}") == pytest.approx([1, 1], abs=0.02)


@pytest.mark.parametrize("region", ["eu-west-1", "us-east-1"])
def test_search_is_described_well_where_a_miss_costs_little(
    days: dict[str, list[Requests]], region: str
) -> None:
    assert truth(days[region], "/search") == pytest.approx([1, 1], abs=0.02)


def test_search_is_slower_for_users_where_the_index_is_far(days: dict[str, list[Requests]]) -> None:
    assert min(truth(days["eu-central-1"], "/search")) > 1.3


@pytest.mark.parametrize("region", shop.REGIONS)
def test_checkout_is_quicker_for_users(days: dict[str, list[Requests]], region: str) -> None:
    assert max(truth(days[region], "/checkout")) < 0.75


@pytest.mark.parametrize("region", shop.REGIONS)
def test_orders_are_not_tested(days: dict[str, list[Requests]], region: str) -> None:
    asked = {(r.endpoint.route, r.tests) for r in days[region] if r.start_ns.size}
    assert ("/orders/{order_id}", False) in asked
    assert ("/orders/{order_id}", True) not in asked


@pytest.mark.parametrize("region", shop.REGIONS)
def test_the_release_slows_users_recommendations_and_nothing_else(
    days: dict[str, list[Requests]], region: str
) -> None:
    for endpoint in shop.ENDPOINTS:
        for tests in (False, True):
            if tests and not endpoint.tests:
                continue
            before, after = (
                quantiles(days[region], endpoint.route, tests=tests, released=released)
                for released in (False, True)
            )
            if endpoint.route == "/recommendations" and not tests:
                assert min(after / before) > 1.3
            else:
                assert list(after / before) == pytest.approx([1, 1], abs=0.03)
    assert truth(days[region], "/recommendations", released=False) == pytest.approx(
        [1, 1], abs=0.02
    )


def test_there_is_enough_traffic_to_answer_for_p95(days: dict[str, list[Requests]]) -> None:
    for requests in days.values():
        for one in requests:
            assert one.start_ns.size > (6_000 if one.tests else 9_000)
            assert np.all(np.diff(one.start_ns) >= 0)

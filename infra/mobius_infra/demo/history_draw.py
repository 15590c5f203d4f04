"""Draw the shop's past: who asked for what and when, and how long each part of the answer took.

Arrivals are drawn minute by minute (a course over the day, bursts, Poisson counts); latencies come
from :mod:`~mobius_infra.demo.latency_models`, the same that the live services wait by. All arrays of
one :class:`Requests` have one entry a request, in the order of their start.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from mobius_infra.demo import shop
from mobius_infra.demo.latency_models import (
    FAILURE_SHARE,
    PARTIES,
    Floats,
    Ints,
    Party,
    draw_ms,
    load_factor,
    own_work_ms,
    personalises,
    search_party,
)

__all__ = ["OLD_RELEASE", "RELEASE", "Call", "Requests", "TestRun", "draw_requests", "test_runs"]

OLD_RELEASE: Final = "1.4.2"
RELEASE: Final = "1.5.0"

# Requests of users to the whole storefront of one region, and of tests while a run lasts.
_USERS_A_MINUTE: Final = 41.7  # 60,000 a day
_TESTS_A_SECOND: Final = 6.5
_RUN_EVERY_S: Final = 3_600
_RUN_SECONDS: Final = 180.0
_RUN_STAGGER_S: Final = 200

# Own work of the live services, medians in ms, measured on them while the stack runs.
_STOREFRONT_MS: Final = 5.0
_HOP_MS: Final = 4.2
_CATALOG_MS: Final = 5.9
_CATALOG_CACHED_MS: Final = 3.0
_CLIENT_MS: Final = 2.5

# Share of searches that the region's cache answers: the tests' one query, and what users type.
_TEST_HITS: Final = 0.98
_USER_HITS: Final = {"eu-central-1": 0.10}
_USER_HITS_LARGE: Final = 0.85
_ITEM_HITS: Final = 0.85

_PEAK_HOUR_UTC: Final = {"eu-west-1": 18.0, "eu-central-1": 17.0, "us-east-1": 23.0}

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TestRun:
    """One run of the test suite against one region."""

    run: str
    region: str
    start_ns: int
    version: str


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """Calls to one remote party: ``made`` says which requests made it, ``ms`` how long it took."""

    party: Party
    ms: Floats
    made: Bools


class _MakeCall(Protocol):
    """Draw the calls of one party, for the requests that make them."""

    def __call__(self, party: Party, made: Bools, units: Ints | int = 0) -> Call: ...


@dataclass(frozen=True, slots=True, eq=False)
class Requests:
    """Requests of users, or of the tests, to one endpoint in one region.

    Attributes
    ----------
    start_ns
        Begin of the storefront's server span.
    run
        Index of the test run, -1 for users.
    storefront_own_ms, hop_ms, catalog_own_ms, client_ms
        The shop's own work, the way between its services, and the way to a test's client.
    catalog_calls, storefront_calls
        Remote calls in the order in which they are made.
    lines, hit, returning
        Lines of the basket; cache hit of the catalog; whether the customer has earlier orders.
    catalog_status, status
        HTTP status of catalog and storefront.
    """

    endpoint: shop.Endpoint
    region: str
    tests: bool
    start_ns: Ints
    run: Ints
    released: Bools
    storefront_own_ms: Floats
    hop_ms: Floats
    catalog_own_ms: Floats
    client_ms: Floats
    lines: Ints
    hit: Bools
    returning: Bools
    catalog_status: Ints
    status: Ints
    catalog_calls: list[Call] = field(default_factory=list)
    storefront_calls: list[Call] = field(default_factory=list)

    @property
    def catalog_ms(self) -> Floats:
        """Duration of the catalog's server span."""
        return self.catalog_own_ms + sum(call.ms for call in self.catalog_calls)

    @property
    def storefront_ms(self) -> Floats:
        """Duration of the storefront's server span."""
        own = self.storefront_own_ms + self.hop_ms + self.catalog_ms
        return own + sum(call.ms for call in self.storefront_calls)


@dataclass(frozen=True, slots=True, eq=False)
class _Cause:
    """What makes the requests of one endpoint cheap or dear."""

    lines: Ints
    orders: Ints
    hit: Bools
    unknown: Bools


def test_runs(
    region: str, start_ns: int, end_ns: int, release_ns: int, label: str
) -> list[TestRun]:
    """Runs of the test suite that end inside the history, one an hour.

    ``label`` makes the runs of two histories differ; a run's name has the same length in all of a region.
    """
    offset = _RUN_STAGGER_S * (1 + shop.REGIONS.index(region))
    first = start_ns // 10**9 // _RUN_EVERY_S * _RUN_EVERY_S + offset
    runs = []
    for begin in range(first, end_ns // 10**9 - int(_RUN_SECONDS) - 5, _RUN_EVERY_S):
        if begin * 10**9 >= start_ns:
            version = RELEASE if begin * 10**9 >= release_ns else OLD_RELEASE
            runs.append(TestRun(f"hist-{label}-{region}-{begin}", region, begin * 10**9, version))
    return runs


def draw_requests(
    region: str,
    span_ns: tuple[int, int],
    release_ns: int,
    runs: list[TestRun],
    rng: np.random.Generator,
) -> Iterator[Requests]:
    """Draw every endpoint's requests of one region, of users and then of tests."""
    start_ns, end_ns = span_ns
    minutes = np.arange(start_ns // 60_000_000_000, end_ns // 60_000_000_000 + 1)
    rate = _users_a_minute(region, minutes, rng)
    for endpoint in shop.ENDPOINTS:
        starts = _arrivals(minutes, rate * endpoint.users, rng)
        starts = starts[(starts >= start_ns) & (starts < end_ns)]
        yield _answer(endpoint, region, starts, starts >= release_ns, rng)
        if endpoint.tests and runs:
            starts, run = _paced(runs, endpoint.tests, rng)
            released = np.array([r.version == RELEASE for r in runs])[run]
            yield _answer(endpoint, region, starts, released, rng, run=run)


def _users_a_minute(region: str, minutes: Ints, rng: np.random.Generator) -> Floats:
    """Expected requests of users a minute: a course over the day, times bursts of some minutes."""
    hour = minutes / 60.0 % 24.0
    day = 1.0 + 0.5 * np.cos(2.0 * np.pi * (hour - _PEAK_HOUR_UTC[region]) / 24.0)
    # Two states: a burst begins in 1 minute of 40 and ends in 1 of 4, so it holds in 9 of 100.
    begins, ends = rng.random(minutes.size) < 0.025, rng.random(minutes.size) < 0.25
    burst = np.zeros(minutes.size, dtype=bool)
    inside = False
    for m in range(minutes.size):
        inside = not ends[m] if inside else bool(begins[m])
        burst[m] = inside
    rate: Floats = _USERS_A_MINUTE * day * np.where(burst, 2.5, 0.865)
    return rate


def _arrivals(minutes: Ints, rate: Floats, rng: np.random.Generator) -> Ints:
    counts = rng.poisson(rate)
    within = rng.integers(0, 60_000_000_000, int(counts.sum()))
    starts: Ints = np.repeat(minutes, counts) * 60_000_000_000 + within
    starts.sort()
    return starts


def _paced(runs: list[TestRun], share: float, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Starts of the tests' requests: constant pacing with a little jitter; and the run of each."""
    a_run = round(_TESTS_A_SECOND * share * _RUN_SECONDS)
    offsets = (np.arange(a_run) + rng.random((len(runs), a_run))) * (_RUN_SECONDS / a_run) * 1e9
    begins = np.array([run.start_ns for run in runs], dtype=np.int64)
    starts = begins[:, None] + offsets.astype(np.int64)
    return starts.ravel(), np.repeat(np.arange(len(runs)), a_run)


def _cause(
    endpoint: shop.Endpoint, region: str, count: int, rng: np.random.Generator, *, tests: bool
) -> _Cause:
    zeros, never = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=bool)
    lines, orders, hit, unknown = zeros, zeros, never, never
    match endpoint.route:
        case "/products/{product_id}":
            hit = rng.random(count) < _ITEM_HITS
            unknown = never if tests else rng.random(count) < shop.UNKNOWN_SHARE
        case "/search":
            share = _TEST_HITS if tests else _USER_HITS.get(region, _USER_HITS_LARGE)
            hit = rng.random(count) < share
        case "/checkout":
            lines = zeros + shop.TEST_BASKET_LINES if tests else shop.basket_lines(rng, count)
        case "/orders/{order_id}":
            lines = shop.basket_lines(rng, count)
        case "/recommendations":
            orders = zeros if tests else shop.orders_of_customer(rng, count)
    return _Cause(lines, orders, hit & ~unknown, unknown)


def _answer(
    endpoint: shop.Endpoint,
    region: str,
    starts: Ints,
    released: Bools,
    rng: np.random.Generator,
    *,
    run: Ints | None = None,
) -> Requests:
    """Draw how each request is answered; ``run`` is None for users."""
    count = starts.size
    cause = _cause(endpoint, region, count, rng, tests=run is not None)
    load = _load(region, starts)

    def call(party: Party, made: Bools, units: Ints | int = 0) -> Call:
        ms = draw_ms(party, region, rng, units=np.broadcast_to(units, (count,)), load=load)
        return Call(party, np.where(made, ms, 0.0), made)

    asked = ~cause.unknown
    catalog_calls = _catalog_calls(endpoint, region, cause, asked, call)
    catalog_failed = asked & (rng.random(count) < FAILURE_SHARE)
    served = asked & ~catalog_failed
    storefront_calls = _storefront_calls(endpoint, cause, served, released, call)
    failed = catalog_failed | (served & (rng.random(count) < FAILURE_SHARE))
    own = np.where(cause.hit, _CATALOG_CACHED_MS, _CATALOG_MS)
    created = 201 if endpoint.method == "POST" else 200
    status = np.where(cause.unknown, 404, created)
    return Requests(
        endpoint=endpoint,
        region=region,
        tests=run is not None,
        start_ns=starts,
        run=np.full(count, -1) if run is None else run,
        released=released,
        storefront_own_ms=own_work_ms(_STOREFRONT_MS, rng, count),
        hop_ms=own_work_ms(_HOP_MS, rng, count),
        catalog_own_ms=own_work_ms(1.0, rng, count) * own,
        client_ms=own_work_ms(_CLIENT_MS, rng, count),
        lines=cause.lines,
        hit=cause.hit,
        returning=cause.orders > 0,
        catalog_status=np.where(catalog_failed, 502, status),
        status=np.where(failed, 502, status),
        catalog_calls=catalog_calls,
        storefront_calls=storefront_calls,
    )


def _load(region: str, starts: Ints) -> Floats:
    minutes, place = np.unique(starts // 60_000_000_000, return_inverse=True)
    load: Floats = load_factor(region, minutes)[place]
    return load


def _catalog_calls(
    endpoint: shop.Endpoint, region: str, cause: _Cause, asked: Bools, call: _MakeCall
) -> list[Call]:
    if endpoint.route == "/checkout":
        return [call(PARTIES["warehouse"], asked, cause.lines)]
    stock = call(PARTIES["stock"], asked)
    if endpoint.route == "/search":
        return [call(search_party(region), ~cause.hit), stock]
    return [stock]


def _storefront_calls(
    endpoint: shop.Endpoint, cause: _Cause, served: Bools, released: Bools, call: _MakeCall
) -> list[Call]:
    match endpoint.route:
        case "/products/{product_id}":
            return [call(PARTIES["image-cdn"], served)]
        case "/search":
            return [call(PARTIES["ranking"], served)]
        case "/checkout":
            return [call(PARTIES["payments"], served)]
        case "/orders/{order_id}":
            return [call(PARTIES["order-archive"], served, cause.lines)]
        case _:
            asks = (
                served
                & (cause.orders > 0)
                & np.where(released, personalises(RELEASE), personalises(OLD_RELEASE))
            )
            return [
                call(PARTIES["feature-store"], asks, cause.orders),
                call(PARTIES["recommender"], served),
            ]

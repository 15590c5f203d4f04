"""A generated shop in stores of its own: five endpoints, two regions, one release."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import numpy as np
import polars as pl
import pytest
from clickhouse_connect.driver.client import Client

from mobius_analysis.testing import Requests, drifting_load, insert_rollup, lognormal, rollup_rows
from mobius_instrumentation.zones import Zone
from mobius_pipeline.migrate import migrate
from mobius_pipeline.store import Purpose, connect

HOURS = 12
END = datetime(2026, 3, 1, 12, tzinfo=UTC)
START = END - timedelta(hours=HOURS)
RELEASE = END - timedelta(hours=4)
REGIONS = ("eu-central-1", "eu-west-1")


def story(region: str, seed: int) -> Iterator[Requests]:
    """Five endpoints: the test of each lies in its own way, or not at all."""
    rng = np.random.default_rng(seed)
    T = HOURS * 60
    load = drifting_load(rng, T, 0.6, 0.03)
    released = np.arange(T) >= (RELEASE - START) / timedelta(minutes=1)
    runs = np.arange(T) % 15 < 3
    cold = 1.8 if region == "eu-central-1" else 1.0

    def both(method: str, route: str, users: np.ndarray, test: float | None) -> Iterator[Requests]:
        sides = [("real", users, 30.0, np.ones(T, bool))]
        if test is not None:
            sides.append(("synthetic", np.full(T, test), 30.0, runs))
        for source, median, rate, present in sides:
            minutes, seconds = lognormal(
                rng, START, load + np.log(median), rate=rate, median=1.0, sigma=0.4, present=present
            )
            after = released[minutes - int(START.timestamp() // 60)]
            for version, part in (("1.4.0", ~after), ("1.5.0", after)):
                yield Requests(
                    minutes[part],
                    seconds[part],
                    route=route,
                    region=region,
                    method=method,
                    source=source,  # type: ignore[arg-type]  # one of the two above
                    version=version,
                    test_run="nightly" if source == "synthetic" else "",
                )

    yield from both("GET", "/products/{product_id}", np.full(T, 0.06), 0.06)
    yield from both("GET", "/search", np.full(T, 0.04 * cold), 0.04)
    yield from both("POST", "/checkout", np.full(T, 0.05), 0.11)
    yield from both("GET", "/orders/{order_id}", np.full(T, 0.04), None)
    yield from both("GET", "/recommendations", np.where(released, 0.07, 0.05), 0.05)


@pytest.fixture(scope="session")
def shop() -> pl.DataFrame:
    groups = [group for seed, region in enumerate(REGIONS) for group in story(region, seed)]
    return rollup_rows(groups)


@dataclass
class Shop:
    zone: Zone
    client: Client


@contextmanager
def store_of(url: str, rows: pl.DataFrame | None = None) -> Iterator[Shop]:
    """A zone with a migrated database of its own; no broker, which these tests do not need."""
    name = f"eu_{uuid4().hex[:8]}"
    zone = Zone(name, REGIONS, ("127.0.0.1:1",), url, f"rum_{name}")
    migrate(zone)
    client = connect(zone, Purpose.ANALYSIS)
    if rows is not None:
        insert_rollup(client, rows)
    yield Shop(zone, client)
    client.command(f"DROP DATABASE `{zone.database}`")
    client.close()


@pytest.fixture
def stored(store_server: str, shop: pl.DataFrame) -> Iterator[Shop]:
    """A store that the test may change."""
    with store_of(store_server, shop) as made:
        yield made


@pytest.fixture(scope="session")
def settled(store_server: str, shop: pl.DataFrame) -> Iterator[Shop]:
    """The same for tests that only read."""
    with store_of(store_server, shop) as made:
        yield made


@pytest.fixture
def empty(store_server: str) -> Iterator[Shop]:
    with store_of(store_server) as made:
        yield made

"""The adversary at the hub itself: from what lies there after exports, no small cell can be found or bounded."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta

import numpy as np
import pytest
from numpy.typing import NDArray

from mobius_analysis.hub_job import export_zone
from mobius_analysis.suppress_cells import reach_of, small
from mobius_analysis.testing import insert_rollup, rollup_rows
from mobius_pipeline.residency.policy import ToHub
from tests.analysis.adversary import bounds, with_totals
from tests.analysis.conftest import Shop, store_of
from tests.analysis.hub_store import HOUR, HubStore, hub_of, insert_subjects, requests

pytestmark = pytest.mark.store

LEAST = 11
REGIONS = ("eu-central-1", "eu-west-1")
VERSIONS = ("1", "2", "3")
Table = NDArray[np.int64]
Published = dict[tuple[int, ...], int]


def generated(seed: int, hours: int, routes: int) -> dict[tuple[datetime, str], Table]:
    """Tables of regions by versions, from empty to large, for each hour and route."""
    rng = np.random.default_rng(seed)
    shape = (len(REGIONS), len(VERSIONS))
    kinds = [lambda: rng.poisson(3, shape), lambda: rng.integers(0, 400, shape)]
    tables = {}
    for hour in range(hours):
        for route in range(routes):
            few, many = kinds[0](), kinds[1]()
            table = np.where(rng.random(shape) < rng.random(), few, many)
            tables[HOUR + timedelta(hours=hour), f"/r{route}"] = table
    return tables


def fill(zone: Shop, tables: dict[tuple[datetime, str], Table]) -> None:
    groups = [
        requests(int(number), hour=hour, route=route, region=REGIONS[r], version=VERSIONS[v])
        for (hour, route), table in tables.items()
        for (r, v), number in np.ndenumerate(table)
        if number
    ]
    insert_rollup(zone.client, rollup_rows(groups))


def know(zone: Shop, tables: dict[tuple[datetime, str], Table]) -> dict[tuple[datetime, str], int]:
    """Have people behind the cells of two tables in three, so many requests each; returns how many by table."""
    made = {place: (0, 1, 30)[at % 3] for at, place in enumerate(tables)}
    for (hour, route), table in tables.items():
        for (r, v), number in np.ndenumerate(table):
            if number and made[hour, route]:
                people = people_of(int(number), made[hour, route])
                where = {"route": route, "region": REGIONS[r], "version": VERSIONS[v]}
                insert_subjects(zone.client, people, hour=hour, **where)
    return made


def people_of(requests: int, each: int) -> int:
    return -(-requests // each)


def published(hub: HubStore) -> dict[tuple[datetime, str], Published]:
    """Every number in the hub, by table and place; a total stands behind the last region or version."""
    rows = hub.client.query(
        "SELECT toUnixTimestamp(hour), route, region, version, requests FROM latency_hour"
    ).result_rows
    told: dict[tuple[datetime, str], Published] = defaultdict(dict)
    for seconds, route, region, version, number in rows:
        hour = datetime.fromtimestamp(seconds, HOUR.tzinfo)
        r = len(REGIONS) if region is None else REGIONS.index(region)
        v = len(VERSIONS) if version is None else VERSIONS.index(version)
        assert (r, v) not in told[hour, route]
        told[hour, route][r, v] = number
    return told


def assert_unsolvable(truth: Table, told: Published, each: int) -> int:
    """Attack one table, of which somebody made ``each`` requests (0: not known); returns how many small entries withstood."""
    table = with_totals(truth)
    counts = table
    if each > 1:
        people = np.vectorize(people_of)(truth, each)
        # The same people are in all cells, so a total has as many as its largest cell.
        counts = table.copy()
        counts[:-1, :-1] = people
        counts[-1, :-1], counts[:-1, -1], counts[-1, -1] = (
            people.max(axis=0),
            people.max(axis=1),
            people.max(),
        )
    hidden = np.ones(table.shape, bool)
    for place, number in told.items():
        assert table[place] == number
        hidden[place] = False
    primary = small(table, counts, LEAST)
    assert hidden[primary].all()
    reach = reach_of(table, counts, primary, LEAST)
    slack = 1e-5 * max(1.0, table.max())
    for place in map(tuple, np.argwhere(primary)):
        low, high = bounds(table, hidden, place)
        assert low <= slack, (place, low, high)
        assert high >= reach - slack, (place, low, high)
    return int(primary.sum())


def campaign(url: str, seed: int, *, hours: int, routes: int) -> int:
    """Export generated tables, let late requests come, export again, attack what the hub holds."""
    tables = generated(seed, hours, routes)
    with store_of(url) as zone, hub_of(url) as hub:
        now = HOUR + timedelta(hours=hours + 1)
        fill(zone, tables)
        made = know(zone, tables)
        rules = ToHub(least_subjects=LEAST)
        assert len(export_zone(zone.zone, hub.hub, rules, since=HOUR, now=now)) == hours
        before = published(hub)
        fill(zone, generated(seed + 1, hours, routes))
        # Another day, and by other columns: whoever could subtract would have what came between.
        for columns in (rules.columns, ("minute", "route")):
            other = ToHub(least_subjects=LEAST, columns=columns)
            later = now + timedelta(days=1)
            assert export_zone(zone.zone, hub.hub, other, since=HOUR, now=later) == ()
        assert published(hub) == before
    return sum(
        assert_unsolvable(truth, before.get(place, {}), made[place])
        for place, truth in tables.items()
    )


def test_no_small_cell_of_the_hub_can_be_solved(store_server: str) -> None:
    assert campaign(store_server, 5, hours=2, routes=18) > 40


@pytest.mark.soak
@pytest.mark.timeout(7_200)
def test_no_small_cell_of_the_hub_can_be_solved_in_thousands(store_server: str) -> None:
    assert (
        sum(campaign(store_server, seed, hours=24, routes=10) for seed in range(100, 110)) > 2_000
    )

"""What was quarantined is released after review: into its own zone, each span once, and who did it is written down."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import UsageError
from mobius_pipeline.quarantine_review import Held, find_held, release
from mobius_pipeline.residency.audit import load_reads
from tests.conftest import ZoneFactory
from tests.pipeline.otlp import key_value, make_message, make_resource, make_span, publish
from tests.pipeline.test_pipeline_commands import run
from tests.pipeline.test_worker import drain, rows

pytestmark = [pytest.mark.store, pytest.mark.kafka]


@pytest.fixture
def zone(zone_factory: ZoneFactory) -> Zone:
    """Misspelt, missing, foreign and contradictory regions, two resources of one kind in one message, and what is right."""
    made = zone_factory()
    doubtful = make_resource([make_span()], region="eu-west-1")
    doubtful.resource.attributes.append(key_value("cloud.region", "us-east-1"))
    publish(
        made,
        [
            (
                0,
                make_message(*(make_resource([make_span()], region="eu-wset-1") for _ in range(2))),
            ),
            (
                1,
                make_message(make_resource([make_span(), make_span()], region=None, service="new")),
            ),
            (0, make_message(make_resource([make_span()], region="us-east-1"), doubtful)),
            (1, make_message(make_resource([make_span(), make_span(duration_ns=-1)]))),
        ],
    )
    drain(made)
    return made


def held_of(zone: Zone) -> dict[str, Held]:
    return {each.region: each for each in find_held(zone)}


def stored(zone: Zone) -> list[tuple[str, int]]:
    sql = "SELECT toString(region), count() FROM spans GROUP BY region ORDER BY region"
    return [(str(region), int(count)) for region, count in rows(zone, sql)]


def test_each_is_released_once_into_its_own_zone(zone: Zone) -> None:
    held = held_of(zone)
    assert {(e.region, e.service, e.spans, e.state) for e in held.values()} == {
        ("eu-wset-1", "shop", 2, "held"),
        ("", "new", 2, "held"),
        ("us-east-1", "shop", 1, "held"),
        ("eu-west-1, us-east-1", "shop", 1, "held"),
    }  # the span of a negative duration is not among them
    chosen = [held["eu-wset-1"], held[""], held["eu-west-1, us-east-1"]]
    dry = release(zone, chosen, "eu-central-1", dry_run=True)
    assert set(dry.released) == {each.id for each in chosen}
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: release(zone, chosen, "eu-central-1"), range(4)))
    assert sorted(name for each in done for name in each.released) == sorted(dry.released)
    drain(zone)
    assert stored(zone) == [("eu-central-1", 5), ("eu-west-1", 1)]
    again = held_of(zone)
    assert {each.region: each.state for each in again.values()} == {
        "eu-wset-1": "released",
        "": "released",
        "eu-west-1, us-east-1": "released",
        "us-east-1": "held",
    }
    told = release(zone, list(again.values()), "eu-west-1")
    assert (len(told.released), len(told.already)) == (1, 3)
    drain(zone)
    assert stored(zone) == [("eu-central-1", 5), ("eu-west-1", 2)]
    assert {each.state for each in find_held(zone)} == {"released"}


def test_nothing_is_released_to_another_zone(zone: Zone) -> None:
    held = held_of(zone)["us-east-1"]
    with pytest.raises(UsageError, match=r"'us-east-1' is no region of zone .* never sent"):
        release(zone, [held], "us-east-1")
    drain(zone)
    assert stored(zone) == [("eu-west-1", 1)]
    assert held_of(zone)["us-east-1"] == held


def test_the_commands_list_release_and_write_down_who_did(
    zone: Zone, zones_file_factory: Callable[..., Path]
) -> None:
    file = str(zones_file_factory(zone))
    done = run("quarantine", "list", "--config", file, "--json")
    listed = json.loads(done.stdout)["zones"][zone.name]
    assert (listed["total"], {each["state"] for each in listed["held"]}) == (4, {"held"})
    why = "a typing error in the chart, see the change of today"

    def code_of(region: str, *more: str) -> int:
        wanted = ("quarantine", "release", "--zone", zone.name, "--config", file)
        return run(*wanted, "--as-region", region, *more).returncode

    assert code_of("eu-west-1", "--reason", why) == 2  # which?
    assert code_of("eu-west-1", "--region", "eu-wset-1") == 2  # why?
    assert code_of("us-east-1", "--region", "eu-wset-1", "--reason", why) == 2
    assert code_of("eu-west-1", "--region", "eu-wset-1", "--reason", why) == 0
    now = datetime.now(UTC)
    (read,) = load_reads(zone, now - timedelta(minutes=5), now + timedelta(minutes=1))
    assert (read.action, read.reason) == ("quarantine_release", why)
    assert read.rows == {"as_region": "eu-west-1", "released": held_of(zone)["eu-wset-1"].id}
    drain(zone)
    assert stored(zone) == [("eu-west-1", 3)]

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobius_dashboards.clients import client_for
from mobius_dashboards.viewer import ForbiddenError, Viewer, local_viewer, login_viewer, require
from mobius_instrumentation.zones import Zone, parse_zones
from mobius_pipeline.errors import DependencyError, UsageError
from mobius_pipeline.residency.policy import Policy
from mobius_pipeline.residency.sight import Level

ZONES = parse_zones(
    {
        "zones": {
            name: {"regions": [f"{name}-1"], "kafka": ["k:1"], "clickhouse": "http://127.0.0.1:9"}
            for name in ("eu", "us")
        }
    }
)


def policy(**tables: Any) -> Policy:
    """Two zones and a hub, and whatever else the file says."""
    zones = {
        name: {"regions": [f"{name}-1"], "kafka": ["k:1"], "clickhouse": f"http://{name}:9"}
        for name in ("eu", "us")
    }
    return Policy.model_validate({"zones": zones, "hub": {"clickhouse": "http://hub:9"}, **tables})


GROUPS = {
    "sre-eu": {"spans": ["eu"], "aggregates": ["us", "hub"]},
    "board": {"aggregates": ["eu"]},
    "hub-only": {"aggregates": ["hub"]},
}


def test_without_groups_the_local_viewer_sees_all_unless_narrowed() -> None:
    both = Viewer("local", (("eu", "spans"), ("us", "spans")))
    assert local_viewer(policy(), {}).policy == both.policy
    narrowed = {
        "MOBIUS_VIEWER": "ana",
        "MOBIUS_VIEWER_ZONES": "us",
        "MOBIUS_VIEWER_LEVEL": "aggregates",
    }
    found = local_viewer(policy(), narrowed)
    assert (found.name, found.levels) == ("ana", (("us", "aggregates"),))
    assert local_viewer(policy(), {"MOBIUS_VIEWER_ZONES": ""}).zones == ()


def test_groups_give_a_level_for_each_zone() -> None:
    known = policy(groups=GROUPS, viewers={"ana": ["sre-eu"], "bo": ["board"], "cy": ["hub-only"]})
    assert local_viewer(known, {"MOBIUS_VIEWER": "ana"}).levels == (
        ("eu", "spans"),
        ("us", "aggregates"),
    )
    assert local_viewer(known, {"MOBIUS_VIEWER": "bo"}).levels == (("eu", "aggregates"),)
    assert local_viewer(known, {"MOBIUS_VIEWER": "cy"}).levels == ()
    assert local_viewer(known, {"MOBIUS_VIEWER": "stranger"}).levels == ()
    assert local_viewer(known, {}).levels == ()
    assert login_viewer(known, "x", ["board", "unknown"], {}).levels == (("eu", "aggregates"),)


def test_a_name_that_a_login_brings_gives_nothing() -> None:
    known = policy(groups=GROUPS, viewers={"ana": ["sre-eu"]})
    assert login_viewer(known, "ana", [], {}).levels == ()


def test_people_who_log_in_see_nothing_by_a_file_without_groups() -> None:
    with pytest.raises(UsageError, match="declares no groups"):
        login_viewer(policy(), "ana", ["sre-eu"], {})


@settings(max_examples=300)
@given(
    groups=st.lists(st.sampled_from(list(GROUPS)), unique=True),
    zones=st.none() | st.lists(st.sampled_from(["eu", "us"])),
    level=st.sampled_from([None, "aggregates", "spans"]),
)
def test_the_environment_only_takes_away(
    groups: list[str], zones: list[str] | None, level: str | None
) -> None:
    known = policy(groups=GROUPS)
    whole = login_viewer(known, "ana", groups, {})
    environment = {} if zones is None else {"MOBIUS_VIEWER_ZONES": ",".join(zones)}
    if level is not None:
        environment["MOBIUS_VIEWER_LEVEL"] = level
    found = login_viewer(known, "ana", groups, environment)
    for zone in ("eu", "us", "hub", ""):
        for depth in get_args(Level):
            kept = (zones is None or zone in zones) and (depth, level) != ("spans", "aggregates")
            assert found.sees(zone, depth) == (whole.sees(zone, depth) and kept)


@pytest.mark.parametrize(
    "wrong",
    [
        {"MOBIUS_VIEWER_ZONES": "eu,mars"},
        {"MOBIUS_VIEWER_ZONES": "hub"},
        {"MOBIUS_VIEWER_LEVEL": "root"},
    ],
)
def test_a_wrong_narrowing_shows_nothing_at_all(wrong: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        local_viewer(policy(), wrong)


def test_policies_that_differ_share_no_cache() -> None:
    levels: tuple[Level | None, ...] = (None, "aggregates", "spans")
    viewers = [
        Viewer("a", tuple((zone, level) for zone, level in (("eu", eu), ("us", us)) if level))
        for eu in levels
        for us in levels
    ]
    assert len({viewer.policy for viewer in viewers}) == 9
    least = [Viewer("a", (("eu", "aggregates"),), least=(("eu", n),)) for n in (11, 20)]
    assert least[0].policy != least[1].policy
    assert least[0].sight == "aggregates of eu"
    assert Viewer("a", (("eu", "spans"),)).policy == Viewer("b", (("eu", "spans"),)).policy


def test_no_client_without_the_zone_nor_for_spans_without_the_level() -> None:
    viewer = Viewer("ana", (("eu", "aggregates"),))
    require(viewer, "eu")
    with pytest.raises(ForbiddenError), client_for(viewer, ZONES.zones["us"]):
        pytest.fail("a client was handed out")
    with pytest.raises(ForbiddenError), client_for(viewer, ZONES.zones["eu"], "spans"):
        pytest.fail("a client was handed out")


def test_a_store_that_is_away_is_named() -> None:
    away = Zone("eu", ("eu-1",), ("k:1",), "http://127.0.0.1:9", "rum_eu")
    with (
        pytest.raises(DependencyError, match="zone eu"),
        client_for(Viewer("a", (("eu", "spans"),)), away),
    ):
        pytest.fail("a client was handed out")

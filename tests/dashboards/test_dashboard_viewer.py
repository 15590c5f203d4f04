from __future__ import annotations

import pytest

from mobius_dashboards.clients import client_for
from mobius_dashboards.viewer import ForbiddenError, Viewer, current_viewer, require
from mobius_instrumentation.zones import Zone, parse_zones
from mobius_pipeline.errors import DependencyError, UsageError

ZONES = parse_zones(
    {
        "zones": {
            name: {"regions": [f"{name}-1"], "kafka": ["k:1"], "clickhouse": "http://127.0.0.1:9"}
            for name in ("eu", "us")
        }
    }
)


def test_the_local_viewer_sees_all_unless_narrowed() -> None:
    assert current_viewer(ZONES, {}) == Viewer("local", ("eu", "us"), "spans")
    narrowed = {
        "MOBIUS_VIEWER": "ana",
        "MOBIUS_VIEWER_ZONES": "us",
        "MOBIUS_VIEWER_LEVEL": "aggregates",
    }
    assert current_viewer(ZONES, narrowed) == Viewer("ana", ("us",), "aggregates")
    assert current_viewer(ZONES, {"MOBIUS_VIEWER_ZONES": ""}).zones == ()


@pytest.mark.parametrize(
    "wrong", [{"MOBIUS_VIEWER_ZONES": "eu,mars"}, {"MOBIUS_VIEWER_LEVEL": "root"}]
)
def test_a_wrong_policy_shows_nothing_at_all(wrong: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        current_viewer(ZONES, wrong)


def test_policies_that_differ_share_no_cache() -> None:
    policies = {
        Viewer("a", zones, level).policy
        for zones in (("eu",), ("us",), ("eu", "us"), ())
        for level in ("spans", "aggregates")
    }
    assert len(policies) == 8
    assert Viewer("a", ("eu",), "spans").policy == Viewer("b", ("eu",), "spans").policy


def test_no_client_without_the_zone_nor_for_spans_without_the_level() -> None:
    viewer = Viewer("ana", ("eu",), "aggregates")
    require(viewer, "eu")
    with pytest.raises(ForbiddenError), client_for(viewer, ZONES.zones["us"]):
        pytest.fail("a client was handed out")
    with pytest.raises(ForbiddenError), client_for(viewer, ZONES.zones["eu"], "spans"):
        pytest.fail("a client was handed out")


def test_a_store_that_is_away_is_named() -> None:
    away = Zone("eu", ("eu-1",), ("k:1",), "http://127.0.0.1:9", "rum_eu")
    with (
        pytest.raises(DependencyError, match="zone eu"),
        client_for(Viewer("a", ("eu",), "spans"), away),
    ):
        pytest.fail("a client was handed out")

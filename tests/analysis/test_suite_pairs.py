"""Pairs of users' changes and tests' moves, and the score of suites whose truth is known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from mobius_analysis.rollup import Window
from mobius_analysis.suite_document import suite_document
from mobius_analysis.suite_load import assess
from mobius_analysis.suite_moves import find_moves
from mobius_analysis.suite_pairs import chance_of
from mobius_analysis.suite_priorities import priorities
from mobius_analysis.suite_score import ZoneSuite, score
from mobius_analysis.suite_shares import clustered_share, share_of_total, wilson_share
from mobius_analysis.suite_tracks import Track
from mobius_analysis.testing import drifting_load, level_track

START = datetime(2026, 3, 2, tzinfo=UTC)
WEEK = Window(START, START + timedelta(days=7))
HOURS = 7 * 24


def track(
    seed: int,
    *steps: tuple[float, float],
    test: str | None = None,
    route: str = "/",
    noise: float = 0.03,
    phi: float = 0.3,
    median: float = 0.05,
    rate: float = 100.0,
    failed: float = 1.0,
) -> Track:
    """A week in hours; each step is the hour from which the level is so many times what it was."""
    load = drifting_load(np.random.default_rng(seed), HOURS, phi, noise)
    for hour, factor in steps:
        load[np.arange(HOURS) >= hour] += np.log(factor)
    return level_track(WEEK, load, test=test, route=route, median=median, rate=rate, failed=failed)


def assessed(*tracks: Track) -> ZoneSuite:
    return assess("eu", WEEK, tracks)


def test_users_moved_and_the_test_did_not() -> None:
    (change,) = assessed(track(1, (100, 1.4)), track(2, test="smoke")).changes
    assert (change.kind, change.direction, change.release) == ("blind_spot", "slower", None)
    hour = (change.when.moment - WEEK.minutes[0]) / 60
    assert hour == pytest.approx(100, abs=1.5)
    assert change.when.first <= change.when.moment <= change.when.last
    (sight,) = change.sights
    assert sight.ratio is not None
    assert sight.ratio.high is not None
    assert sight.ratio.high < 1.1


def test_both_moved_at_once_is_confirmed_beyond_chance() -> None:
    suite = assessed(track(1, (100, 1.4)), track(2, (100, 1.4), test="smoke"))
    (change,) = suite.changes
    assert change.kind == "confirmed"
    (sight,) = change.sights
    assert sight.chance is not None
    assert sight.chance < 0.05
    assert [alarm.kind for alarm in suite.alarms] == ["true"]


@pytest.mark.parametrize(
    ("hour", "kind", "lead"), [(96, "early_warning", 240), (104, "late", -240)]
)
def test_the_test_was_sooner_or_later_by_so_many_minutes(hour: int, kind: str, lead: int) -> None:
    (change,) = assessed(
        track(1, (100, 1.4), noise=0.01), track(2, (hour, 1.4), test="smoke", noise=0.01)
    ).changes
    assert change.kind == kind
    found = change.sights[0].lead
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low <= lead <= found.high
    assert abs(found.value - lead) <= 60


def test_a_test_that_moved_alone_cried_wolf() -> None:
    suite = assessed(track(1), track(2, (100, 1.4), test="smoke"))
    assert suite.changes == ()
    assert [alarm.kind for alarm in suite.alarms] == ["false"]


def test_a_move_the_other_way_does_not_count_as_seen() -> None:
    suite = assessed(track(1, (100, 1.4)), track(2, (100, 0.7), test="smoke"))
    assert [change.kind for change in suite.changes] == ["blind_spot"]
    assert [alarm.kind for alarm in suite.alarms] == ["false"]


def test_a_test_that_moves_all_day_long_is_near_by_chance() -> None:
    steps = [(h, 1.5 if i % 2 == 0 else 1 / 1.5) for i, h in enumerate(range(20, 160, 20))]
    (change,) = assessed(
        track(1, (110, 1.4), noise=0.01), track(2, *steps, test="nervous", noise=0.01)
    ).changes
    assert change.kind == "coincidence"
    assert change.sights[0].chance is not None
    assert change.sights[0].chance > 0.1


def test_a_test_that_is_too_coarse_or_does_not_run_could_not_see_it() -> None:
    coarse = track(2, test="smoke", noise=0.5)
    (change,) = assessed(track(1, (100, 1.2)), coarse).changes
    assert change.kind == "unseen_change"
    (change,) = assessed(track(1, (100, 1.2))).changes
    assert (change.kind, change.sights) == ("unseen_change", ())


def test_each_test_is_judged_by_itself_and_the_suite_by_its_best() -> None:
    suite = assessed(
        track(1, (100, 1.4)), track(2, test="blind"), track(3, (100, 1.4), test="seeing")
    )
    (change,) = suite.changes
    assert {sight.test: sight.kind for sight in change.sights} == {
        "blind": "blind_spot",
        "seeing": "confirmed",
    }
    assert change.kind == "confirmed"
    assert score([suite], "blind").seen == wilson_share(0.0, 1.0)
    assert score([suite], "seeing").seen == wilson_share(1.0, 1.0)


def test_p50_and_p95_of_one_time_are_one_move() -> None:
    (move,) = find_moves([track(1, (100, 1.4))], 60)
    assert sorted(move.ratios) == [0.5, 0.95]


def test_the_chance_of_being_near_is_exact() -> None:
    whole = (0, 1000)
    assert chance_of(500, [200], 50, whole) == pytest.approx(0.1)
    assert chance_of(500, [200, 800], 50, whole) == pytest.approx(0.2)
    assert chance_of(500, [200, 250], 50, whole) == pytest.approx(0.15)  # arcs that overlap
    assert chance_of(500, [995, 5], 50, whole) == pytest.approx(0.11)  # around the end
    assert chance_of(500, [], 50, whole) == 0.0
    assert chance_of(500, [1], 600, whole) == 1.0
    # What it claims: the share of shifts that come as near.
    moves = np.array([100.0, 130.0, 700.0])
    shifts = np.arange(1000)
    away = np.abs((moves[None, :] + shifts[:, None] - 500 + 500) % 1000 - 500).min(axis=1)
    assert chance_of(500, list(moves), 40, whole) == pytest.approx((away <= 40).mean(), abs=0.005)


def test_coverage_is_weighed_by_requests_time_and_failures() -> None:
    suite = assessed(
        track(1, route="/fast", rate=300.0, failed=0.0),
        track(2, route="/slow", rate=100.0, median=0.5, failed=1.0),
        track(3, route="/fast", test="smoke"),
    )
    coverage = score([suite]).coverage
    assert coverage.requests is not None
    assert coverage.requests.value == pytest.approx(0.75)
    assert coverage.time is not None
    assert coverage.time.value == pytest.approx(300 * 0.05 / (300 * 0.05 + 100 * 0.5), rel=0.02)
    assert coverage.errors is not None
    assert coverage.errors.value == 0.0
    assert (coverage.tested, coverage.used) == (1, 2)
    assert coverage.requests.low is not None
    assert coverage.requests.low < 0.75


def test_what_is_not_known_is_null_and_never_zero() -> None:
    nothing = suite_document([assessed()])
    for name in ("requests_share", "time_share", "errors_share", "seen_share", "noticed_share",
                 "false_alarm_share", "truthful_share"):  # fmt: skip
        assert nothing["suite"][name] is None
    quiet = suite_document([assessed(track(1, failed=0.0), track(2, test="smoke"))])
    assert quiet["suite"]["errors_share"] is None
    assert quiet["suite"]["seen_share"] is None
    assert quiet["suite"]["requests_share"]["value"] == 1.0
    assert [one["test"] for one in quiet["tests"]] == ["smoke"]


def test_endpoints_of_one_release_are_one_event() -> None:
    # Ten endpoints that one event moved, all seen, say no more than one.
    one = clustered_share([("1.5.0", True)] * 10)
    ten = clustered_share([(str(i), True) for i in range(10)])
    assert one is not None
    assert ten is not None
    assert one == wilson_share(1.0, 1.0)
    assert ten == wilson_share(1.0, 10.0)
    assert clustered_share([]) is None
    mixed = clustered_share([("a", True)] * 5 + [("b", False)] * 5)
    assert mixed is not None
    assert mixed.low is not None
    assert mixed.low < 0.1
    assert share_of_total(np.zeros(20), np.zeros(20)) is None


def test_what_to_test_next_is_ranked_by_risk_with_its_reason() -> None:
    suite = assessed(
        track(1, (100, 1.4), route="/blind", rate=100.0),
        track(2, route="/blind", test="smoke"),
        track(3, route="/busy", rate=300.0, failed=3.0),
        track(4, route="/rare", rate=10.0, failed=0.1),
    )
    ranked = priorities([suite])
    assert [one.subject[3] for one in ranked] == ["/busy", "/blind", "/rare"]
    assert ranked[0].reason.startswith("no test touches it; ")
    assert "blind spot" in ranked[1].reason
    assert ranked[1].changes == 1
    assert sum(one.share for one in ranked) == pytest.approx(1.0)
    for one in ranked:
        assert one.risk == pytest.approx(one.exposure * one.gap_factor * one.change_factor)
    assert priorities([assessed(*reversed(suite.tracks))]) == ranked

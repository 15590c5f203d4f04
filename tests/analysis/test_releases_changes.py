"""Releases in users' traffic, and what tests and users noticed of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np
import polars as pl

from mobius_analysis.cells import CorrelationResult
from mobius_analysis.changes import Change, compare_release, judge_changes
from mobius_analysis.deduce import change_findings, settled_by
from mobius_analysis.releases import Release, find_releases
from mobius_analysis.rollup import Window
from mobius_analysis.testing import Requests, loaded, lognormal, rollup_rows

START = datetime(2026, 3, 1, tzinfo=UTC)
FIRST = 240  # minute of the release
HOURS = 8


def versions(*rows: tuple[int, str, float]) -> pl.DataFrame:
    start = int(START.timestamp() // 60)
    return pl.DataFrame(
        {
            "service": "storefront",
            "region": "eu-west-1",
            "environment": "production",
            "version": [version for _, version, _ in rows],
            "minute": [start + minute for minute, _, _ in rows],
            "weight": [weight for _, _, weight in rows],
        }
    ).sort("minute", "version")


def test_a_rollout_that_overlaps_is_one_release() -> None:
    old = [(m, "1.0", 100.0 if m < 100 else 50.0) for m in range(120)]
    new = [(m, "1.1", 50.0 if m < 120 else 100.0) for m in range(100, 200)]
    (release,) = find_releases(versions(*old, *new))
    assert (release.version, release.previous) == ("1.1", "1.0")
    assert release.first_seen == START + timedelta(minutes=100)
    assert release.complete == START + timedelta(minutes=120)


def test_versions_that_were_there_before_or_hardly_come_are_no_releases() -> None:
    both = [(m, v, 50.0) for m in range(100) for v in ("1.0", "1.1")]
    assert find_releases(versions(*both)) == ()
    stray = [*((m, "1.0", 100.0) for m in range(200)), (100, "dev", 2.0)]
    assert find_releases(versions(*stray)) == ()
    once = [*((m, "1.0", 100.0) for m in range(200)), (100, "dev", 60.0)]
    assert find_releases(versions(*once)) == ()
    assert find_releases(versions((0, "1.0", 1.0)).clear()) == ()


def test_a_canary_that_stays_is_a_release_and_never_complete() -> None:
    rows = [(m, "1.0", 90.0) for m in range(200)] + [(m, "1.1", 10.0) for m in range(50, 200)]
    (release,) = find_releases(versions(*rows))
    assert release.complete is None
    assert release.minutes[0] == release.minutes[1]


def test_releases_that_follow_one_another_name_their_predecessor() -> None:
    rows = [(m, f"1.{m // 100}", 100.0) for m in range(300)]
    assert [(r.version, r.previous) for r in find_releases(versions(*rows))] == [
        ("1.1", "1.0"),
        ("1.2", "1.1"),
    ]


NOTHING = CorrelationResult("eu", Window(START, START + timedelta(hours=HOURS)), ())
RELEASE = Release(
    "storefront",
    "eu-west-1",
    "production",
    "1.1",
    "1.0",
    START + timedelta(minutes=FIRST),
    START + timedelta(minutes=FIRST),
)


def traffic(
    source: Literal["real", "synthetic"],
    seed: int,
    factor: float = 1.0,
    *,
    rate: float = 40,
    first: int = FIRST,
    T: int = HOURS * 60,
) -> list[Requests]:
    rng = np.random.default_rng(seed)
    load = np.where(np.arange(T) >= first, np.log(factor), 0.0)
    present = np.ones(T, bool) if source == "real" else np.arange(T) % 10 < 3
    minutes, seconds = lognormal(
        rng, START, load, rate=rate, median=0.05, sigma=0.4, present=present
    )
    after = minutes - minutes.min() >= first
    whole = Requests(minutes, seconds, source=source)
    return [
        replace(whole, minutes=minutes[side], seconds=seconds[side], version=version)
        for side, version in ((~after, "1.0"), (after, "1.1"))
    ]


def change(*groups: list[Requests]) -> Change:
    rows = loaded(
        rollup_rows([request for group in groups for request in group]).drop("environment")
    )
    (found,) = judge_changes(compare_release(RELEASE, rows))
    return found


def test_users_got_it_and_the_tests_did_not() -> None:
    found = change(traffic("real", 1, 1.4), traffic("synthetic", 2))
    assert (found.kind, found.direction) == ("blind_spot", "slower")
    assert set(found.quantiles) == {0.5, 0.95}
    (finding,) = change_findings((found,))
    assert (finding.kind, finding.severity, finding.since) == (
        "blind_spot",
        "critical",
        RELEASE.first_seen,
    )
    assert finding.evidence["production"]["ratio"]["p50"]["low"] > 1.1
    assert finding.evidence["tests"]["ratio"]["p50"]["high"] < 1.1


def test_minutes_after_a_release_it_is_too_early_to_tell() -> None:
    early, later = (
        change(traffic("real", 1, 1.4, T=T), traffic("synthetic", 2, T=T))
        for T in (FIRST + 9, FIRST + 60)
    )
    assert early.kind is None
    assert early.production.after.minutes == 9
    assert later.kind == "blind_spot"


def test_both_got_it() -> None:
    assert change(traffic("real", 1, 1.4), traffic("synthetic", 2, 1.4)).kind == "confirmed"


def test_the_tests_cried_wolf() -> None:
    assert change(traffic("real", 1), traffic("synthetic", 2, 1.4)).kind == "false_alarm"


def test_nobody_moved_and_that_settles_what_was_claimed_before() -> None:
    found = change(traffic("real", 1), traffic("synthetic", 2))
    assert found.kind is None
    settled = {kind for kind, _ in settled_by(NOTHING, (found,))}
    assert settled == {"blind_spot", "false_alarm", "confirmed", "early_warning", "unseen_change"}
    # Users stood still, so they got nothing; whether the tests cried wolf, these few cannot say.
    half = change(traffic("real", 1), traffic("synthetic", 2, rate=0.8))
    assert half.kind is None
    assert {kind for kind, _ in settled_by(NOTHING, (half,))} == settled - {"false_alarm"}
    # Too few requests settle nothing.
    unsure = change(traffic("real", 1, rate=0.3), traffic("synthetic", 2, rate=0.3))
    assert unsure.kind is None
    assert list(settled_by(NOTHING, (unsure,))) == []


def test_getting_faster_is_a_change_too() -> None:
    found = change(traffic("real", 1, 0.7), traffic("synthetic", 2))
    assert (found.kind, found.direction) == ("blind_spot", "faster")


def test_tests_that_are_too_few_could_not_have_seen_it() -> None:
    assert (
        change(traffic("real", 1, 1.4), traffic("synthetic", 2, rate=0.2)).kind == "unseen_change"
    )
    assert change(traffic("real", 1, 1.4)).kind == "unseen_change"


def test_tests_whose_interval_holds_the_users_move_could_not_have_seen_it_either() -> None:
    found = change(traffic("real", 1, 1.25), traffic("synthetic", 2, 1.1, rate=0.8))
    still = found.tests.ratios[0.5].bounds
    assert still.high is not None
    assert still.high > 1.25
    assert found.kind == "unseen_change"


def test_tests_of_the_version_that_ran_before_users_had_it_warn_early() -> None:
    found = change(traffic("real", 1, 1.4), traffic("synthetic", 2, 1.4, first=FIRST - 60))
    assert found.kind == "early_warning"
    assert found.lead == timedelta(minutes=60)


def test_a_file_that_names_no_version_is_placed_by_time() -> None:
    test = [replace(group, version="", vantage="client") for group in traffic("synthetic", 2, 1.4)]
    found = change(traffic("real", 1, 1.4), test)
    assert (found.kind, found.vantage) == ("confirmed", "client")


def test_while_versions_overlap_the_version_decides_and_not_the_time() -> None:
    old, new = traffic("real", 1, 1.4)
    lagging = replace(new, seconds=new.seconds / 1.4, version="1.0")
    found = change([old, new, lagging], traffic("synthetic", 2))
    assert found.kind == "blind_spot"
    assert abs(found.production.ratios[0.5].bounds.value - 1.4) < 0.07

"""How often the suite's score is right: simulated weeks of users and tests whose truth is known.

Each simulated suite has seven endpoints, one a story, hourly for a week; levels follow AR(1) noise. Printed is
what was said of each story, how far the stated lead was off, and the CPU time a series takes.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mobius_analysis.intervals import wilson
from mobius_analysis.rollup import Window
from mobius_analysis.suite_load import assess
from mobius_analysis.suite_score import ZoneSuite
from mobius_analysis.suite_tracks import Track
from mobius_analysis.testing import drifting_load, level_track

__all__ = ["STORIES", "run"]

_WEEK: Final = Window(datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 9, tzinfo=UTC))
_HOURS: Final = 7 * 24
_FACTOR: Final = 1.4
_NOISE: Final = 0.05
_LEAD: Final = 3

# Hour by which the test moves before users (None: it does not), and whether users move at all.
STORIES: Final[Mapping[str, tuple[bool, int | None]]] = {
    "quiet": (False, None),
    "unseen_by_tests": (True, None),
    "at_once": (True, 0),
    "tests_first": (True, _LEAD),
    "tests_later": (True, -_LEAD),
    "test_alone": (False, 0),
    "unrelated": (True, 0),  # the test moves at an hour that has nothing to do with users'
}

Floats = NDArray[np.float64]


def run(suites: int = 200, phis: Sequence[float] = (0.3, 0.6), seed: int = 1) -> dict[str, Any]:
    """Simulate ``suites`` suites a phi and count what was said of each story."""
    return {
        "what": f"{suites} simulated weeks a phi, hourly, one step of x {_FACTOR} a story, noise {_NOISE} AR(1)",
        "peer": "the planted truth",
        **{f"phi_{phi}": _campaign(suites, phi, seed) for phi in phis},
    }


def _campaign(suites: int, phi: float, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng([seed, round(phi * 100)])
    said: dict[str, Counter[str]] = {story: Counter() for story in STORIES}
    leads: list[bool] = []
    misses: list[float] = []
    series, used = 0, 0.0
    for _ in range(suites):
        tracks = [track for story in STORIES for track in _tracks(rng, story, phi)]
        began = time.process_time()
        suite = assess("eu", _WEEK, tuple(tracks))
        used += time.process_time() - began
        series += 2 * len(tracks)
        for story in STORIES:
            said[story][_said(suite, story)] += 1
        for story, truth in (("tests_first", _LEAD * 60), ("tests_later", -_LEAD * 60)):
            _collect_leads(suite, story, truth, leads, misses)
    return {
        "said": {story: _shares(counts, suites) for story, counts in said.items()},
        "lead_interval_coverage": _share(sum(leads), len(leads)),
        "lead_error_minutes_median": round(float(np.median(misses)), 1) if misses else None,
        "cpu_ms_per_series": round(1000 * used / series, 2),
    }


def _tracks(rng: np.random.Generator, story: str, phi: float) -> tuple[Track, Track]:
    users_move, lead = STORIES[story]
    hour = int(rng.integers(48, 120))
    tested = int(rng.integers(24, 144)) if story == "unrelated" else hour - (lead or 0)
    users, test = (drifting_load(rng, _HOURS, phi, _NOISE) for _ in range(2))
    if users_move:
        users[hour:] += np.log(_FACTOR)
    if lead is not None:
        test[tested:] += np.log(_FACTOR)
    route = f"/{story}"
    return level_track(_WEEK, users, route=route), level_track(_WEEK, test, route=route, test="t")


def _said(suite: ZoneSuite, story: str) -> str:
    route = f"/{story}"
    changes = [c.kind for c in suite.changes if c.subject[3] == route]
    alarms = [a.kind for a in suite.alarms if a.move.subject[3] == route]
    if changes:
        return changes[0] if len(changes) == 1 else "several"
    return f"{alarms[0]}_alarm" if alarms else "nothing"


def _collect_leads(
    suite: ZoneSuite, story: str, truth: float, leads: list[bool], misses: list[float]
) -> None:
    for change in suite.changes:
        for sight in change.sights:
            found = sight.lead
            if change.subject[3] == f"/{story}" and found is not None:
                if found.low is not None and found.high is not None:
                    leads.append(found.low <= truth <= found.high)
                misses.append(abs(found.value - truth))


def _shares(counts: Counter[str], suites: int) -> dict[str, dict[str, float | None] | None]:
    return {name: _share(count, suites) for name, count in counts.most_common()}


def _share(hits: int, n: int) -> dict[str, float | None] | None:
    found = wilson(hits, n)
    return None if found is None else found.document(digits=3)

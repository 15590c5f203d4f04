"""The campaign of simulated suites, in small: what is planted comes out, and what is not does not."""

from __future__ import annotations

from typing import Any

from mobius_infra.benchmarks.suite import STORIES, run


def test_what_is_planted_comes_out() -> None:
    found: dict[str, Any] = run(suites=12, phis=(0.3,))["phi_0.3"]
    said: dict[str, dict[str, dict[str, float]]] = found["said"]
    assert said.keys() == STORIES.keys()

    def share(story: str, *names: str) -> float:
        return sum(said[story].get(name, {"value": 0.0})["value"] for name in names)

    assert share("quiet", "nothing") >= 0.9
    assert share("unseen_by_tests", "blind_spot") >= 0.9
    assert share("at_once", "confirmed") >= 0.9
    assert share("tests_first", "early_warning") >= 0.6
    assert share("tests_later", "late") >= 0.6
    assert share("test_alone", "false_alarm") >= 0.9
    # Two moves that have nothing to do with each other are seldom sold as a pair.
    assert share("unrelated", "early_warning", "confirmed", "late") <= 0.3
    assert found["lead_interval_coverage"]["value"] >= 0.9

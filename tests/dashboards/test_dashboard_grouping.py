from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from mobius_analysis.findings import Finding, Kind, Severity
from mobius_dashboards.evidence import movement_sentence
from mobius_dashboards.grouping import group_findings

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def finding(kind: Kind, region: str, severity: Severity, route: str = "/search") -> Finding:
    evidence: dict[str, Any] = {"release": {"version": "1.5.0"}, "direction": "slower"}
    if kind == "foreign_region":
        evidence = {"spans": 3}
    return Finding(kind, region, "shop", "GET", route, severity, NOON, f"{kind} {region}", evidence)


def test_one_thing_in_several_regions_is_one_card() -> None:
    groups = group_findings(
        [
            finding("blind_spot", "eu-west-1", "critical"),
            finding("blind_spot", "eu-central-1", "critical"),
        ]
    )
    assert [[f.region for f in group.findings] for group in groups] == [
        ["eu-central-1", "eu-west-1"]
    ]
    assert (
        groups[0].title == "Blind spot: GET /search got slower with 1.5.0, the tests did not notice"
    )


def test_what_hurts_unseen_and_everywhere_stands_first() -> None:
    groups = group_findings(
        [
            finding("confirmed", "eu-west-1", "warning"),
            finding("blind_spot", "eu-west-1", "critical", "/rare"),
            finding("blind_spot", "eu-west-1", "critical"),
            finding("blind_spot", "us-east-1", "critical"),
            finding("false_alarm", "eu-west-1", "info"),
        ]
    )
    assert [(g.kind, g.route) for g in groups] == [
        ("blind_spot", "/search"),
        ("blind_spot", "/rare"),
        ("confirmed", "/search"),
        ("false_alarm", "/search"),
    ]


def test_foreign_regions_are_not_one_thing() -> None:
    groups = group_findings(
        [finding("foreign_region", region, "critical") for region in ("cn-1", "")]
    )
    assert [group.title for group in groups] == [
        "Foreign region: foreign_region cn-1",
        "Foreign region: foreign_region ",
    ]


def test_a_movement_is_told_in_one_line() -> None:
    def side(before: float, after: float) -> dict[str, Any]:
        return {
            "before": {"p50_ms": {"value": before, "low": 1, "high": 2}},
            "after": {"p50_ms": {"value": after, "low": 1, "high": 2}},
            "ratio": {"p50": {"value": after / before, "low": 0.9, "high": 2.1}},
        }

    evidence = {
        "release": {"version": "1.5.0"},
        "quantiles": ["p50"],
        "production": side(60, 90),
        "tests": {"before": {"p50_ms": None}, "after": {"p50_ms": None}, "ratio": {}},
    }
    assert movement_sentence(evidence) == (
        "users p50 60.0 ms → 90.0 ms, × 1.50 (0.90 to 2.10); tests: too few requests"
    )
    assert movement_sentence({"spans": 3}) == ""

"""Findings: evidence, identity, and what is brought up to date."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mobius_analysis.findings import Finding, reconcile

T0 = datetime(2026, 3, 1, tzinfo=UTC)
FINDING = Finding(
    kind="optimistic_test",
    region="eu-west-1",
    service="storefront",
    method="GET",
    route="/search",
    severity="warning",
    since=T0,
    title="Users get it slower than the test says",
    evidence={"ratio": {"value": 1.5, "low": 1.4, "high": 1.6}},
)
KEY = (FINDING.kind, FINDING.subject)


def test_there_is_no_finding_without_evidence() -> None:
    with pytest.raises(ValueError, match="evidence"):
        replace(FINDING, evidence={})


def test_the_id_is_of_kind_subject_and_since() -> None:
    assert replace(FINDING, title="other words", severity="info").id == FINDING.id
    others = [
        replace(FINDING, kind="pessimistic_test"),
        replace(FINDING, region="eu-central-1"),
        replace(FINDING, route="/"),
        replace(FINDING, anchor="1.5.0"),
        replace(FINDING, since=T0 + timedelta(minutes=1)),
    ]
    assert len({FINDING.id, *(finding.id for finding in others)}) == 6


def test_a_repeat_updates_the_one_that_is_open() -> None:
    later = replace(FINDING, since=T0 + timedelta(hours=1), title="newer numbers")
    (saved,) = reconcile([FINDING], [later], [KEY])
    assert (saved.id, saved.since, saved.title) == (FINDING.id, T0, "newer numbers")


def test_a_finding_closes_when_it_is_settled_otherwise_and_only_then() -> None:
    (closed,) = reconcile([FINDING], [], [KEY])
    assert (closed.id, closed.status) == (FINDING.id, "closed")
    assert reconcile([FINDING], [], []) == []
    assert reconcile([FINDING], [], [("pessimistic_test", FINDING.subject)]) == []


def test_two_open_ones_about_the_same_become_the_older() -> None:
    younger = replace(FINDING, since=T0 + timedelta(minutes=5))
    saved = reconcile([younger, FINDING], [replace(FINDING, since=T0 + timedelta(hours=2))], [KEY])
    assert {(finding.id, finding.status) for finding in saved} == {
        (younger.id, "closed"),
        (FINDING.id, "open"),
    }


def test_a_release_tells_its_findings_apart_however_late_its_data_come() -> None:
    early = replace(FINDING, kind="blind_spot", anchor="1.5.0")
    moved = replace(early, since=T0 - timedelta(minutes=20))
    (saved,) = reconcile([early], [moved], [])
    assert (saved.id, saved.since) == (early.id, moved.since)
    assert replace(early, anchor="1.6.0").id != early.id

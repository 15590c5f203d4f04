"""Findings: what the jobs found, each with the evidence for it, kept in the zone's table ``findings``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from mobius_analysis.rollup import query
from mobius_pipeline.options import format_time

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["KINDS", "Finding", "Kind", "Severity", "load_open", "reconcile", "save_findings"]

Kind = Literal[
    "blind_spot",  # production moved, with a release or without; the tests could have seen it and did not
    "false_alarm",  # the tests moved; production did not
    "confirmed",  # both moved alike; without a release: at one time or the tests later, beyond chance
    "early_warning",  # the tests moved before users had it, and then production moved
    "unseen_change",  # production moved; the tests could not have seen it
    "unclear_change",  # production moved without a release, a test near it, yet no nearer than by chance
    "optimistic_test",  # users get it slower than the test says
    "pessimistic_test",  # users get it faster than the test says
    "untested_endpoint",  # users use it, no test does
    "quarantine_rate",  # too large a share of the spans that arrived was quarantined
    "foreign_region",  # spans of a region that is not in this zone arrived, and were quarantined
]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
Severity = Literal["info", "warning", "critical"]
Status = Literal["open", "closed"]
Subject = tuple[str, str, str, str, str]

_COLUMNS: Final = (
    "id", "kind", "region", "service", "method", "route",
    "severity", "since", "title", "evidence", "status", "updated_at",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found about a subject since a moment.

    Attributes
    ----------
    evidence
        Numbers with intervals, and what they were compared with; never empty.
    anchor
        What tells apart two findings of one kind and subject that may be open together: a release.

    Raises
    ------
    ValueError
        There is no evidence: then there is no finding.
    """

    kind: Kind
    region: str
    service: str
    method: str
    route: str
    severity: Severity
    since: datetime
    title: str
    evidence: Mapping[str, Any]
    anchor: str = ""
    status: Status = "open"

    def __post_init__(self) -> None:
        """Refuse a finding without evidence."""
        if not self.evidence:
            raise ValueError(
                f"a finding needs evidence: {self.kind} of {self.service} {self.route}"
            )

    @property
    def cell(self) -> tuple[str, str, str, str]:
        """Region, service, method and route, as :attr:`mobius_analysis.correlate.Cell.subject` has them."""
        return self.region, self.service, self.method, self.route

    @property
    def subject(self) -> Subject:
        """Region, service, method, route and anchor."""
        return *self.cell, self.anchor

    @property
    def id(self) -> str:
        """Hash of kind and subject, and of since where no anchor tells: a repeat updates instead of adding."""
        text = json.dumps(
            [self.kind, *self.subject, "" if self.anchor else format_time(self.since)]
        )
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def load_open(client: Client) -> list[Finding]:
    """Load the open findings of the client's zone.

    Raises
    ------
    DependencyError
        The store does not answer.
    TerminalError
        The store refused the query.
    """
    rows = query(
        client,
        "SELECT toString(kind) AS kind, toString(region) AS region, toString(service) AS service,"
        " toString(method) AS method, toString(route) AS route, toString(severity) AS severity,"
        " toUnixTimestamp64Milli(since) AS since, title, evidence"
        " FROM findings FINAL WHERE status = 'open' ORDER BY since, id",
    )
    found = []
    for row in rows.iter_rows(named=True):
        evidence = json.loads(row.pop("evidence"))
        since = datetime.fromtimestamp(row.pop("since") / 1000, UTC)
        found.append(
            Finding(**row, since=since, evidence=evidence, anchor=evidence.get("anchor", ""))
        )
    return found


def reconcile(
    known: Sequence[Finding], found: Iterable[Finding], settled: Iterable[tuple[Kind, Subject]]
) -> list[Finding]:
    """Bring the open findings up to date; returns what has to be saved.

    1. A finding that is open already keeps its ``since``, hence its id; one with an anchor has its id
       from that, and its ``since`` follows the data, which may come late.
    2. A known finding that a job has settled otherwise is closed. One that the job did not look at, or
       could not decide, stays open: silence is no evidence.
    3. Two open ones about the same (two jobs ran at once): the older stays.
    """
    current = {(finding.kind, finding.subject): finding for finding in found}
    closing = set(settled) - set(current)
    first: dict[tuple[Kind, Subject], Finding] = {}
    saved: list[Finding] = []
    for finding in sorted(known, key=lambda f: f.since):
        key = finding.kind, finding.subject
        if key in first or key in closing:  # 2, 3
            saved.append(replace(finding, status="closed"))
        first.setdefault(key, finding)
    for key, finding in current.items():  # 1
        kept = key in first and not finding.anchor
        saved.append(replace(finding, since=first[key].since) if kept else finding)
    return saved


def save_findings(client: Client, findings: Sequence[Finding], now: datetime) -> int:
    """Save findings as of ``now``, and return how many of them are open."""
    if findings:
        client.insert(
            "findings", [_row(finding, now) for finding in findings], column_names=_COLUMNS
        )
    return sum(finding.status == "open" for finding in findings)


def _row(finding: Finding, now: datetime) -> list[Any]:
    evidence = (
        {**finding.evidence, "anchor": finding.anchor} if finding.anchor else finding.evidence
    )
    return [
        finding.id,
        finding.kind,
        finding.region,
        finding.service,
        finding.method,
        finding.route,
        finding.severity,
        finding.since,
        finding.title,
        json.dumps(evidence, allow_nan=False),
        finding.status,
        now,
    ]

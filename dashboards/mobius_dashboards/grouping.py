"""Findings about the same thing in several regions, as one. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from mobius_analysis.findings import Finding

__all__ = ["KIND_WORDS", "Group", "group_findings"]

# Kind, as a title and as what it means.
KIND_WORDS: Final = {
    "blind_spot": ("Blind spot", "the tests did not notice"),
    "unseen_change": ("Unseen change", "no test could have noticed"),
    "unclear_change": ("Unclear change", "a test moved near it, no nearer than by chance"),
    "confirmed": ("Confirmed", "the tests saw it too"),
    "early_warning": ("Early warning", "the tests saw it first"),
    "false_alarm": ("False alarm", "only the tests say so"),
    "quarantine_rate": ("Quarantine", "came where it does not belong"),
    "foreign_region": ("Foreign region", "quarantined in the zone where it arrived"),
}
_SEVERITY: Final = ("critical", "warning", "info")
_KINDS: Final = tuple(KIND_WORDS)


@dataclass(frozen=True, slots=True)
class Group:
    """Findings of one kind about one endpoint and release; ``findings`` has one a region."""

    kind: str
    severity: str
    service: str
    method: str
    route: str
    release: str
    direction: str
    since: datetime
    findings: tuple[Finding, ...]

    @property
    def title(self) -> str:
        """What happened, in one line."""
        name, meaning = KIND_WORDS.get(self.kind, (self.kind.replace("_", " ").capitalize(), ""))
        if self.kind == "foreign_region" or not self.release:
            return f"{name}: {self.findings[0].title}"
        what = f"{self.method} {self.route}".strip()
        return f"{name}: {what} got {self.direction} with {self.release}, {meaning}"


def group_findings(findings: Iterable[Finding]) -> list[Group]:
    """Put findings that differ only by region together; what hurts users unseen stands first, then the newest."""
    members: dict[tuple[Any, ...], list[Finding]] = {}
    for finding in findings:
        release = (finding.evidence.get("release") or {}).get("version") or ""
        direction = finding.evidence.get("direction") or "slower"
        key = (
            finding.kind, finding.service, finding.method, finding.route, release, direction,
            "" if release else finding.region,
        )  # fmt: skip
        members.setdefault(key, []).append(finding)
    groups = [
        Group(
            kind=key[0],
            severity=min((f.severity for f in found), key=_SEVERITY.index),
            service=key[1],
            method=key[2],
            route=key[3],
            release=key[4],
            direction=key[5],
            since=min(f.since for f in found),
            findings=tuple(sorted(found, key=lambda f: f.region)),
        )
        for key, found in members.items()
    ]
    return sorted(groups, key=_order)


def _order(group: Group) -> tuple[int, int, int, float]:
    kind = _KINDS.index(group.kind) if group.kind in _KINDS else len(_KINDS)
    # One that many regions share is no accident of one of them.
    return _SEVERITY.index(group.severity), -len(group.findings), kind, -group.since.timestamp()

"""Reads of single requests, written down in the zone itself before anything of them is shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import uuid4

from mobius_pipeline.errors import UsageError
from mobius_pipeline.store import Purpose, connect, store_errors

if TYPE_CHECKING:
    from mobius_instrumentation.zones import Zone

__all__ = [
    "LONGEST_REASON",
    "Action",
    "ReasonError",
    "RecordedRead",
    "RowRead",
    "load_reads",
    "record_read",
]

Action = Literal["trace", "examples", "dead_letter", "quarantine_release"]

LONGEST_REASON: Final = 500
_MOST: Final = 10_000
_READS: Final = """
SELECT at, viewer, subject, toString(action), rows, reason FROM audit_log
WHERE at >= {since:DateTime64(3, 'UTC')} AND at < {until:DateTime64(3, 'UTC')}
  AND ({viewer:String} = '' OR viewer = {viewer:String} OR subject = {viewer:String})
ORDER BY at DESC, id
LIMIT {most:UInt32}
"""


class ReasonError(UsageError):
    """The zone asks why single requests are read, and nobody has said so, or not in a sentence."""


@dataclass(frozen=True, slots=True)
class RowRead:
    """A read to come.

    Attributes
    ----------
    viewer, subject
        Name of who reads, and for who has logged in the provider's own name of them.
    rows
        What is asked for: a trace's id, or the filter of a search.
    """

    viewer: str
    subject: str
    action: Action
    rows: Mapping[str, str]
    reason: str


@dataclass(frozen=True, slots=True)
class RecordedRead:
    """A read as it was written down; ``reason`` is None where none was asked for."""

    at: datetime
    zone: str
    viewer: str
    subject: str | None
    action: str
    rows: Mapping[str, Any]
    reason: str | None


def record_read(zone: Zone, read: RowRead, *, reason_needed: bool) -> None:
    """Write down a read; only once this has returned may rows be read.

    Raises
    ------
    ReasonError
        A reason is needed and not given, or it is too long or has control characters.
    DependencyError
        The store does not answer, or its tables are older than this: nothing may be shown.
    TerminalError
        The store refuses: nothing may be shown.
    """
    reason = read.reason.strip()
    if reason_needed and not reason:
        raise ReasonError(
            f"zone {zone.name} asks why, before single requests are read: give a reason (--reason)",
            field="reason",
        )
    if len(reason) > LONGEST_REASON or not reason.isprintable():
        raise ReasonError(
            f"must be one line of at most {LONGEST_REASON} characters", field="reason"
        )
    row = [uuid4(), read.viewer, read.subject, read.action, json.dumps(read.rows), reason]
    names = ["id", "viewer", "subject", "action", "rows", "reason"]
    client = connect(zone, Purpose.AUDIT)
    try:
        with store_errors(zone):
            client.insert("audit_log", [row], column_names=names)
    finally:
        client.close()


def load_reads(
    zone: Zone, since: datetime, until: datetime, viewer: str = ""
) -> tuple[RecordedRead, ...]:
    """Return the reads of a zone's single requests in a stretch of time, the newest first, at most 10,000.

    Raises
    ------
    DependencyError
        The store does not answer, or its tables are older than this.
    """
    client = connect(zone, Purpose.ANALYSIS)
    edges = {"since": since, "until": until, "viewer": viewer, "most": _MOST}
    try:
        with store_errors(zone):
            found = client.query(_READS, parameters=edges).result_rows
    finally:
        client.close()
    return tuple(
        RecordedRead(
            at=at.replace(tzinfo=UTC),
            zone=zone.name,
            viewer=name,
            subject=subject or None,
            action=action,
            rows=json.loads(rows),
            reason=reason or None,
        )
        for at, name, subject, action, rows, reason in found
    )

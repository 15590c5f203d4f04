"""JMeter's result files (JTL), as CSV and as XML: what both have in common.

``timeStamp`` is the start of a sample in ms, ``elapsed`` the whole of it. A sample is a request when it has a URL and
no request inside it: transactions have none, and of a redirect the hops are what was exchanged. No method is in
the file, only the plan's label.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from mobius_pipeline.imports.formats.model import Facts, Request, checked, milliseconds

__all__ = ["EVIDENCE", "Sample", "epoch_us", "note_load", "to_request"]

EVIDENCE: Final = (
    "JMeter's threads wait for each answer before they send the next request (unless the plan has an open-model "
    "thread group, which the file does not say)"
)
_NO_ANSWER: Final = "Non HTTP response code:"
_STATUS: Final = re.compile(r"[1-9]\d\d")
_EPOCH_MS: Final = re.compile(r"\d{12,14}", re.ASCII)


@dataclass(slots=True)
class Sample:
    """One sample as the file has it, in text."""

    started: str
    elapsed: str
    label: str
    code: str
    success: str
    failure: str
    trace_id: str = ""
    method: str = ""
    started_us: int | None = None
    """Start in microseconds since 1970, where ``started`` is no epoch ms."""

    @property
    def failed(self) -> bool:
        """Whether JMeter says that it failed."""
        return self.success != "true"


def epoch_us(text: str) -> int:
    """Read a time stamp in ms since 1970 as microseconds.

    Raises
    ------
    ValueError
        It is none.
    """
    if not _EPOCH_MS.fullmatch(text):
        raise ValueError(
            f"the time stamp {text[:40]!r} is neither epoch ms nor a date and time such as 2026/11/23 17:00:00.250 "
            "(jmeter.save.saveservice.timestamp_format)"
        )
    return int(text) * 1000


def to_request(sample: Sample) -> Request:
    """Make the request of a sample.

    Raises
    ------
    ValueError
        A figure of it is wrong; says which.
    """
    start_us = sample.started_us
    if start_us is None:
        start_us = epoch_us(sample.started)
    if sample.success not in {"true", "false"}:
        raise ValueError(f"success is {sample.success[:40]!r}, neither true nor false")
    elapsed = milliseconds(sample.elapsed, "elapsed")
    status = int(sample.code) if _STATUS.fullmatch(sample.code) else 0
    error = sample.failure
    if sample.code.startswith(_NO_ANSWER):
        error = sample.code.removeprefix(_NO_ANSWER).strip()
    elif sample.failed and not status:
        error = error or sample.code
    # A code of its own, of a sampler that is not HTTP's, is an answer when the sampler says success.
    answered = bool(status) or not (sample.failed or sample.code.startswith(_NO_ANSWER))
    return checked(
        Request(
            start_us=start_us,
            end_us=start_us + round(elapsed * 1000),
            duration_ms=elapsed if answered else None,
            method=sample.method,
            name=sample.label,
            status=status,
            failed=sample.failed,
            error=error,
            trace_id=sample.trace_id,
        )
    )


def note_load(facts: Facts, threads: int) -> None:
    """Write down how JMeter sent its requests, from at most ``threads`` threads at once."""
    facts.load, facts.load_evidence, facts.load_may_differ = "closed", EVIDENCE, True
    facts.connections = threads or None

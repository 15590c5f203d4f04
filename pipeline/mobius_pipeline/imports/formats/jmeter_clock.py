"""Time stamps of JMeter's CSV: epoch ms, or a date and time of day of the machine's own zone, which the file does not name."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from mobius_pipeline.errors import UsageError
from mobius_pipeline.imports.content import Content
from mobius_pipeline.imports.formats.given import Given
from mobius_pipeline.imports.formats.jmeter import epoch_us

__all__ = ["Clock"]

_DATE: Final = re.compile(
    r"(\d{4})[/-](\d\d)[/-](\d\d)[ T](\d\d:\d\d:\d\d)(?:[.,](\d{1,6}))?(Z|[+-]\d\d(?::?\d\d)?)?",
    re.ASCII,
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_QUARTER_US: Final = 15 * 60 * 1_000_000
_FARTHEST_US: Final = 15 * 3_600 * 1_000_000
_NEAR_US: Final = 5 * 60 * 1_000_000


class Clock:
    """Reads time stamps; those without a zone by when the run began, which the caller says."""

    def __init__(self, content: Content, given: Given) -> None:
        self._content = content
        self._given = given
        self._shift_us: int | None = None

    def read(self, text: str) -> int:
        """Return microseconds since 1970.

        Raises
        ------
        ValueError
            It is no time stamp.
        UsageError
            It names no zone, and the caller did not say when the run began, or another time.
        """
        match = _DATE.fullmatch(text)
        if match is None:
            return epoch_us(text)
        year, month, day, time, fraction, zone = match.groups()
        moment = datetime.fromisoformat(f"{year}-{month}-{day}T{time}{zone or '+00:00'}")
        moment += timedelta(microseconds=int((fraction or "0").ljust(6, "0")))
        microseconds = (moment - _EPOCH) // timedelta(microseconds=1)
        return microseconds if zone else microseconds + self._shift(microseconds, text)

    def _shift(self, first_us: int, text: str) -> int:
        """Return what to add to a time without a zone: zones differ from UTC by quarters of an hour."""
        if self._shift_us is None:
            distance = self._given.start(self._content, f"the time stamp {text[:40]!r}") - first_us
            self._shift_us = round(distance / _QUARTER_US) * _QUARTER_US
            if abs(distance - self._shift_us) > _NEAR_US or abs(self._shift_us) > _FARTHEST_US:
                wrong = self._content.wrong(
                    f"begins at {text[:40]} of a zone that it does not name, and what was said is no such time in any zone"
                )
                raise UsageError(wrong.problem, file=wrong.file, line=wrong.line, field="--started")
        return self._shift_us

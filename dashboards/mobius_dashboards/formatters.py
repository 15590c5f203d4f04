"""Numbers, times and intervals as people read them. Pure; what is not known is written as a dash."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

__all__ = [
    "NOTHING",
    "age",
    "count",
    "duration_ms",
    "instant",
    "interval_ms",
    "percent",
    "percent_interval",
    "ratio",
    "ratio_interval",
    "window",
]

NOTHING: Final = "–"  # an en dash


def _digits(value: float, significant: int) -> str:
    """Write ``value`` with so many significant digits, never in exponents, thousands set apart."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.{significant}g}")
    decimals = max(0, significant - 1 - math.floor(math.log10(abs(rounded))))
    return f"{rounded:,.{decimals}f}"


def _known(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return None
    return float(value)


def count(value: float | None) -> str:
    """Whole number with thousands set apart; from ten million on in millions."""
    known = _known(value)
    if known is None:
        return NOTHING
    if abs(known) >= 10_000_000:
        return f"{known / 1e6:,.1f} M"
    return f"{round(known):,}"


def duration_ms(value: float | None) -> str:
    """Duration in milliseconds with three digits and the unit that fits it."""
    known = _known(value)
    if known is None:
        return NOTHING
    if abs(known) < 0.001 and known != 0:
        return f"{_digits(known * 1e6, 2)} ns"
    if abs(known) < 0.9995 and known != 0:
        return f"{_digits(known * 1e3, 3)} µs"
    if abs(known) < 999.5:
        return f"{_digits(known, 3)} ms"
    if abs(known) < 59_995:
        return f"{_digits(known / 1e3, 3)} s"
    return f"{_digits(known / 60e3, 3)} min"


def interval_ms(interval: Mapping[str, Any] | None) -> str:
    """Latency with its interval, one unit for all three: ``184 ms (170 to 201)``."""
    if not interval or (value := _known(interval.get("value"))) is None:
        return NOTHING
    low, high = _known(interval.get("low")), _known(interval.get("high"))
    if low is None or high is None:
        return duration_ms(value)
    unit, scale = ("s", 1e3) if value >= 999.5 else ("ms", 1.0)
    return f"{_digits(value / scale, 3)} {unit} ({_digits(low / scale, 3)} to {_digits(high / scale, 3)})"


def _factor(value: float) -> str:
    """Write a ratio with two decimals, from ten on with three digits."""
    return f"{value:.2f}" if abs(value) < 9.995 else _digits(value, 3)


def ratio(value: float | None) -> str:
    """Ratio of two latencies, as a factor: ``1.42 ×``."""
    known = _known(value)
    return NOTHING if known is None else f"{_factor(known)} ×"


def ratio_interval(interval: Mapping[str, Any] | None) -> str:
    """Ratio with its interval: ``1.42 (1.31 to 1.55)``."""
    if not interval or (value := _known(interval.get("value"))) is None:
        return NOTHING
    low, high = _known(interval.get("low")), _known(interval.get("high"))
    if low is None or high is None:
        return _factor(value)
    return f"{_factor(value)} ({_factor(low)} to {_factor(high)})"


def percent(share: float | None) -> str:
    """Share of 0 to 1 as per cent; never rounded up to 100 nor down to 0."""
    known = _known(share)
    if known is None:
        return NOTHING
    if 0 < known < 0.001:
        return "< 0.1 %"
    if 0.999 < known < 1:
        return "> 99.9 %"
    text = f"{known * 100:.1f}"
    return f"{text.removesuffix('.0')} %"


def percent_interval(interval: Mapping[str, Any] | None) -> str:
    """Share with its interval, in whole per cent: ``62 % (41 to 83)``."""
    if not interval or (value := _known(interval.get("value"))) is None:
        return NOTHING
    low, high = _known(interval.get("low")), _known(interval.get("high"))
    if low is None or high is None:
        return f"{value * 100:.0f} %"
    return f"{value * 100:.0f} % ({low * 100:.0f} to {high * 100:.0f})"


def age(seconds: float | None) -> str:
    """Time gone by, in the one unit that fits: ``42 s``, ``7 min``, ``3 h``, ``2 d``."""
    known = _known(seconds)
    if known is None:
        return NOTHING
    known = max(0.0, known)
    for limit, size, unit in ((90, 1, "s"), (5_400, 60, "min"), (129_600, 3_600, "h")):
        if known < limit:
            return f"{round(known / size)} {unit}"
    return f"{round(known / 86_400)} d"


def instant(at: datetime | None) -> str:
    """Moment in UTC, to the second."""
    if at is None:
        return NOTHING
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def window(since: datetime, until: datetime) -> str:
    """Window of time in words: its length, and where it ends."""
    length = until - since
    if length % timedelta(days=1) == timedelta(0) and length > timedelta(days=1):
        span = f"{length // timedelta(days=1)} d"
    elif length % timedelta(hours=1) == timedelta(0):
        span = f"{length // timedelta(hours=1)} h"
    elif length < timedelta(hours=3):
        span = f"{round(length / timedelta(minutes=1))} min"
    else:
        span = f"{length / timedelta(hours=1):.1f} h"
    return f"{span} to {until.astimezone(UTC):%Y-%m-%d %H:%M} UTC"

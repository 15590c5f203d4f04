"""Lengths of time as options give them."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

from mobius_pipeline.errors import UsageError

__all__ = ["parse_length"]

_LENGTH: Final = re.compile(r"(\d{1,6})\s*([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_length(text: str, field: str) -> timedelta:
    """Read a length of time such as 60s, 15m, 1h or 7d.

    Raises
    ------
    UsageError
        ``text`` is none, or zero.
    """
    found = _LENGTH.fullmatch(text.strip().lower())
    if found is None or int(found[1]) == 0:
        raise UsageError(
            f"{text!r} is no length of time: give one such as 60s, 15m, 1h, 7d", field=field
        )
    return timedelta(seconds=int(found[1]) * _SECONDS[found[2]])

"""vegeta's own form, which `vegeta attack` writes: a gob stream of results. See :mod:`.vegeta` for what they mean."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

from mobius_pipeline.imports.content import Content
from mobius_pipeline.imports.formats.gob import GobError, Stream
from mobius_pipeline.imports.formats.model import Facts, Format, Request
from mobius_pipeline.imports.formats.vegeta import note_run, to_request, trace_of

__all__ = ["VEGETA_GOB", "is_vegeta_gob"]

_NAMES: Final = (b"Result", b"Attack", b"Seq", b"Code", b"Timestamp", b"Latency")
# time.Time in its binary form: version, seconds since the year 1, nanoseconds, offset from UTC in minutes.
_TIME: Final = struct.Struct(">Bqih")
_YEAR_1: Final = -62_135_596_800


def is_vegeta_gob(head: bytes) -> bool:
    """Tell whether a file begins with the definition of vegeta's result."""
    return head[:1] >= b"\x80" and all(name in head[:300] for name in _NAMES)


def _read(content: Content, facts: Facts) -> Iterator[Request]:
    number = 0
    try:
        for record in Stream(content.read).values():
            number += 1
            note_run(facts, record.get("Attack"))
            yield _request(record)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        broken = number if not isinstance(error, GobError) else number + 1
        wrong = content.wrong("")
        raise type(wrong)(
            f"is no result of vegeta ({error})", file=wrong.file, field=f"record {broken}"
        ) from error


def _request(record: dict[str, Any]) -> Request:
    # A field of value zero is left out, so a record without a code got no answer.
    return to_request(
        _nanoseconds(record.get("Timestamp", b"")),
        int(record.get("Code", 0)),
        int(record.get("Latency", 0)),
        error=str(record.get("Error", "")),
        method=str(record.get("Method", "")),
        url=str(record.get("URL", "")),
        trace=trace_of(record.get("Headers", {})),
    )


def _nanoseconds(data: bytes) -> int:
    if len(data) < _TIME.size:
        raise ValueError("the time stamp is none")
    version, seconds, nanoseconds, _ = _TIME.unpack_from(data)
    if version not in {1, 2}:
        raise ValueError(f"a time stamp of version {version}")
    return (int(seconds) + _YEAR_1) * 10**9 + int(nanoseconds)


VEGETA_GOB: Final = Format("vegeta-gob", "vegeta", _read)

"""Lets the Kafka client read records whose headers have names that are no UTF-8.

Brokers take any bytes as the name of a header. kafka-python decodes it strictly and gives up the whole batch as
corrupt, at every attempt, so that one such record would hold its partition for ever.
"""

from __future__ import annotations

from typing import Any

from kafka.record.default_records import DefaultRecordBatch

__all__ = ["read_headers_leniently"]

_read_strictly: Any = DefaultRecordBatch._read_msg  # noqa: SLF001 -- the client has no public place for this


class _Name(bytearray):
    """Decodes with replacement characters."""

    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:  # noqa: ARG002 -- never strictly
        return super().decode(encoding, "replace")


class _LenientBuffer(bytearray):
    """Slices are names."""

    def __getitem__(self, place: Any) -> Any:
        part = super().__getitem__(place)
        return _Name(part) if isinstance(place, slice) else part


def _read_leniently(batch: Any) -> Any:
    try:
        return _read_strictly(batch)
    except UnicodeDecodeError:
        # Slower, so only for what is left of this batch. Reading moves on only when a record was read whole.
        batch._buffer = _LenientBuffer(batch._buffer)  # noqa: SLF001 -- as above
        return _read_strictly(batch)


def read_headers_leniently() -> None:
    """Set this process's Kafka client so; again does nothing more."""
    DefaultRecordBatch._read_msg = _read_leniently  # noqa: SLF001 -- as above

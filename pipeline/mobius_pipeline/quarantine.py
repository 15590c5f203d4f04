"""Data that arrived in this zone but belong to another, or to none: kept inside, never forwarded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["Foreign", "Reason", "store_foreign"]

Reason = Literal[
    "region is not of this zone",
    "region is missing",
    "region is contradictory",
]

_COLUMNS: Final = [
    "reason",
    "region",
    "service",
    "spans",
    "topic",
    "partition",
    "offset",
    "payload",
]


@dataclass(frozen=True, slots=True)
class Foreign:
    """One resource's spans of one message, as an ``ExportTraceServiceRequest`` of their own."""

    reason: Reason
    region: str
    service: str
    spans: int
    payload: bytes


def store_foreign(
    client: Client, topic: str, partition: int, found: Iterable[tuple[int, Foreign]], token: str
) -> None:
    """Write (offset, foreign data) pairs; the same ``token`` again changes nothing."""
    rows = [
        [item.reason, item.region, item.service, item.spans, topic, partition, offset, item.payload]
        for offset, item in found
    ]
    if rows:
        client.insert(
            "quarantine",
            rows,
            _COLUMNS,
            settings={"insert_deduplication_token": f"{token}/foreign"},
        )

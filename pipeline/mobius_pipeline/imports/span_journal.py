"""What a zone's store knows of imports of spans: which content was begun, published, and stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from clickhouse_connect.driver.client import Client
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from mobius_pipeline.imports.span_packing import PackedFile

__all__ = ["Entry", "last_entry", "stored_messages", "was_in_another_topic", "write_entry"]


@dataclass(frozen=True, slots=True)
class Entry:
    """The newest row of ``span_imports`` about one content.

    ``positions``: where each partition ended before publishing began (``published`` false), or the offset
    behind the last message of this import in each partition (``published`` true).
    """

    file: str
    published: bool
    messages: int
    region: str
    topic_id: UUID
    positions: Mapping[int, int]


def last_entry(client: Client, digest: str) -> Entry | None:
    """Read what is known of ``digest``; None when it was never imported here."""
    rows = client.query(
        "SELECT file, state = 'published', messages, region, topic_id, positions FROM span_imports "
        "WHERE digest = {digest:String} ORDER BY state DESC, at DESC LIMIT 1",
        parameters={"digest": digest},
    ).result_rows
    return None if not rows else Entry(*rows[0])


def was_in_another_topic(client: Client, digest: str, topic_id: UUID) -> bool:
    """Tell whether publishing of ``digest`` was also begun into a topic that is no more."""
    rows = client.query(
        "SELECT count() FROM span_imports WHERE digest = {digest:String} AND topic_id != {topic_id:UUID}",
        parameters={"digest": digest, "topic_id": topic_id},
    ).result_rows
    return int(rows[0][0]) > 0


def write_entry(client: Client, packed: PackedFile, entry: Entry) -> None:
    """Add a row about the content of ``packed``."""
    state = "published" if entry.published else "started"
    client.insert(
        "span_imports",
        [[packed.digest, packed.name, state, packed.spans, packed.messages, entry.region,
          entry.topic_id, dict(entry.positions)]],
        ["digest", "file", "state", "spans", "messages", "region", "topic_id", "positions"],
    )  # fmt: skip


def stored_messages(client: Client, packed: PackedFile) -> set[int]:
    """Find the messages all of whose spans the store holds, by the spans' ids.

    For a topic that was made anew since publishing began: its old messages cannot be read any more.
    """
    stored = set()
    for sequence, _, message in packed.read():
        ids = _ids(message)
        found = client.query(
            "SELECT uniqExact(trace_id, span_id) FROM spans WHERE hex(trace_id) IN {traces:Array(String)} "
            "AND (hex(trace_id), hex(span_id)) IN arrayZip({all_traces:Array(String)}, {spans:Array(String)})",
            parameters={
                "traces": sorted({trace for trace, _ in ids}),
                "all_traces": [trace for trace, _ in ids],
                "spans": [span for _, span in ids],
            },
        ).result_rows[0][0]
        if int(found) == len(ids):
            stored.add(sequence)
    return stored


def _ids(message: bytes) -> list[tuple[str, str]]:
    request = ExportTraceServiceRequest.FromString(message)
    return sorted(
        {
            (span.trace_id.hex().upper(), span.span_id.hex().upper())
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }
    )

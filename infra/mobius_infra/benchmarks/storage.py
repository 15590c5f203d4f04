"""Bytes on disk a span: our `spans` against the OpenTelemetry Collector's own table.

Peer: `otel_traces` with the columns, codecs, order and indexes that the Collector's ClickHouse exporter
creates (without full-text search), in the same engine, with the same spans, both merged to one part.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.proto.trace.v1.trace_pb2 import Status

from mobius_infra.benchmarks._engine import engine
from mobius_infra.benchmarks._rows import COLUMNS, rows, walk
from mobius_infra.benchmarks._spans import make_messages
from mobius_pipeline.store import Purpose, connect

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["COLLECTOR_TABLE", "run"]

_SPANS: Final = 120_000
_MAP: Final = "Map(LowCardinality(String), String)"
COLLECTOR_TABLE: Final = f"""
CREATE TABLE collector_traces (
    Timestamp DateTime64(9) CODEC(Delta(8), ZSTD(1)),
    TraceId String CODEC(ZSTD(1)),
    SpanId String CODEC(ZSTD(1)),
    ParentSpanId String CODEC(ZSTD(1)),
    TraceState String CODEC(ZSTD(1)),
    SpanName LowCardinality(String) CODEC(ZSTD(1)),
    SpanKind LowCardinality(String) CODEC(ZSTD(1)),
    ServiceName LowCardinality(String) CODEC(ZSTD(1)),
    ResourceAttributes {_MAP} CODEC(ZSTD(1)),
    ScopeName String CODEC(ZSTD(1)),
    ScopeVersion String CODEC(ZSTD(1)),
    SpanAttributes {_MAP} CODEC(ZSTD(1)),
    Duration UInt64 CODEC(T64, ZSTD(1)),
    StatusCode LowCardinality(String) CODEC(ZSTD(1)),
    StatusMessage String CODEC(ZSTD(1)),
    Events Nested (Timestamp DateTime64(9), Name LowCardinality(String), Attributes {_MAP}) CODEC(ZSTD(1)),
    Links Nested (TraceId String, SpanId String, TraceState String, Attributes {_MAP}) CODEC(ZSTD(1)),
    INDEX idx_trace_id TraceId TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX idx_res_attr_key mapKeys(ResourceAttributes) TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_res_attr_value mapValues(ResourceAttributes) TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_span_attr_key mapKeys(SpanAttributes) TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_span_attr_value mapValues(SpanAttributes) TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_duration Duration TYPE minmax GRANULARITY 1,
    INDEX idx_lower_span_name lower(SpanName) TYPE tokenbf_v1(32768, 3, 0) GRANULARITY 8
) ENGINE = MergeTree
PARTITION BY toDate(Timestamp)
PRIMARY KEY (ServiceName, SpanName, toDateTime(Timestamp))
ORDER BY (ServiceName, SpanName, toDateTime(Timestamp), Timestamp)
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1
"""
_OTEL_COLUMNS: Final = (
    "Timestamp", "TraceId", "SpanId", "ParentSpanId", "TraceState", "SpanName", "SpanKind", "ServiceName",
    "ResourceAttributes", "ScopeName", "ScopeVersion", "SpanAttributes", "Duration", "StatusCode", "StatusMessage",
)  # fmt: skip
_KINDS: Final = ("Unspecified", "Internal", "Server", "Client", "Producer", "Consumer")


def run() -> dict[str, Any]:
    """Store the same spans in both tables and read their sizes."""
    messages = make_messages(_SPANS, region="eu-west-1")
    with engine() as store:
        client = connect(store.zone, Purpose.INGEST)
        client.command(COLLECTOR_TABLE)
        client.insert("span_rows", list(rows(messages)), column_names=COLUMNS)
        client.insert(
            "collector_traces", list(_collector_rows(messages)), column_names=_OTEL_COLUMNS
        )
        ours, theirs = _size(client, "spans"), _size(client, "collector_traces")
        rollup = _size(client, "latency_minute")
        client.close()
    spans = ours["rows"]
    return {
        "what": "bytes on disk a span, merged",
        "spans": spans,
        "ours_bytes_per_span": round(ours["bytes"] / spans, 2),
        "rollup_bytes_per_span": round(rollup["bytes"] / spans, 2),
        "peer": "otel_traces of the OpenTelemetry Collector's ClickHouse exporter, same engine, same spans",
        "peer_bytes_per_span": round(theirs["bytes"] / theirs["rows"], 2),
        "peer_without_indexes_bytes_per_span": round(
            (theirs["bytes"] - theirs["indexes"]) / theirs["rows"], 2
        ),
        "ratio_to_peer": round(ours["bytes"] / theirs["bytes"] * theirs["rows"] / spans, 3),
    }


def _collector_rows(messages: list[bytes]) -> Iterator[tuple[Any, ...]]:
    for _, _, resource, scope_name, scope_version, span, attributes in walk(messages):
        yield (
            span.start_time_unix_nano,
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            span.trace_state,
            span.name,
            _KINDS[span.kind],
            resource.get("service.name", ""),
            resource,
            scope_name,
            scope_version,
            attributes,
            span.end_time_unix_nano - span.start_time_unix_nano,
            Status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_").title(),
            span.status.message,
        )


def _size(client: Client, table: str) -> dict[str, int]:
    client.command(f"OPTIMIZE TABLE {table} FINAL")
    [[count, size, indexes]] = client.query(
        "SELECT sum(rows), sum(bytes_on_disk), sum(secondary_indices_compressed_bytes) FROM system.parts "
        "WHERE active AND database = currentDatabase() AND table = {table:String}",
        parameters={"table": table},
    ).result_rows
    return {"rows": int(count), "bytes": int(size), "indexes": int(indexes)}

"""What the tables and columns of a store hold: rows of single requests, aggregates, or the pipeline's own books.

A table that is in none of the lists is granted to nobody; a test holds the lists to the migrations.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "AGGREGATE_TABLES",
    "CROSSING_COLUMNS",
    "CROSSING_TABLES",
    "HUB_TABLES",
    "INTERNAL_TABLES",
    "REGION_TABLES",
    "ROW_TABLES",
    "TIME_COLUMNS",
    "is_personal",
]

ROW_TABLES: Final = (
    "spans",
    "synthetic_results",
    "joined_spans",
    "server_requests",
    "trace_times",
    "otel_traces",
    "otel_traces_trace_id_ts",
    "quarantine",
    "dead_letters",
)
"""One row is one request, span or message: for the level ``spans`` alone."""

AGGREGATE_TABLES: Final = (
    "latency_minute",
    "correlations",
    "findings",
    "predictions",
    "synthetic_runs",
    "hub_exports",
    "removed_attributes",
)
"""One row is many requests, a test's run, an export, or an hour's account: for both levels."""

INTERNAL_TABLES: Final = (
    "span_wire",
    "span_rows",
    "span_corrections",
    "ingest_ledger",
    "ingest_leases",
    "ingest_workers",
    "span_imports",
    "synthetic_imports",
    "synthetic_remaps",
    "join_refusals",
    "schema_migrations",
    "audit_log",
    "latency_subjects",
)
"""The pipeline's own books: for no viewer."""

REGION_TABLES: Final = (
    "spans",
    "synthetic_results",
    "joined_spans",
    "latency_minute",
    "correlations",
    "findings",
    "predictions",
    "synthetic_runs",
)
"""Tables whose rows name their region. The quarantine is not among them: it holds what names a foreign one."""

TIME_COLUMNS: Final = {
    "spans": "start",
    "synthetic_results": "start",
    "joined_spans": "at",
    "quarantine": "at",
    "dead_letters": "at",
    "latency_minute": "minute",
    "correlations": "computed_at",
    "findings": "updated_at",
    "predictions": "predicted_at",
}
"""Tables that a retention may be given for, with the column that their rows age by."""

CROSSING_TABLES: Final = ("latency_minute", "findings")
"""Tables of a zone that the hub has a place for."""

HUB_TABLES: Final = ("latency_hour", "exports", "findings")
"""The hub's own tables: cells and totals of the rollup by the hour, which hours there are, and findings."""

CROSSING_COLUMNS: Final = (
    "minute",
    "region",
    "service",
    "version",
    "environment",
    "method",
    "route",
    "status_class",
    "source",
    "vantage",
)
"""Columns that tell cells of the rollup apart, and may tell them apart in the hub."""

_PERSONAL: Final = frozenset(
    {
        "attributes",
        "error",
        "exemplar",
        "exemplars",
        "instance",
        "links",
        "max",
        "min",
        "name",
        "named_trace_id",
        "parent_span_id",
        "payload",
        "resource_attributes",
        "span_id",
        "status_message",
        "subject",
        "subjects",
        "trace_id",
        "trace_state",
    }
)
_PERSONAL_BEGIN: Final = (
    "client.",
    "enduser",
    "events.",
    "links.",
    "session",
    "user.",
    "user_agent",
)


def is_personal(column: str) -> bool:
    """Whether ``column`` can tell one person or one request from others, so that it never leaves its zone."""
    return column in _PERSONAL or column.startswith(_PERSONAL_BEGIN)

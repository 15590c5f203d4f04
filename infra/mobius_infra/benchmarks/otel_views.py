"""Reading spans by the Collector's names: our view `otel_traces` against a table of the Collector's own DDL.

Both hold the same spans in the same engine (the table is filled from the view), merged alike. Asked is what Grafana
and HyperDX ask: one trace, bounded by `otel_traces_trace_id_ts` and unbounded, and one service's spans of an hour.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any, Final

from mobius_infra.benchmarks._engine import engine
from mobius_infra.benchmarks._spans import make_messages
from mobius_infra.benchmarks.storage import COLLECTOR_TABLE
from mobius_pipeline.errors import TerminalError
from mobius_pipeline.store import Purpose, connect
from mobius_pipeline.wire import INSERT_SETTINGS, TABLE, envelope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clickhouse_connect.driver.client import Client

__all__ = ["run"]

_SPANS: Final = 500_000
_MESSAGES_AN_INSERT: Final = 130
_REPETITIONS: Final = 15
_TIMES_TABLE: Final = """
CREATE TABLE collector_traces_trace_id_ts (
    TraceId String CODEC(ZSTD(1)),
    Start DateTime CODEC(Delta(4), ZSTD(1)),
    End DateTime CODEC(Delta(4), ZSTD(1)),
    INDEX idx_trace_id TraceId TYPE bloom_filter(0.01) GRANULARITY 1
) ENGINE = MergeTree PARTITION BY toDate(Start) ORDER BY (TraceId, Start)
"""
_COLUMNS: Final = (
    "Timestamp, TraceId, SpanId, ParentSpanId, TraceState, SpanName, SpanKind, ServiceName, ResourceAttributes, "
    "ScopeName, ScopeVersion, SpanAttributes, Duration, StatusCode, StatusMessage, `Events.Timestamp`, `Events.Name`, "
    "`Events.Attributes`, `Links.TraceId`, `Links.SpanId`, `Links.TraceState`, `Links.Attributes`"
)
# {t}: the view, or the table.
_QUERIES: Final = {
    "trace_by_id": f"SELECT {_COLUMNS} FROM {{t}} WHERE TraceId = {{{{trace:String}}}} ORDER BY SpanId",  # noqa: S608 - constants of this module
    "trace_by_id_bounded": (
        "WITH (SELECT min(Start) FROM {t}_trace_id_ts WHERE TraceId = {{trace:String}}) AS begun, "  # noqa: S608 - constants of this module
        "(SELECT max(End) + 1 FROM {t}_trace_id_ts WHERE TraceId = {{trace:String}}) AS ended "
        f"SELECT {_COLUMNS} FROM {{t}} WHERE TraceId = {{{{trace:String}}}} AND Timestamp >= begun AND Timestamp <= ended "
        "ORDER BY SpanId"
    ),
    "service_search_one_hour": (
        "SELECT TraceId, ServiceName, SpanName, Timestamp, Duration, SpanAttributes['http.route'] AS Route FROM {t} "
        "WHERE Timestamp >= now() - 3600 AND Timestamp <= now() AND ServiceName = 'catalog' AND Duration > 30000000 "
        "ORDER BY Timestamp DESC, SpanId LIMIT 1000"
    ),
    "service_rate_one_hour": (
        "SELECT toStartOfMinute(Timestamp) AS Minute, count(), quantile(0.99)(Duration) FROM {t} "
        "WHERE Timestamp >= now() - 3600 AND Timestamp <= now() AND ServiceName = 'catalog' AND SpanKind = 'Server' "
        "GROUP BY Minute ORDER BY Minute"
    ),
}


def run() -> dict[str, Any]:
    """Store the same spans both ways, ask both the same, and give medians of wall time."""
    messages = make_messages(_SPANS, region="eu-west-1")
    with engine() as store:
        client = connect(store.zone, Purpose.INGEST)
        _fill(client, messages)
        [[spans]] = client.query("SELECT count() FROM spans").result_rows
        traces = [
            str(row[0])
            for row in client.query(
                "SELECT DISTINCT TraceId FROM otel_traces ORDER BY cityHash64(TraceId) LIMIT {n:UInt32}",
                parameters={"n": _REPETITIONS},
            ).result_rows
        ]
        results = {name: _compare(client, name, query, traces) for name, query in _QUERIES.items()}
        client.close()
    return {
        "what": f"median wall milliseconds of {_REPETITIONS} queries, both merged, files cached",
        "peer": "a table of the OpenTelemetry Collector's DDL with the same spans in the same engine",
        "spans": int(spans),
        **results,
    }


def _fill(client: Client, messages: list[bytes]) -> None:
    for first in range(0, len(messages), _MESSAGES_AN_INSERT):
        batch = messages[first : first + _MESSAGES_AN_INSERT]
        body = envelope((message, 0, first + number) for number, message in enumerate(batch))
        token = {"insert_deduplication_token": f"benchmark {first}"}
        client.raw_insert(
            TABLE, insert_block=body, fmt="Protobuf", settings={**INSERT_SETTINGS, **token}
        )
    client.command(COLLECTOR_TABLE)
    client.command(_TIMES_TABLE)
    client.command(
        f"INSERT INTO collector_traces ({_COLUMNS}) SELECT {_COLUMNS} FROM otel_traces"  # noqa: S608 - constants of this module
    )
    client.command(
        "INSERT INTO collector_traces_trace_id_ts SELECT TraceId, min(Timestamp), max(Timestamp) "
        "FROM collector_traces GROUP BY TraceId"
    )
    for table in ("spans", "trace_times", "collector_traces", "collector_traces_trace_id_ts"):
        client.command(f"OPTIMIZE TABLE {table} FINAL")


def _compare(client: Client, name: str, query: str, traces: list[str]) -> dict[str, float]:
    """Ask both in turn, so that what else the machine does meets both.

    Raises
    ------
    TerminalError
        They do not answer the same, so their times say nothing.
    """
    seconds: dict[str, list[float]] = {"otel_traces": [], "collector_traces": []}
    for trace in [traces[0], *traces]:  # the first one warms up
        answers = []
        for table, times in seconds.items():
            began = time.perf_counter()
            answer = client.query(query.format(t=table), parameters={"trace": trace}).result_rows
            times.append(time.perf_counter() - began)
            answers.append([_comparable(row) for row in answer])
        # Time passes between the two, so a window that ends now may differ by its oldest rows.
        if name.startswith("trace") and (not answers[0] or answers[0] != answers[1]):
            raise TerminalError(f"benchmark otel_views: the two do not answer {name} alike")
    ours, peer = (statistics.median(times[1:]) * 1e3 for times in seconds.values())
    return {
        "ours_ms": round(ours, 2),
        "peer_ms": round(peer, 2),
        "ratio_to_peer": round(ours / peer, 2),
    }


def _comparable(row: Sequence[Any]) -> tuple[Any, ...]:
    """Without time zones: the Collector's columns have none, ours say UTC."""
    return tuple(str(value).removesuffix("+00:00") for value in row)

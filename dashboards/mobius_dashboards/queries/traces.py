"""The spans of one trace."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from mobius_dashboards.clients import client_for
from mobius_dashboards.queries.cache import cached
from mobius_dashboards.row_access import open_rows
from mobius_dashboards.viewer import Viewer
from mobius_dashboards.waterfall import Span
from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import UsageError
from mobius_pipeline.options import parse_time

__all__ = ["MOST_SPANS", "trace"]

MOST_SPANS: Final = 5_000
# A trace is looked for so far around the moment that its link names.
_AROUND: Final = timedelta(hours=1)

_TRACE: Final = """
SELECT
    lower(hex(span_id)), lower(hex(parent_span_id)), toString(name), toString(service), toString(kind),
    toUnixTimestamp64Nano(start), duration_ns, toString(region), toString(version), toString(instance),
    toString(source), status_code = 'Error' OR http_status >= 500, status_message, http_status,
    toString(method), toString(route), toString(test_run), trace_state,
    attributes, resource_attributes,
    arrayMap(t -> toUnixTimestamp64Nano(t), `events.time`), `events.name`, `events.attributes`
FROM spans
WHERE trace_id = toFixedString(unhex({trace:String}), 16)
  AND start >= {since:DateTime64(9, 'UTC')} AND start < {until:DateTime64(9, 'UTC')}
ORDER BY start
LIMIT {most:UInt32}
"""
_ALWAYS: Final = (
    datetime.fromisoformat("2000-01-01T00:00:00Z"),
    datetime.fromisoformat("2200-01-01T00:00:00Z"),
)


def trace(viewer: Viewer, zone: Zone, trace_id: str, at: str, now: datetime) -> list[Span]:
    """Return the spans of one trace, oldest first, at most ``MOST_SPANS``.

    Parameters
    ----------
    trace_id
        32 hexadecimal digits.
    at
        A moment within an hour of the trace, which spares searching the whole store; empty when unknown.

    Raises
    ------
    ForbiddenError
        The viewer sees only aggregates of this zone.
    ReasonError, DependencyError, TerminalError
        The zone could not write down who reads, or why: nothing is read.
    """
    open_rows(viewer, zone, "trace", {"trace": trace_id})
    since, until = _ALWAYS
    try:
        if at:
            moment = parse_time(at, now)
            since, until = moment - _AROUND, moment + _AROUND
    except (UsageError, OverflowError):
        pass  # a wrong hint costs time, not the answer
    return _trace(viewer.policy, zone, trace_id, since, until, viewer)


@cached
def _trace(
    policy: tuple[str, ...],  # noqa: ARG001 - part of the cache's key
    zone: Zone,
    trace_id: str,
    since: datetime,
    until: datetime,
    _viewer: Viewer,
) -> list[Span]:
    with client_for(_viewer, zone, "spans") as client:
        rows = client.query(
            _TRACE,
            parameters={"trace": trace_id, "since": since, "until": until, "most": MOST_SPANS},
        ).result_rows
    return [_span(row) for row in rows]


def _span(row: Any) -> Span:
    parent = row[1]
    method, route = row[14], row[15]
    # The columns hold other protocols' methods too, and the span's name where there is no route.
    http = method.isupper()
    columns = {
        "http.request.method": method if http else "",
        "http.route": route if http else "",
        "http.response.status_code": str(row[13] or ""),
        "mobius.test.run": row[16],
        "tracestate": row[17],
    }
    return Span(
        span_id=row[0],
        parent_id="" if parent.strip("0") == "" else parent,
        name=row[2],
        service=row[3],
        kind=row[4],
        start_ns=row[5],
        duration_ns=row[6],
        region=row[7],
        version=row[8],
        instance=row[9],
        source=row[10],
        error=bool(row[11]),
        status_message=row[12],
        http_status=row[13],
        attributes={**{name: value for name, value in columns.items() if value}, **row[18]},
        resource=dict(row[19]),
        events=tuple(zip(row[20], row[21], row[22], strict=True)),
    )

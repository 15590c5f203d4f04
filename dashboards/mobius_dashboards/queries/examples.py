"""Single requests to look at, from a bounded stretch of raw spans."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from mobius_analysis.rollup import Window as AnalysisWindow
from mobius_analysis.series import Exemplar, Source, load_exemplars
from mobius_dashboards.clients import client_for
from mobius_dashboards.queries.cache import cached, one
from mobius_dashboards.queries.endpoint import Subject
from mobius_dashboards.row_access import open_rows
from mobius_dashboards.view import View
from mobius_dashboards.viewer import Viewer, require
from mobius_instrumentation.zones import Zone
from mobius_pipeline.options import format_time

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["examples", "generated"]

# Raw spans are read for so long a time at most, from the window's end back.
_EXAMPLES_WITHIN: Final = (timedelta(hours=1), timedelta(hours=24))
# Among so many that are nearest to a quantile, one with a whole trace is chosen.
_CHOICE: Final = 5
_SIZES: Final = """
SELECT lower(hex(trace_id)) AS trace FROM spans
WHERE start >= {since:DateTime('UTC')} AND start < {until:DateTime('UTC')}
  AND trace_id IN (SELECT toFixedString(unhex(arrayJoin({traces:Array(String)})), 16))
GROUP BY trace_id HAVING count() > 1
"""
_SLOWEST: Final = 1e9  # seconds; whatever is nearest to it is the slowest


def examples(
    view: View, zone: Zone, subject: Subject, seconds: Mapping[str, float], source: Source
) -> dict[str, Exemplar]:
    """Return the request nearest to each latency of ``seconds`` (by name), and the slowest one.

    Raises
    ------
    ForbiddenError
        The viewer sees only aggregates of this zone.
    ReasonError, DependencyError, TerminalError
        The zone could not write down who reads, or why: nothing is read.
    """
    edges = (view.window.since, view.window.until)
    rows = {
        "region": subject.region,
        "service": subject.service,
        "method": subject.method,
        "route": subject.route,
        "source": source,
        "since": format_time(edges[0]),
        "until": format_time(edges[1]),
    }
    open_rows(view.viewer, zone, "examples", rows)
    wanted = (*seconds.items(), ("slowest", _SLOWEST))
    return _examples(
        view.viewer.policy, zone, edges, subject, wanted, source=source, _viewer=view.viewer
    )


@cached
def _examples(
    policy: tuple[str, ...],  # noqa: ARG001 - part of the cache's key
    zone: Zone,
    edges: tuple[datetime, datetime],
    subject: Subject,
    wanted: tuple[tuple[str, float], ...],
    *,
    source: Source,
    _viewer: Viewer,
) -> dict[str, Exemplar]:
    since, until = edges
    found: dict[str, Exemplar] = {}
    with client_for(_viewer, zone, "spans") as client:
        for reach in _EXAMPLES_WITHIN:
            window = AnalysisWindow.of(max(since, until - reach), until)
            nearest = {
                name: load_exemplars(
                    client, window, subject.only, seconds, source=source, most=most
                )
                for name, seconds in wanted
                # The slowest one is that one; near a quantile there is a choice.
                for most in ((1,) if seconds == _SLOWEST else (_CHOICE,))
            }
            whole = _with_children(client, window, nearest.values())
            found = {
                name: next((one for one in some if one.trace_id in whole), some[0])
                for name, some in nearest.items()
                if some
            }
            if found or window.start <= since:
                break
    return found


def _with_children(
    client: Client, window: AnalysisWindow, examples: Iterable[Iterable[Exemplar]]
) -> set[str]:
    """Return the traces that have more than one span: they make the better example."""
    traces = sorted({one.trace_id for some in examples for one in some})
    rows = client.query(
        _SIZES, parameters={"since": window.start, "until": window.end, "traces": traces}
    ).result_rows
    return {row[0] for row in rows}


_GENERATED: Final = """
SELECT count() FROM (
    SELECT 1 FROM spans
    WHERE start >= {since:DateTime('UTC')} AND start < {until:DateTime('UTC')} AND service = {service:String}
      AND mapContains(resource_attributes, 'mobius.demo.generated')
    LIMIT 1
)
"""


def generated(view: View, zone: Zone, subject: Subject) -> bool:
    """Whether the window's last day holds generated history of the demo; raw spans alone say so."""
    require(view.viewer, zone.name, "spans")
    since = max(view.window.since, view.window.until - _EXAMPLES_WITHIN[-1])
    return _generated(
        view.viewer.policy, zone, since, view.window.until, subject.service, view.viewer
    )


@cached
def _generated(
    policy: tuple[str, ...],  # noqa: ARG001 - part of the cache's key
    zone: Zone,
    since: datetime,
    until: datetime,
    service: str,
    _viewer: Viewer,
) -> bool:
    edges = {"since": since, "until": until, "service": service}
    with client_for(_viewer, zone, "spans") as client:
        return bool(one(client, _GENERATED, edges))

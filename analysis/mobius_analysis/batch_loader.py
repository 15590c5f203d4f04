"""Loads a whole zone from its rollup, some services at a time: memory stays bounded however large the zone is."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from mobius_analysis.batch import Batch
from mobius_analysis.rollup import ANSWERED, EVERYTHING, SERIES, WHERE, Only, Window, query

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["MOST_BUCKETS", "load_batches"]

MOST_BUCKETS: Final = 2_000_000
"""Buckets that one part has at most, unless a single route has more."""

# Some parts take longer to load than to compute, others the reverse.
_AHEAD: Final = 3

_SIZES: Final = f"""
SELECT toString(r.service) AS service, toString(r.route) AS route, sum(length(r.buckets)) + count() AS size
FROM latency_minute AS r
WHERE {WHERE}
GROUP BY service, route
ORDER BY service, route
"""  # noqa: S608 - a constant

# Lists of a group hold its rows in one order, whichever that is; rows of one minute are added up later.
_PART: Final = f"""
SELECT
    {", ".join(f"toString(r.{name}) AS {name}" for name in SERIES)},
    toInt64(intDiv(dateDiff('minute', {{since:DateTime('UTC')}}, r.minute), {{length:UInt32}})) AS window,
    sum(r.requests) AS requests,
    sum(r.errors) AS errors,
    sum(r.weight_squared) AS weight_squared,
    sumIf(r.requests, {ANSWERED}) AS answered,
    sumIf(r.weight_squared, {ANSWERED}) AS squared,
    groupArray(toUInt32(intDiv(toUnixTimestamp(r.minute), 60))) AS minutes,
    groupArray(toUInt32(if({ANSWERED}, length(r.buckets), 0))) AS lengths,
    groupArray(r.weight) AS row_weights,
    groupArray(r.error_weight) AS row_failed,
    groupArrayArrayIf(mapKeys(r.buckets), {ANSWERED}) AS buckets,
    groupArrayArrayIf(mapValues(r.buckets), {ANSWERED}) AS weights
FROM latency_minute AS r
WHERE {WHERE}
  AND r.service >= {{first_service:String}} AND r.service <= {{last_service:String}}
  -- Not as a comparison of tuples: that would not use the primary key.
  AND ({{last_route:String}} = '' OR (r.route >= {{first_route:String}} AND r.route <= {{last_route:String}}))
GROUP BY {", ".join(SERIES)}, window
HAVING requests > 0
ORDER BY {", ".join(SERIES)}, window
"""  # noqa: S608 - constants


@dataclass(frozen=True, slots=True)
class _Part:
    """Some whole services, or some routes of one service; ``size`` is a measure of the work."""

    first_service: str
    last_service: str
    first_route: str
    last_route: str
    size: int


def load_batches(
    client: Client,
    windows: Sequence[Window],
    only: Only = EVERYTHING,
    *,
    most_buckets: int = MOST_BUCKETS,
) -> Iterator[tuple[Batch, float]]:
    """Load all groups of ``windows``, which :meth:`Window.cut` made; the next parts load while one is computed.

    Yields each part with the share of the work that is done with it. Every cell is in one part.

    Raises
    ------
    DependencyError
        The store does not answer.
    TerminalError
        The store refused a query.
    """
    parts = _plan(client, windows, only, most_buckets)
    whole, done = sum(part.size for part in parts), 0
    with ThreadPoolExecutor(1, thread_name_prefix="rollup") as ahead:
        # The client serves one thread at a time: only this one, from here on.
        coming = deque(ahead.submit(_load, client, windows, only, n) for n in parts[:_AHEAD])
        for i, part in enumerate(parts):
            batch = coming.popleft().result()
            further = parts[i + _AHEAD : i + _AHEAD + 1]
            coming.extend(ahead.submit(_load, client, windows, only, n) for n in further)
            done += part.size
            yield batch, done / whole


def _plan(client: Client, windows: Sequence[Window], only: Only, most_buckets: int) -> list[_Part]:
    """Cut the zone into parts of about equal work, in the order of the table's key."""
    found = query(client, _SIZES, _parameters(windows, only))
    services: dict[str, list[tuple[str, int]]] = {}
    for service, route, size in found.iter_rows():
        services.setdefault(service, []).append((route, size))
    parts: list[_Part] = []
    for service, routes in services.items():
        size = sum(size for _, size in routes)
        last = parts[-1] if parts else None
        if size > most_buckets:
            parts += _split(service, routes, most_buckets)
        elif last is not None and not last.last_route and last.size + size <= most_buckets:
            parts[-1] = _Part(last.first_service, service, "", "", last.size + size)
        else:
            parts.append(_Part(service, service, "", "", size))
    return parts


def _split(service: str, routes: Sequence[tuple[str, int]], most_buckets: int) -> Iterator[_Part]:
    """Cut one large service into stretches of its routes."""
    first, size = "", 0
    for i, (route, more) in enumerate(routes):
        if not size:
            first = route
        size += more
        if i + 1 == len(routes) or size + routes[i + 1][1] > most_buckets:
            yield _Part(service, service, first, route, size)
            size = 0


def _load(client: Client, windows: Sequence[Window], only: Only, part: _Part) -> Batch:
    """Load one part: a group for each of its series and windows."""
    parameters = {name: value for name, value in asdict(part).items() if name != "size"}
    found = query(client, _PART, {**_parameters(windows, only), **parameters})
    return Batch.of_nested(found)


def _parameters(windows: Sequence[Window], only: Only) -> dict[str, Any]:
    first, last = windows[0], windows[-1]
    length = (first.end - first.start).total_seconds() // 60
    return {"since": first.start, "until": last.end, "length": int(length), **asdict(only)}

"""Reads the requests of a run that name a trace, and the spans of these traces, a slice of the ids at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from mobius_pipeline.joining.pairing import Record, Span

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["QUEUE_ATTRIBUTE", "Named", "Slice", "count_named", "load_slice", "slices_of"]

QUEUE_ATTRIBUTE: Final = "mobius.queue.duration"
"""Span attribute that says how long a request waited in the service before its span began, milliseconds."""

# So many ids are paired at a time, which bounds memory whatever a run's length.
_SLICE_IDS: Final = 20_000
# Ids as files write them; what is none stays out, and so does the id that means "no trace".
_ID: Final = "lower(if(s.trace_id != '', s.trace_id, s.named_trace_id))"
_VALID: Final = f"match({_ID}, '^[0-9a-f]{{32}}$') AND {_ID} != repeat('0', 32) AND s.requests = 1"
_SLICED: Final = (
    f"s.run = {{run:String}} AND {_VALID} "
    f"AND ({{slices:UInt32}} = 1 OR cityHash64({_ID}) % {{slices:UInt32}} = {{slice:UInt32}})"
)
# As the spans' own type: text is compared without the zero bytes at its end, which one in 256 ids has.
IDS_OF_SLICE: Final = (
    f"SELECT toFixedString(substring(unhex({_ID}), 1, 16), 16) FROM synthetic_results AS s "  # noqa: S608 -- constants only
    f"WHERE {_SLICED}"
)
"""The trace ids of a slice as bytes; parameters ``run``, ``slices`` and ``slice``."""

_COUNT: Final = f"""
SELECT count(), sum(s.requests), countIf({_VALID}), uniqExactIf({_ID}, {_VALID}),
    min(s.start), max(s.start + INTERVAL toInt64(coalesce(s.duration_ms, 0) * 1000) MICROSECOND),
    countIf(s.vantage = 'server') > 0
FROM synthetic_results AS s WHERE s.run = {{run:String}}
"""  # noqa: S608 -- constants only
_RECORDS: Final = f"""
SELECT {_ID} AS id, toUnixTimestamp64Micro(s.start), s.duration_ms, toString(s.region), toString(s.service),
    toString(s.method), toString(s.route), s.status, s.trace_id = '' AS lies
FROM synthetic_results AS s WHERE {_SLICED}
"""  # noqa: S608 -- constants only
_SPANS: Final = f"""
SELECT lower(hex(p.trace_id)), lower(hex(p.span_id)), lower(hex(p.parent_span_id)), toString(p.kind),
    toUnixTimestamp64Nano(p.start), p.duration_ns, toString(p.method), p.http_status, p.weight,
    1e3 * toFloat64OrNull(p.attributes['{QUEUE_ATTRIBUTE}'])
FROM spans AS p
WHERE p.start >= {{since:DateTime64(9, 'UTC')}} AND p.start < {{until:DateTime64(9, 'UTC')}}
  AND p.trace_id IN ({IDS_OF_SLICE})
"""  # noqa: S608 -- constants only


@dataclass(frozen=True, slots=True)
class Named:
    """How many requests of a run name a trace, how many traces these are, and when the run was.

    ``at_server``: the results are what the servers saw, not what the test did.
    """

    requests: int
    with_id: int
    ids: int
    start: datetime
    end: datetime
    at_server: bool


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a run's trace ids, and the time in which their spans are looked for."""

    run: str
    number: int
    of: int
    since: datetime
    until: datetime

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameters of the queries over this slice."""
        return {
            "run": self.run,
            "slice": self.number,
            "slices": self.of,
            "since": self.since,
            "until": self.until,
        }


def count_named(client: Client, run: str) -> Named | None:
    """Count the requests of a run; None where it has none one by one."""
    ((rows, requests, with_id, ids, start, end, at_server),) = client.query(
        _COUNT, parameters={"run": run}
    ).result_rows
    if not rows:
        return None
    return Named(
        int(requests),
        int(with_id),
        int(ids),
        start.replace(tzinfo=UTC),
        end.replace(tzinfo=UTC),
        bool(at_server),
    )


def slices_of(run: str, named: Named, slack: timedelta, ids: int = _SLICE_IDS) -> list[Slice]:
    """Cut a run's trace ids into slices of some ``ids``, which fit into memory; none where it names no trace."""
    of = -(-named.with_id // ids)
    since, until = named.start - slack, named.end + slack
    return [Slice(run, number, of, since, until) for number in range(of)]


def load_slice(client: Client, slice_: Slice) -> Iterator[tuple[str, list[Record], list[Span]]]:
    """Yield each trace id of a slice with the requests that name it and the spans that it has."""
    records: defaultdict[str, list[Record]] = defaultdict(list)
    parameters = slice_.parameters
    for trace_id, start_us, *rest in client.query(_RECORDS, parameters=parameters).result_rows:
        records[trace_id].append(Record(start_us * 1000, *rest))
    spans: defaultdict[str, list[Span]] = defaultdict(list)
    for trace_id, *fields in client.query(_SPANS, parameters=parameters).result_rows:
        spans[trace_id].append(Span(*fields))
    for trace_id, some in records.items():
        yield trace_id, some, spans.get(trace_id, [])

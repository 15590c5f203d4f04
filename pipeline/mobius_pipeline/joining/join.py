"""Joins runs with their server spans: counts, where the time went, and the corrections of the rollup."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from clickhouse_connect.driver.exceptions import DatabaseError

from mobius_pipeline.errors import TerminalError
from mobius_pipeline.joining.corrections import (
    BATCH_SPANS,
    Corrections,
    Row,
    moved_rows,
    unmoved_rows,
)
from mobius_pipeline.joining.load import Slice, count_named, load_slice, slices_of
from mobius_pipeline.joining.pairing import Record, Span, TraceJoin, pair_trace
from mobius_pipeline.joining.parts import JoinedRequest, joined_request
from mobius_pipeline.options import progress

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["SLACK", "RunJoin", "join_run", "take_back"]

SLACK: Final = timedelta(seconds=60)
"""How far the clocks of a load tool and of the services may be apart."""

_TOO_LATE: Final = 469
_MOST_ATTEMPTS: Final = 100


@dataclass(slots=True)
class RunJoin:
    """What the join of one run found. Requests, but for the two counts of server spans at the end.

    Attributes
    ----------
    requests, with_id, ids
        All requests; those that carry a trace id; how many ids these are.
    sharing_id
        Requests with an id that others of the run carry too (the hops of a redirect do).
    without_span, with_one_span, with_several_spans
        Requests with an id by how many server spans of that id were caused from outside.
    joined, one_to_one
        Requests paired with their spans; those that alone had their id, and one span.
    ambiguous, contradicted
        Requests whose id has spans, and nothing tells which are theirs; or spans of another time, method or status.
    moved_spans, moved_now
        Server spans that count as this run's instead of production's; those of them moved by this very join.
    """

    run: str
    requests: int = 0
    with_id: int = 0
    ids: int = 0
    sharing_id: int = 0
    without_span: int = 0
    with_one_span: int = 0
    with_several_spans: int = 0
    joined: int = 0
    one_to_one: int = 0
    ambiguous: int = 0
    contradicted: int = 0
    moved_spans: int = 0
    moved_now: int = 0
    refused: bool = False

    def document(self) -> dict[str, Any]:
        """Return the JSON form, with the join's rate among requests with an id, and its share of all requests."""
        return {
            **asdict(self),
            "join_rate": round(self.joined / self.with_id, 4) if self.with_id else None,
            "joined_share": round(self.joined / self.requests, 4) if self.requests else None,
        }

    def add(self, records: list[Record], found: TraceJoin) -> None:
        """Count the requests of one trace id."""
        several = len(records) > 1
        self.sharing_id += len(records) if several else 0
        if not found.entries:
            self.without_span += len(records)
        elif len(found.entries) == 1:
            self.with_one_span += len(records)
        else:
            self.with_several_spans += len(records)
        self.joined += len(found.pairs)
        self.one_to_one += len(found.pairs) == len(found.entries) == 1 and not several
        self.ambiguous += len(records) if found.outcome == "ambiguous" else 0
        self.contradicted += len(records) if found.outcome == "contradicted" else 0


def join_run(
    client: Client,
    run: str,
    *,
    slack: timedelta = SLACK,
    move: bool = True,
    sink: Callable[[JoinedRequest], None] | None = None,
) -> RunJoin:
    """Join one run with the spans that the zone's store has by now.

    1. Pair the requests of each trace id with its server spans.
    2. Move the server spans of traces that are the test's out of production, those that are not yet moved.

    Doing it again adds what has arrived since, and nothing twice, whoever does it at the same time.

    Parameters
    ----------
    client
        A client for inserts.
    slack
        How far the clocks of load tool and services may be apart.
    move
        Whether to correct the rollup; else only look.
    sink
        Takes every joined request with the parts of its time.

    Raises
    ------
    TerminalError
        Others were always faster; run it again.
    """
    result = RunJoin(run)
    named = count_named(client, run)
    if named is None:
        return result
    result.requests, result.with_id, result.ids = named.requests, named.with_id, named.ids
    corrections = Corrections(client, secrets.token_hex(8))
    slices = slices_of(run, named, slack)
    if named.at_server:
        sink = None  # no client's time to split
    with progress("joining", len(slices)) as advance:
        for slice_ in slices:
            tests = _pair(client, slice_, slack, result, sink)  # 1
            if move:
                result.moved_now += _move(  # 2
                    client, corrections, slice_, tests, adds=not named.at_server
                )
            advance(1)
    ((moved,),) = client.query(
        "SELECT sum(sign) FROM joined_spans WHERE run = {run:String}", parameters={"run": run}
    ).result_rows
    result.moved_spans = int(moved)
    return result


def _pair(
    client: Client,
    slice_: Slice,
    slack: timedelta,
    result: RunJoin,
    sink: Callable[[JoinedRequest], None] | None,
) -> set[bytes]:
    """Pair a slice and count it; return the ids of the traces that are the test's."""
    slack_ns = slack // timedelta(microseconds=1) * 1000
    tests: set[bytes] = set()
    for trace_id, records, spans in load_slice(client, slice_):
        found = pair_trace(records, spans, slack_ns)
        result.add(records, found)
        if found.is_test:
            tests.add(bytes.fromhex(trace_id))
        if sink is not None:
            _tell(sink, found, spans)
    return tests


def take_back(client: Client, run: str) -> int:
    """Return the spans of a run to production; returns how many. Refuse the run first, or the next join moves them."""
    named = count_named(client, run)
    adds = named is None or not named.at_server
    corrections = Corrections(client, secrets.token_hex(8))
    return _append_all(corrections, run, lambda: moved_rows(client, run), sign=-1, adds=adds)


def _tell(sink: Callable[[JoinedRequest], None], found: TraceJoin, spans: list[Span]) -> None:
    for pair in found.pairs:
        sink(joined_request(pair, spans))


def _move(
    client: Client, corrections: Corrections, slice_: Slice, tests: set[bytes], *, adds: bool
) -> int:
    def unmoved() -> list[Row]:
        return [row for row in unmoved_rows(client, slice_) if row[0] in tests]

    return _append_all(corrections, slice_.run, unmoved, sign=1, adds=adds)


def _append_all(
    corrections: Corrections,
    run: str,
    wanted: Callable[[], list[Row]],
    *,
    sign: int,
    adds: bool,
) -> int:
    done = lost = 0
    while lost < _MOST_ATTEMPTS:
        standing = corrections.settle()
        rows = wanted()[:BATCH_SPANS]
        if not rows:
            return done
        try:
            won = corrections.append(standing, run, rows, sign=sign, adds=adds)
        except DatabaseError as error:
            if error.code != _TOO_LATE:
                raise
            won = False
        if won:
            done += len(rows)
        else:
            lost += 1
    raise TerminalError(
        f"run {run}: {lost} times another join was faster, or the store too slow; nothing is lost, run the same again"
    )

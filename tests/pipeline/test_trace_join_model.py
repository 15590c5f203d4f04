"""Corrections against a simple reference: joins look, claim, die, stand still, come late, while spans and files arrive.

The real chain of batches over the real engine. Each example has a run, a service and traces of its own, in two months; the
chain is one over all examples, as it is in a store.
"""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from mobius_pipeline.joining import corrections as module
from mobius_pipeline.joining.corrections import Corrections, Row, Standing, unmoved_rows
from mobius_pipeline.joining.join import join_run, take_back
from mobius_pipeline.joining.load import Slice
from tests.pipeline.spans_of_runs import store_zone

pytestmark = pytest.mark.store

TRACES = 5
STEPS = 12
# So few that a flood of other inserts makes the rollup forget every token.
ROLLUP_WINDOW = 8
MIDNIGHT = datetime(2026, 10, 1, tzinfo=UTC)
LATE = 1
JOINS = st.integers(0, 2)
POINTS = ("before_join_claim", "after_join_claim", "before_correction", "after_correction")
_SPAN_COLUMNS = [
    "problem", "start", "duration_ns", "trace_id", "span_id", "kind", "service", "method", "route", "http_status",
    "source", "weight", "kafka_offset",
]  # fmt: skip


class Arrival(NamedTuple):
    """A server span, as often as it came; the second counts from midnight, negative in the month before."""

    trace: int
    second: int
    copies: int
    status: int
    source: str
    weight: float
    ns: int


ARRIVALS = st.builds(
    Arrival,
    trace=st.integers(0, TRACES - 1),
    second=st.integers(-50, 50),
    copies=st.integers(1, 2),
    status=st.sampled_from([200, 503]),
    source=st.sampled_from(["real", "suspected"]),
    weight=st.sampled_from([1.0, 1 / 0.3]),
    ns=st.integers(1, 10**10),
)

Kept = tuple[datetime, str, str, int, int, float]
"""A stored span: minute, route, source, HTTP status, bucket, weight."""


class DeathError(Exception):
    """A join died, or its request is still on its way."""


@dataclass
class Join:
    """A process that joins: what it knows since it looked last, and its request that has not arrived yet."""

    writer: Corrections
    standing: Standing | None = None
    rows: Sequence[Row] = ()
    under_way: Callable[[bool], None] | None = None


def machine(client: Client) -> type[RuleBasedStateMachine]:  # noqa: C901  # one class, its rules counted as branches
    class Joins(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.name = uuid4().hex[:12]
            self.ids = [os.urandom(15) + bytes([n]) for n in range(TRACES)]
            self.named: set[int] = set()
            self.spans: list[tuple[int, Kept]] = []
            self.joins: dict[int, Join] = {}
            self.slice = Slice(self.name, 0, 1, MIDNIGHT - timedelta(hours=1), MIDNIGHT + timedelta(hours=1))  # fmt: skip

        # ---------------------------------------------------------------- what arrives

        @initialize(arrivals=st.lists(ARRIVALS, min_size=2, max_size=3))
        def begin(self, arrivals: list[Arrival]) -> None:
            for arrival in arrivals:
                self.spans_arrive(arrival)
                self.a_file_names(arrival.trace)

        @rule(arrival=ARRIVALS)
        def spans_arrive(self, arrival: Arrival) -> None:
            trace, second, copies, status, source, weight, ns = arrival
            start = MIDNIGHT + timedelta(seconds=second)
            row = ["", start, ns, self.ids[trace], os.urandom(8), "Server", self.name, "GET", f"/{trace}", status,
                   source, weight, 7]  # fmt: skip
            client.insert("span_rows", [row] * copies, _SPAN_COLUMNS)
            bucket = math.ceil(math.log2(ns / 1e9) * 32) - 1
            kept = (start.replace(second=0), f"/{trace}", source, status, bucket, weight)
            self.spans += [(trace, kept)] * copies

        @rule(trace=st.integers(0, TRACES - 1))
        def a_file_names(self, trace: int) -> None:
            if trace not in self.named:
                self.named.add(trace)
                columns = ["run", "start", "requests", "trace_id", "status", "method"]
                client.insert("synthetic_results", [[self.name, MIDNIGHT, 1, self.ids[trace].hex(), 0, "GET"]], columns)  # fmt: skip

        # ---------------------------------------------------------------- joins, step by step

        @rule(number=JOINS)
        def look(self, number: int) -> None:
            """Also as a new process, after another died under this number."""
            join = self.joins.get(number) or Join(Corrections(client, uuid4().hex[:8]))
            self.joins[number] = join
            join.standing = join.writer.settle()
            named = {self.ids[trace] for trace in self.named}
            join.rows = [row for row in unmoved_rows(client, self.slice) if row[0] in named]

        @rule(number=JOINS, point=st.sampled_from([*POINTS, None]), visit=st.integers(1, 2))
        def append(self, number: int, point: str | None, visit: int) -> None:
            """Claim and correct, or die at a point."""
            join = self.joins.get(number)
            if join is None or join.standing is None or not join.rows:
                return
            standing, join.standing = join.standing, None
            vars(module)["reach"] = death_at(point, visit)  # as a kill would end it there
            try:
                join.writer.append(standing, self.name, join.rows)
            except DeathError:
                del self.joins[number]
            except DatabaseError as error:
                if error.code != 469 or standing.until_ms != LATE:
                    raise
            else:
                assert standing.until_ms != LATE, "a stale join has written"
            finally:
                vars(module)["reach"] = lambda _: None

        @rule(number=JOINS, table=st.sampled_from(["joined_spans", "span_corrections"]))
        def send_and_wait(self, number: int, table: str) -> None:
            """A request is sent and takes long; its sender dies meanwhile."""
            join = self.joins.get(number)
            if join is None or join.standing is None or not join.rows or join.under_way:
                return
            standing, join.standing = join.standing, None
            if standing.until_ms == LATE:
                return
            insert = join.writer._insert

            def delay(into: str, token: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
                if into != table:
                    return insert(into, token, columns, rows)

                def arrive(late: bool) -> None:
                    """Refused where the fence has passed meanwhile."""
                    sent = [(*row[:-1], LATE) for row in rows] if late else rows
                    insert(into, token, columns, sent)

                join.under_way = arrive
                raise DeathError

            vars(join.writer)["_insert"] = delay  # a network that is slow
            try:
                join.writer.append(standing, self.name, join.rows)
            except DeathError:
                pass
            finally:
                del vars(join.writer)["_insert"]

        @rule(number=JOINS)
        def arrive(self, number: int) -> None:
            join = self.joins.get(number)
            if join is not None and join.under_way is not None:
                join.under_way(False)
                join.under_way = None

        @rule(number=JOINS)
        def join_whole(self, number: int) -> None:
            self.joins.pop(number, None)
            join_run(client, self.name)

        @rule()
        def take_it_back(self) -> None:
            take_back(client, self.name)

        @rule()
        def time_passes(self) -> None:
            """So long that fences have passed and the rollup has forgotten tokens."""
            for join in self.joins.values():
                if join.standing is not None:
                    join.standing = Standing(join.standing.batch, LATE)
                if join.under_way is not None:
                    with pytest.raises(DatabaseError, match="469"):
                        join.under_way(True)
                    join.under_way = None
            for second in range(ROLLUP_WINDOW + 1):
                row = ["", MIDNIGHT, 1, os.urandom(16), os.urandom(8), "Server", "flood", "GET", "/", 200, "real", 1.0, second]  # fmt: skip
                client.insert("span_rows", [row], _SPAN_COLUMNS)

        # ---------------------------------------------------------------- what must hold

        def teardown(self) -> None:
            join_run(client, self.name)
            assert join_run(client, self.name).moved_now == 0
            last, batches = client.query(
                "SELECT max(batch), uniqExact(batch) FROM joined_spans"
            ).result_rows[0]
            assert last == batches
            assert found(client, self.name) == self.expected()

        def expected(self) -> dict[Any, Any]:
            totals: dict[Any, defaultdict[Any, float]] = {}
            for trace, (minute, route, said, status, bucket, weight) in self.spans:
                source = "synthetic" if trace in self.named else said
                run = self.name if source == "synthetic" else ""
                key = (minute.replace(tzinfo=None), route, source, run)
                of = totals.setdefault(key, defaultdict(float))
                of["requests"] += 1
                of["errors"] += status >= 500
                of["weight"] += weight
                of["squared"] += weight * weight
                of[bucket] += weight
            return {key: {k: pytest.approx(v) for k, v in of.items() if v} for key, of in totals.items()}  # fmt: skip

    return Joins


def death_at(point: str | None, visit: int) -> Callable[[str], None]:
    seen: Counter[str] = Counter()

    def reach(name: str) -> None:
        seen[name] += 1
        if name == point and seen[name] == visit:
            raise DeathError

    return reach


def found(client: Client, service: str) -> dict[Any, Any]:
    rows = client.query(
        "SELECT minute, toString(route), toString(source), toString(test_run), sum(requests), sum(errors), sum(weight), "
        "sum(weight_squared), sumMap(buckets) FROM latency_minute WHERE service = {service:String} AND vantage = 'server' "
        "GROUP BY ALL HAVING sum(requests) != 0",
        parameters={"service": service},
    ).result_rows
    return {
        tuple(row[:4]): {
            **{k: v for k, v in zip(("requests", "errors", "weight", "squared"), row[4:8], strict=True) if v},
            **{bucket: weight for bucket, weight in row[8].items() if weight > 0.5},
        }
        for row in rows
    }  # fmt: skip


@pytest.fixture
def client(store_server: str) -> Iterator[Client]:
    with store_zone(store_server) as (_, opened):
        opened.command(
            f"ALTER TABLE latency_minute MODIFY SETTING non_replicated_deduplication_window = {ROLLUP_WINDOW}"
        )
        yield opened


def check(client: Client, examples: int) -> None:
    run_state_machine_as_test(
        machine(client),
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(900)
def test_each_span_is_moved_once_whatever_joins_do(client: Client) -> None:
    check(client, 12)


def test_a_correction_that_is_in_is_seen_when_its_token_is_forgotten(client: Client) -> None:
    """A join dies behind its correction, and nobody joins until the rollup has forgotten."""
    steps: Any = machine(client)()
    steps.begin([Arrival(0, -50, 2, 503, "real", 1.0, 10**7), Arrival(1, 50, 1, 200, "suspected", 1 / 0.3, 10**8)])  # fmt: skip
    for visit in (1, 2):
        steps.look(0)
        steps.append(0, "after_correction", visit)
        steps.time_passes()
    steps.take_it_back()
    steps.teardown()


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_each_span_is_moved_once_a_thousand_times(client: Client) -> None:
    check(client, 1_000)

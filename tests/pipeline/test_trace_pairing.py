"""Pairing and splitting, without a store: which span answered which request, and where its time went."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobius_pipeline.joining.pairing import Record, Span, entries_of, pair_trace
from mobius_pipeline.joining.parts import joined_request, union_ns

SECOND = 1_000_000_000
SLACK = 60 * SECOND
NONE = "0" * 16


def record(
    start_ms: float = 0, duration_ms: float | None = 50, status: int = 200, **rest: Any
) -> Record:
    fields: dict[str, Any] = {
        "region": "eu-west-1",
        "service": "shop",
        "method": "GET",
        "route": "/a",
    }
    return Record(round(start_ms * 1e6), duration_ms, status=status, **fields | rest)


def span(
    span_id: str,
    start_ms: float = 1,
    ms: float = 40,
    parent: str = "client",
    kind: str = "Server",
    **rest: Any,
) -> Span:
    fields: dict[str, Any] = {"method": "GET", "status": 200}
    return Span(span_id, parent, kind, round(start_ms * 1e6), round(ms * 1e6), **fields | rest)  # fmt: skip


def outcome(records: list[Record], spans: list[Span]) -> tuple[str, bool, list[tuple[str, ...]]]:
    found = pair_trace(records, spans, SLACK)
    return (
        found.outcome,
        found.is_test,
        [tuple(entry.span_id for entry in pair.entries) for pair in found.pairs],
    )


def test_one_request_and_its_span() -> None:
    assert outcome([record()], [span("a")]) == ("joined", True, [("a",)])
    assert outcome([record()], []) == ("no_span", False, [])


def test_redirects_followed_within_a_request_are_its_own() -> None:
    hops = [span("a", 1, 5, status=302), span("b", 10, 20)]
    assert outcome([record()], hops) == ("joined", True, [("a", "b")])


def test_hops_are_paired_in_order_of_time() -> None:
    hops = [span("b", 10, 20), span("a", 1, 5, status=302)]
    records = [record(9, 22), record(0, 7, status=302)]
    assert outcome(records, hops) == ("joined", True, [("a",), ("b",)])


def test_a_hop_without_an_answer_does_not_take_anothers_span() -> None:
    records = [record(0, 7, status=302), record(9, None, status=0)]
    assert outcome(records, [span("a", 1, 5, status=302)]) == ("joined", True, [("a",)])


def test_several_requests_with_the_span_of_one_are_not_joined_and_still_the_tests() -> None:
    assert outcome([record(0), record(100)], [span("a")]) == ("ambiguous", True, [])
    assert outcome([record(lies=True)], [span("a")]) == ("ambiguous", True, [])


@pytest.mark.parametrize(
    ("request_", "its_span"),
    [
        (record(status=404), span("a")),
        (record(method="POST"), span("a")),
        (record(), span("a", start_ms=61_000)),
        (record(100_000), span("a")),
        (record(status=404, lies=True), span("a")),
    ],
)
def test_what_does_not_fit_moves_nothing(request_: Record, its_span: Span) -> None:
    assert outcome([request_], [its_span]) == ("contradicted", False, [])


def test_clocks_that_are_seconds_apart_join_all_the_same() -> None:
    found = pair_trace([record(30_000)], [span("a")], SLACK)
    assert found.outcome == "joined"
    assert joined_request(found.pairs[0], [span("a")]).network_ms == 10


def test_what_is_unknown_contradicts_nothing() -> None:
    assert outcome([record(method="", status=0, duration_ms=None)], [span("a")])[0] == "joined"
    assert outcome([record()], [span("a", method="", status=0)])[0] == "joined"


def test_called_services_are_no_entries() -> None:
    spans = [
        span("a", 0, 50),
        span("c", 5, 20, parent="a", kind="Client"),
        span("s", 6, 18, parent="c"),
        span("lost", 30, 10, parent="never came"),
    ]
    assert [s.span_id for s in entries_of(spans)] == ["a"]


def test_the_load_tools_own_spans_may_be_in_the_trace() -> None:
    """A tool that is traced itself: a span around the iteration, one a request, the service's, and what that calls."""
    spans = [
        span("loop", 0, 100, parent=NONE, kind="Internal"),
        span("c1", 0, 50, parent="loop", kind="Client"),
        span("s1", 1, 40, parent="c1", status=302),
        span("out", 2, 9, parent="s1", kind="Client"),
        span("deep", 3, 7, parent="out"),
        span("c2", 60, 30, parent="loop", kind="Client"),
        span("s2", 61, 20, parent="c2"),
    ]
    records = [record(0, 50, status=302), record(60, 30)]
    assert outcome(records, spans) == ("joined", True, [("s1",), ("s2",)])
    parts = joined_request(pair_trace(records, spans, SLACK).pairs[0], spans)
    assert (parts.network_ms, parts.self_ms, parts.downstream_ms) == (10, 31, 9)


def test_requests_of_one_client_span_at_the_same_time_are_entries() -> None:
    assert [s.span_id for s in entries_of([span("a", 0, 50), span("b", 5, 20)])] == ["a", "b"]


def test_a_span_that_came_twice_is_one() -> None:
    assert outcome([record()], [span("a"), span("a")]) == ("joined", True, [("a",)])


def test_a_span_that_is_its_own_parent_ends_nothing() -> None:
    spans = [
        span("a", 0, 50),
        span("x", 5, 5, parent="y", kind="Client"),
        span("y", 5, 5, parent="x", kind="Client"),
    ]
    found = pair_trace([record()], spans, SLACK)
    assert joined_request(found.pairs[0], spans).downstream_ms == 5


def test_time_is_split_into_its_parts() -> None:
    spans = [
        span("a", 1, 40, queue_ms=2.0),
        span("i", 2, 30, parent="a", kind="Internal"),
        span("q1", 5, 10, parent="i", kind="Client"),
        span("q2", 10, 10, parent="i", kind="Client"),
        span("late", 35, 100, parent="a", kind="Producer"),
    ]
    found = pair_trace([record(0, 50)], spans, SLACK)
    parts = joined_request(found.pairs[0], spans)
    assert (parts.network_ms, parts.queue_ms, parts.self_ms, parts.downstream_ms) == (10, 2, 17, 21)


def test_what_got_no_answer_has_no_network_time() -> None:
    found = pair_trace([record(0, None, status=0)], [span("a")], SLACK)
    parts = joined_request(found.pairs[0], [span("a")])
    assert (parts.client_ms, parts.network_ms, parts.self_ms) == (None, None, 40)


INTERVALS = st.lists(st.tuples(st.integers(-50, 150), st.integers(0, 80)), max_size=12)


@given(INTERVALS)
def test_the_union_counts_each_moment_once(intervals: list[tuple[int, int]]) -> None:
    entry = Span("e", NONE, "Server", 0, 100, "GET", 200)
    spans = [Span(str(i), "e", "Client", s, d, "", 0) for i, (s, d) in enumerate(intervals)]
    moments = {t for s, d in intervals for t in range(max(s, 0), min(s + d, 100))}
    assert union_ns(entry, spans) == len(moments)


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdef"), st.sampled_from("abcdefxyz"), st.integers(0, 50), st.integers(0, 50)),
        max_size=8,
    )
)  # fmt: skip
def test_parts_add_up_whatever_the_trace_looks_like(rows: list[tuple[str, str, int, int]]) -> None:
    kinds = ("Server", "Client", "Internal")
    spans = [
        span(i, start, ms, parent=parent, kind=kinds[n % 3])
        for n, (i, parent, start, ms) in enumerate(rows)
    ]
    found = pair_trace([record(0, 50)], spans, SLACK)
    for pair in found.pairs:
        parts = joined_request(pair, spans)
        assert parts.downstream_ms >= 0
        assert parts.self_ms >= 0
        assert parts.network_ms is not None
        assert parts.client_ms == pytest.approx(
            parts.network_ms + parts.self_ms + parts.downstream_ms
        )

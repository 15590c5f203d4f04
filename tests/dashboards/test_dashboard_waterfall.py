from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mobius_dashboards.theme import LIGHT
from mobius_dashboards.waterfall import Span, arrange
from mobius_dashboards.waterfall_html import waterfall_html


def span(name: str, parent: str, start: int, end: int) -> Span:
    return Span(name, parent, name, "shop", "Server", start, end - start)


def test_children_stand_below_their_parent_in_order_of_time() -> None:
    fall = arrange(
        [
            span("c", "b", 30, 40),
            span("d", "a", 60, 70),
            span("b", "a", 20, 50),
            span("a", "", 0, 100),
        ]
    )
    assert [(row.span.name, row.depth) for row in fall.rows] == [
        ("a", 0),
        ("b", 1),
        ("c", 2),
        ("d", 1),
    ]


def test_own_time_leaves_out_children_and_counts_overlap_once() -> None:
    fall = arrange([span("a", "", 0, 100), span("b", "a", 10, 50), span("c", "a", 30, 60)])
    assert {row.span.name: row.self_ns for row in fall.rows} == {"a": 50, "b": 40, "c": 30}


def test_a_child_that_outlives_its_parent_takes_only_the_parents_time() -> None:
    fall = arrange([span("a", "", 0, 100), span("b", "a", 90, 150)])
    assert [row.self_ns for row in fall.rows] == [90, 60]
    assert fall.duration_ns == 150


def test_the_critical_path_is_what_the_end_waited_for() -> None:
    # b runs beside c, and c ends later: nothing waited for b.
    fall = arrange([span("a", "", 0, 100), span("b", "a", 10, 50), span("c", "a", 20, 80)])
    assert {row.span.name: row.critical for row in fall.rows} == {
        "a": ((0, 20), (80, 100)),
        "b": (),
        "c": ((20, 80),),
    }


def test_a_lost_parent_makes_an_orphan_and_a_repeated_span_counts_once() -> None:
    fall = arrange([span("b", "gone", 5, 9), span("b", "gone", 5, 9)])
    assert [row.orphan for row in fall.rows] == [True]
    assert fall.repeated == 1


def test_a_circle_of_parents_ends() -> None:
    fall = arrange([span("a", "b", 0, 10), span("b", "a", 1, 9), span("s", "s", 2, 3)])
    assert {row.span.name for row in fall.rows} == {"a", "b", "s"}


@st.composite
def traces(draw: st.DrawFn) -> list[Span]:
    count = draw(st.integers(1, 12))
    spans = []
    for i in range(count):
        start = draw(st.integers(0, 100))
        parent = f"s{draw(st.integers(0, i - 1))}" if i else ""
        spans.append(span(f"s{i}", parent, start, start + draw(st.integers(0, 100))))
    return spans


@given(traces())
def test_laws_of_the_waterfall(spans: list[Span]) -> None:
    fall = arrange(spans)
    root = next(row.span for row in fall.rows if row.span.name == "s0")
    pieces = sorted(piece for row in fall.rows for piece in row.critical)
    # Each span once; own time within the span; the critical path is the root's time, in pieces without overlap.
    assert sorted(row.span.name for row in fall.rows) == sorted(s.name for s in spans)
    assert all(0 <= row.self_ns <= row.span.duration_ns for row in fall.rows)
    assert sum(end - start for start, end in pieces) == root.duration_ns
    assert all(a[1] <= b[0] for a, b in pairwise(pieces))


def test_what_a_span_says_is_text_and_never_markup() -> None:
    evil = Span(
        "a", "", "<img src=x onerror=alert(1)>", "<b>", "Server", 0, 10, error=True,
        status_message="<script>", attributes={"<i>": '"><script>alert(1)</script>'},
        events=[(5, "<u>", {"k": "<v>"})],
    )  # fmt: skip
    html = waterfall_html(arrange([evil]), LIGHT)
    assert "<script" not in html
    assert "<img" not in html
    assert "<b></b>" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert "✕ error" in html

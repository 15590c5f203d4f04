"""A request's time adds up, whatever ran at the same time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobius_analysis.components import OWN, SpanRow, parts_of_request

MS = 1_000_000


def span(
    name: str, parent: str, start: float, end: float, *, kind: str = "Internal", database: str = ""
) -> SpanRow:
    return SpanRow(name, parent, "shop", name, kind, database, int(start * MS), int(end * MS))


ROOT = span("root", "", 100, 200, kind="Server")


def test_nested_and_parallel_spans_share_their_time() -> None:
    parts = parts_of_request(
        ROOT,
        [
            span("load", "root", 110, 150),
            span("select", "load", 120, 140, kind="Client", database="sqlite"),
            span("left", "root", 150, 180, kind="Client"),
            span("right", "root", 160, 190, kind="Client"),
        ],
        {},
    )
    assert parts == pytest.approx(
        {
            "shop: load": 0.020,
            "shop: sqlite select": 0.020,
            "shop: call left": 0.020,
            "shop: call right": 0.020,
            OWN: 0.020,
        }
    )


def test_what_is_no_descendant_or_outside_in_time_does_not_count() -> None:
    parts = parts_of_request(
        ROOT,
        [
            span("other", "elsewhere", 110, 150),
            span("late", "root", 190, 400),
            span("after", "root", 300, 400),
            span("loop", "loop", 110, 120),
        ],
        {},
    )
    assert parts == pytest.approx({"shop: late": 0.010, OWN: 0.090})


def test_measures_part_the_own_time_and_stand_in_for_missing_spans() -> None:
    measures = {
        "mobius.queue.duration": 0.03,
        "mobius.loop.gc.duration": -1.0,
        "mobius.client.database.duration": 0.05,
    }
    alone = parts_of_request(ROOT, [], measures)
    assert alone == pytest.approx(
        {"waiting before the handler": 0.03, "database calls": 0.05, OWN: 0.02}
    )
    called = parts_of_request(ROOT, [span("select", "root", 110, 190)], measures)
    assert called == pytest.approx(
        {"shop: select": 0.08, "waiting before the handler": 0.02, OWN: 0}
    )


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 300), st.integers(0, 300)), max_size=12),
    st.dictionaries(
        st.sampled_from(["mobius.queue.duration", "mobius.client.http.duration"]),
        st.floats(-1, 1),
    ),
)
def test_the_parts_add_up_to_the_duration(
    tree: list[tuple[int, int, int]], measures: dict[str, float]
) -> None:
    names = ["root", *(f"s{i}" for i in range(len(tree)))]
    spans = [
        span(f"s{i}", names[parent % len(names)], min(a, b), max(a, b))
        for i, (parent, a, b) in enumerate(tree)
    ]
    parts = parts_of_request(ROOT, spans, measures)
    assert sum(parts.values()) == pytest.approx(0.1)
    assert min(parts.values()) >= 0

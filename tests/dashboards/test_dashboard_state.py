from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobius_dashboards.const import PAGES
from mobius_dashboards.state import State, link, parse, scope, to_params
from mobius_dashboards.viewer import ForbiddenError, Viewer
from mobius_instrumentation.zones import parse_zones
from mobius_pipeline.errors import UsageError

NOW = datetime(2026, 11, 23, 18, 5, 42, tzinfo=UTC)
ZONES = parse_zones(
    {
        "zones": {
            "eu": {"regions": ["eu-west-1"], "kafka": ["k:1"], "clickhouse": "http://h:1"},
            "us": {"regions": ["us-east-1"], "kafka": ["k:1"], "clickhouse": "http://h:2"},
        }
    }
)
TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=80).map(str.strip)
STATES = st.builds(
    State,
    page=st.sampled_from(PAGES),
    zone=TEXT,
    region=TEXT,
    environment=TEXT,
    service=TEXT,
    since=st.sampled_from(["1h", "90m", "24h", "7d", "2026-11-23T00:00:00Z"]),
    until=st.sampled_from(["", "30m", "2026-11-23T12:00:00Z"]),
    method=TEXT,
    route=TEXT,
    trace=st.sampled_from(["", "0af7651916cd43dd8448eb211c80319c"]),
    at=TEXT,
)


@given(STATES)
def test_a_link_brings_back_the_same_view(state: State) -> None:
    found, _ = parse(dict(parse_qsl(link(state).removeprefix("?"))), NOW)
    try:
        state.window(NOW)
    except UsageError:
        return  # an empty window is left out, with a sentence
    assert found == state


@given(st.dictionaries(st.sampled_from([*to_params(State(page="x")), *State.__slots__]), st.text()))
def test_no_url_breaks_the_page(params: dict[str, str]) -> None:
    state, problems = parse(params, NOW)
    state.window(NOW)
    assert state.page in PAGES
    assert all(problem.endswith(".") for problem in problems)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"page": "../admin"}, "no page"),
        ({"trace": "'; DROP TABLE spans"}, "32 hexadecimal"),
        ({"route": "/x" * 400}, "longer than"),
        ({"service": "a\x00b"}, "control characters"),
        ({"since": "yesterday"}, "is no time"),
        ({"since": "1h", "until": "2h"}, "window is empty"),
        ({"since": "365d"}, "at most 31"),
        ({"since": "0001-01-01T00:00:00+14:00"}, "window"),
    ],
)
def test_what_is_wrong_in_a_url_is_named_and_left_out(params: dict[str, str], words: str) -> None:
    state, problems = parse(params, NOW)
    assert words in " ".join(problems)
    assert state == State()


def test_a_window_is_whole_minutes() -> None:
    window = State(since="1h").window(NOW)
    assert window.until == NOW.replace(second=0)
    assert window.until - window.since == timedelta(hours=1)


def test_a_view_reads_only_the_zones_of_its_viewer() -> None:
    viewer = Viewer("ana", (("eu", "spans"),))
    assert [zone.name for zone in scope(State(), ZONES, viewer)] == ["eu"]
    assert [zone.name for zone in scope(State(region="eu-west-1"), ZONES, viewer)] == ["eu"]
    for state in (State(zone="us"), State(region="us-east-1"), State(zone="nowhere")):
        with pytest.raises(ForbiddenError):
            scope(state, ZONES, viewer)

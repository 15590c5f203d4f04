"""No single request is shown before its zone has written down who looks, and why where it asks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from mobius_instrumentation.zones import Zone
from mobius_pipeline.options import format_time
from mobius_pipeline.residency.audit import RecordedRead, load_reads
from mobius_pipeline.store import Purpose, connect
from tests.conftest import ZoneFactory
from tests.dashboards.page import APP
from tests.dashboards.sample_rows import Story, fill
from tests.faulty_proxy import Failure, faulty_proxy

pytestmark = pytest.mark.store

ROW = "SELECT shop"  # the name of a span that only a waterfall shows
MINUTES = 10


@dataclass
class Watched:
    """A zone behind a proxy that writes down what is asked, and can refuse what is written down about reads."""

    zone: Zone
    trace: str = ""
    window: dict[str, str] = field(default_factory=dict)
    asked: list[bytes] = field(default_factory=list)
    refuse: bool = False

    def plan(self, request: bytes) -> Failure | None:
        self.asked.append(request)
        return "503" if self.refuse and b"INSERT INTO" in request else None

    @property
    def reads(self) -> tuple[RecordedRead, ...]:
        now = datetime.now(UTC)
        return load_reads(self.zone, now - timedelta(hours=1), now + timedelta(minutes=1))

    def order(self) -> list[str]:
        """What was asked for that matters here, in its order."""
        found = []
        for text in self.asked:
            if b"INSERT INTO" in text and b"audit_log" in text:
                found.append("audit")
            elif b"WHERE trace_id = toFixedString" in text:
                found.append("trace")
        return found


@pytest.fixture
def watched(
    zone_factory: ZoneFactory,
    zones_file_factory: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Watched]:
    """A zone that asks for a reason, with one endpoint; looked at by `ana`."""
    made = zone_factory("eu", ("eu-west-1",), topics=False)
    watched = Watched(made)
    since = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=MINUTES + 5)
    client = connect(made, Purpose.INGEST)
    stories = [Story("GET", "/search", 40, 60)]
    watched.trace = fill(client, made.regions, since, MINUTES, stories=stories)[0]
    client.close()
    watched.window = {
        "since": format_time(since),
        "until": format_time(since + timedelta(minutes=MINUTES)),
    }
    with faulty_proxy(made.clickhouse, watched.plan) as url:
        watched.zone = Zone(made.name, made.regions, ("127.0.0.1:9",), url, made.database)
        file = zones_file_factory(watched.zone)
        file.write_text(file.read_text() + "reason_for_rows = true\n", encoding="utf-8")
        monkeypatch.setenv("MOBIUS_CONFIG", str(file))
        monkeypatch.setenv("MOBIUS_VIEWER", "ana")
        for name in ("MOBIUS_VIEWER_ZONES", "MOBIUS_VIEWER_LEVEL"):
            monkeypatch.delenv(name, raising=False)
        st.cache_data.clear()
        yield watched
    st.cache_data.clear()


def page(**params: str) -> AppTest:
    app = AppTest.from_file(APP, default_timeout=60)
    for name, value in params.items():
        app.query_params[name] = value
    return app.run()


def html_of(app: AppTest) -> str:
    assert not app.exception, app.exception
    return "\n".join(element.proto.body for element in app.get("html"))


def answer(app: AppTest, reason: str) -> AppTest:
    """Give a reason in the form that asks for it."""
    app.text_input[0].input(reason)
    return next(button for button in app.button if button.label == "Show them").click().run()


def test_a_trace_is_shown_once_its_reason_is_written_down(watched: Watched) -> None:
    app = page(page="trace", trace=watched.trace)
    html = html_of(app)
    assert "Why do you look" in html
    assert ROW not in html
    assert watched.order() == []
    html = html_of(answer(app, "   "))  # no reason is none
    assert ROW not in html
    assert watched.order() == []
    html = html_of(answer(app, "ticket 42: slow <search>"))
    assert ROW in html
    assert watched.order() == ["audit", "trace"]
    [read] = watched.reads
    assert (read.viewer, read.subject, read.action) == ("ana", None, "trace")
    assert read.rows == {"trace": watched.trace}
    assert read.reason == "ticket 42: slow <search>"


def test_a_cached_trace_is_written_down_again(watched: Watched) -> None:
    app = answer(page(page="trace", trace=watched.trace), "ticket 42")
    assert ROW in html_of(app.run())
    assert watched.order() == ["audit", "trace", "audit"]


def test_what_cannot_be_written_down_is_not_shown(watched: Watched) -> None:
    app = answer(page(page="trace", trace=watched.trace), "ticket 42")
    assert ROW in html_of(app)  # and so it is in the cache
    watched.refuse = True
    html = html_of(app.run())
    assert ROW not in html
    assert watched.trace[:8] not in html.replace(watched.trace, "")
    assert "does not answer" in html


def test_examples_are_written_down_with_their_filter(watched: Watched) -> None:
    app = page(page="endpoint", method="GET", route="/search", region="eu-west-1", **watched.window)
    assert "page=trace" not in html_of(app)
    assert watched.order() == []
    assert "page=trace" in html_of(answer(app, "why is it slow"))
    reads = watched.reads
    assert {read.rows["source"] for read in reads} == {"real", "synthetic"}
    for read in reads:
        assert read.action == "examples"
        assert read.rows["route"] == "/search"
        assert read.rows["region"] == "eu-west-1"
        assert read.reason == "why is it slow"


def test_where_no_reason_is_asked_reads_are_written_down_without(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Path(os.environ["MOBIUS_CONFIG"])
    file.write_text(file.read_text().replace("reason_for_rows = true", ""), encoding="utf-8")
    assert ROW in html_of(page(page="trace", trace=watched.trace))
    [read] = watched.reads
    assert read.reason is None

"""The span of a process, and the instrumentations of clients with what they lack."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from sqlalchemy import text
from sqlalchemy.pool import QueuePool

from mobius_instrumentation.allowlist import AttributePolicy
from mobius_instrumentation.attach import attach
from mobius_instrumentation.blocked_stack import BlockedStackSampler
from mobius_instrumentation.client_instrumentations import _cache_answer, instrument_clients
from mobius_instrumentation.loop_monitor import LoopMonitor
from mobius_instrumentation.measures import RUNTIME_MEASURES
from mobius_instrumentation.query_summary import query_summary
from mobius_instrumentation.runtime import NAME, RuntimeReporter
from mobius_instrumentation.sampling import ConsistentSampler
from mobius_instrumentation.spans import LightTracerProvider
from mobius_instrumentation.stats import ExportStats
from mobius_instrumentation.synthetic import SyntheticTraffic
from mobius_instrumentation.testing import RecordedSpan, SpanRecorder


def get(app: Any, path: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://shop.test"
        ) as client:
            return await client.get(path)

    return asyncio.run(ask())


class Traced:
    """An application with every part of tracing but the broker; its sampler keeps nothing by chance."""

    def __init__(self, ratio: float = 1) -> None:
        self.app = FastAPI()
        self.recorder = SpanRecorder()
        self.provider = LightTracerProvider(
            sampler=ConsistentSampler(ratio), shutdown_on_exit=False
        )
        self.provider.add_span_processor(self.recorder)
        monitor = LoopMonitor()
        self.runtime = RuntimeReporter(
            self.provider,
            monitor,
            lambda: ExportStats(9, 4, {"queue_full": 2}, 3),
            0.05,
            BlockedStackSampler(),
        )
        attach(
            self.app,
            self.provider,
            SyntheticTraffic(None),
            allowed=AttributePolicy().allowed,
            monitor=monitor,
            runtime=self.runtime,
        )

    def named(self, name: str) -> list[RecordedSpan]:
        return [span for span in self.recorder.spans if span.name == name]

    def wait_for(self, name: str, number: int) -> list[RecordedSpan]:
        deadline = time.monotonic() + 20
        while len(self.named(name)) < number and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.named(name)


@pytest.fixture
def traced() -> Iterator[Traced]:
    made = Traced()
    yield made
    made.runtime.stop()


@pytest.fixture
def clients() -> Iterator[None]:
    yield
    SQLAlchemyInstrumentor().uninstrument()
    HTTPXClientInstrumentor().uninstrument()


def test_a_process_says_how_it_fares(traced: Traced) -> None:
    @traced.app.get("/busy")
    async def busy() -> None:
        await asyncio.sleep(0.03)
        time.sleep(0.2)  # noqa: ASYNC251  # that is the point
        await asyncio.sleep(0.05)

    get(traced.app, "/busy")
    spans = traced.wait_for(NAME, 3)
    assert {span.kind for span in spans} == {1}, "internal: no request"
    assert not any(span.parent_span_id for span in spans)
    assert all(first.end_ns >= first.start_ns + 50_000_000 for first in spans)
    names = set().union(*(span.attributes for span in spans))
    assert names <= set(RUNTIME_MEASURES), "all are documented, and so allowed"
    expected = {"mobius.process.memory", "mobius.threads.size", "mobius.export.dropped.queue_full"}
    assert expected <= names

    def total(name: str) -> float:
        return float(sum(span.attributes[name] for span in spans))

    assert total("mobius.requests.count") == 1
    assert max(span.attributes["mobius.requests.in_flight.max"] for span in spans) == 1
    assert total("mobius.loop.lag.duration") >= 0.15
    assert max(s.attributes["mobius.loop.lag.max.duration"] for s in spans) >= 0.15
    assert total("mobius.process.cpu.duration") > 0
    assert spans[0].attributes["mobius.export.sent"] == 4
    assert spans[0].attributes["mobius.process.memory"] > 10_000_000


def test_a_request_that_holds_the_loop_says_where(traced: Traced) -> None:
    def holds_it() -> None:
        time.sleep(0.4)

    @traced.app.get("/holds")
    async def holds() -> None:
        holds_it()

    get(traced.app, "/holds")
    (request,) = traced.named("GET /holds")
    stack = request.attributes["mobius.loop.blocked.stack"].splitlines()
    assert "holds_it (instrumentation/test_runtime_and_clients.py:" in stack[0]
    assert ".holds (instrumentation/test_runtime_and_clients.py:" in stack[1]
    assert "site-packages" not in stack[0]
    assert request.attributes["mobius.loop.blocked.duration"] >= 0.4


def test_sampling_does_not_touch_it() -> None:
    traced = Traced(ratio=0)

    @traced.app.get("/")
    async def root() -> None: ...

    get(traced.app, "/")
    assert traced.wait_for(NAME, 2)
    traced.runtime.stop()
    assert {span.name for span in traced.recorder.spans} == {NAME}


def test_sqlalchemy_has_calls_waits_pools_and_summaries(
    traced: Traced, clients: None, tmp_path: Path
) -> None:
    assert instrument_clients(traced.provider, ["sqlalchemy"]) == ["sqlalchemy"]
    assert instrument_clients(traced.provider, ["sqlalchemy"]) == [], "once"
    engine = sqlalchemy.create_engine(
        f"sqlite:///{tmp_path / 'shop'}", poolclass=QueuePool, pool_size=1, max_overflow=0
    )
    held = threading.Event()

    @traced.app.get("/orders")
    def orders() -> int:
        with engine.connect() as connection:
            held.set()
            time.sleep(0.2)
            secret = text("SELECT name FROM sqlite_master WHERE name = 'jane@example.org'")
            return len(connection.execute(secret).all())

    async def ask() -> None:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(traced.app), base_url="http://shop.test"
        ) as client:
            await asyncio.gather(client.get("/orders"), client.get("/orders"))

    asyncio.run(ask())
    requests = traced.named("GET /orders")
    waits = sorted(r.attributes["mobius.client.connection.duration"] for r in requests)
    assert waits[1] >= 0.1, "the second waited for the only connection"
    assert [r.attributes["mobius.client.database.calls"] for r in requests] == [1, 1]
    summaries = {s.attributes.get("db.query.summary") for s in traced.recorder.spans}
    assert "SELECT sqlite_master" in summaries
    assert "jane" not in str(traced.recorder.spans)
    runtime = traced.wait_for(NAME, 3)
    assert max(s.attributes.get("mobius.pool.size", 0) for s in runtime) == 1
    assert max(s.attributes.get("mobius.pool.in_use", 0) for s in runtime) == 1
    assert max(s.attributes.get("mobius.pool.waiting", 0) for s in runtime) == 1
    engine.dispose()


def test_httpx_counts_as_http(traced: Traced, clients: None) -> None:
    assert instrument_clients(traced.provider, ["httpx"]) == ["httpx"]

    @traced.app.get("/buy")
    async def buy() -> None:
        async with httpx.AsyncClient() as client:
            with pytest.raises(httpx.ConnectError):
                await client.get("http://127.0.0.1:1/price")

    get(traced.app, "/buy")
    (request,) = traced.named("GET /buy")
    assert request.attributes["mobius.client.http.calls"] == 1
    assert request.attributes["mobius.client.http.duration"] > 0


def test_what_is_not_installed_is_passed_over(traced: Traced) -> None:
    assert instrument_clients(traced.provider, ["asyncpg", "psycopg", "redis"]) == []


@pytest.mark.parametrize(
    ("name", "answer", "hit"),
    [
        ("GET", b"x", True),
        ("GET", None, False),
        ("HGET", None, False),
        ("SET", True, None),
        ("DEL", None, None),
    ],
)
def test_a_read_of_a_cache_hits_or_misses(
    traced: Traced, name: str, answer: object, hit: bool | None
) -> None:
    span = traced.provider.get_tracer("redis").start_span(name)
    _cache_answer(span, None, answer)
    span.end()
    (recorded,) = traced.recorder.spans
    assert recorded.attributes.get("mobius.cache.hit") is hit


@pytest.mark.parametrize(
    ("statement", "summary"),
    [
        ("SELECT * FROM orders WHERE id = 7", "SELECT orders"),
        ("select a from shop.orders o join lines l on o.id = l.id", "SELECT shop.orders lines"),
        ("INSERT INTO \"orders\" (a) VALUES ('x')", "INSERT orders"),
        ("UPDATE ONLY orders SET a = 'FROM jane'", "UPDATE orders"),
        ("DELETE FROM orders -- FROM jane", "DELETE orders"),
        ("WITH x AS (SELECT 1 FROM a) SELECT * FROM x", "WITH a x"),
        ("SELECT 1 /* FROM jane */", "SELECT"),
        ("SELECT $$ FROM jane $$", "SELECT"),
        ("SELECT 'it''s FROM jane' FROM a", "SELECT a"),
        ("SELECT 'open FROM jane", "SELECT"),
        ("(SELECT 1)", "SELECT"),
        ("", None),
        ("jane", None),
        ("SELECT * FROM " + ", ".join(f"t{n}" for n in range(9)), "SELECT t0"),
        (
            " JOIN ".join(f"{'SELECT * FROM ' if not n else ''}table_{n:050}" for n in range(9)),
            None,
        ),
    ],
)
def test_a_summary_names_verb_and_tables(statement: str, summary: str | None) -> None:
    got = query_summary(statement)
    if len(statement) > 400:
        assert got is not None
        assert len(got) <= 255
    else:
        assert got == summary


@given(st.text(max_size=30), st.sampled_from(["'{}'", "$${}$$", "/*{}*/", "-- {}\n", "$t${}$t$"]))
def test_no_value_gets_into_a_summary(secret: str, quoted: str) -> None:
    for mark in ("'", "$", "*/", "\n"):
        secret = secret.replace(mark, "")
    statement = f"SELECT a FROM b WHERE c = {quoted.format(f' FROM {secret}secret JOIN {secret}')}"
    assert query_summary(statement) == "SELECT b"

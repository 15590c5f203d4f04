"""What a server span says of its request: waits, event loop, client calls; and that nothing else changes."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio.to_thread
import httpx
import numpy as np
import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, HTTPException, Request, WebSocket
from fastapi.responses import StreamingResponse
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.trace import SpanKind

from mobius_instrumentation.headers import proxy_wait_seconds
from mobius_instrumentation.measures import REQUEST_MEASURES
from mobius_instrumentation.testing import RecordedSpan, SpanRecorder, record_spans


def run(app: Any, *paths: str, headers: dict[str, str] | None = None) -> list[httpx.Response]:
    """Ask for all paths at the same time."""

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
            return await asyncio.gather(*(client.get(path, headers=headers) for path in paths))

    return asyncio.run(ask())


def calls(recorder: SpanRecorder, *spans: tuple[str, dict[str, str], int, int]) -> None:
    """Make client spans of given names, attributes, starts and ends (ms) in the running request."""
    assert recorder.tracer_provider is not None
    tracer = recorder.tracer_provider.get_tracer("driver")
    for name, attributes, start, end in spans:
        span = tracer.start_span(
            name, kind=SpanKind.CLIENT, attributes=attributes, start_time=start * 1_000_000
        )
        span.end(end * 1_000_000)


def test_calls_at_the_same_time_count_once_and_by_kind() -> None:
    app = FastAPI()
    recorder: SpanRecorder

    @app.get("/buy")
    async def buy() -> None:
        calls(
            recorder,
            ("SELECT", {"db.system.name": "postgresql"}, 0, 30),
            ("SELECT", {"db.system": "postgresql"}, 20, 40),
            ("SELECT", {"db.system": "postgresql"}, 60, 70),
            ("GET", {"db.system": "redis"}, 70, 71),
            ("GET", {"http.request.method": "GET"}, 0, 5),
            ("send", {"messaging.system": "kafka"}, 0, 2),
        )

    with record_spans(app) as recorder:
        run(app, "/buy")
    got = recorder.one(route="/buy").attributes
    client = {k.removeprefix("mobius.client."): v for k, v in got.items() if ".client." in k}
    assert client == pytest.approx(
        {
            "database.duration": 0.050,
            "database.calls": 3,
            "cache.duration": 0.001,
            "cache.calls": 1,
            "http.duration": 0.005,
            "http.calls": 1,
            "other.duration": 0.002,
            "other.calls": 1,
        }
    )
    assert set(got) >= {"mobius.requests.in_flight", "mobius.queue.duration"}
    assert {k for k in got if k.startswith("mobius.")} <= set(REQUEST_MEASURES)


def test_a_drivers_span_inside_an_orms_is_no_second_call() -> None:
    app = FastAPI()
    recorder: SpanRecorder

    @app.get("/buy")
    async def buy() -> None:
        assert recorder.tracer_provider is not None
        tracer = recorder.tracer_provider.get_tracer("orm")
        system = {"db.system": "sqlite"}
        with tracer.start_as_current_span("orm", kind=SpanKind.CLIENT, attributes=system):
            calls(recorder, ("driver", system, 0, 1))

    with record_spans(app) as recorder:
        run(app, "/buy")
    assert recorder.one(route="/buy").attributes["mobius.client.database.calls"] == 1


def test_thousands_of_calls_keep_their_number_and_a_bounded_memory() -> None:
    app = FastAPI()
    recorder: SpanRecorder

    @app.get("/buy")
    async def buy() -> None:
        system = {"db.system": "sqlite"}
        calls(recorder, *(("q", system, at, at + 1) for at in range(0, 10_000, 2)))

    with record_spans(app) as recorder:
        run(app, "/buy")
    got = recorder.one(route="/buy").attributes
    assert got["mobius.client.database.calls"] == 5_000
    assert 5 <= got["mobius.client.database.duration"] <= 10


def test_who_blocks_the_loop_is_told_from_who_waits_for_it() -> None:
    app = FastAPI()

    @app.get("/blocks")
    async def blocks() -> None:
        await asyncio.sleep(0.03)
        time.sleep(0.3)  # noqa: ASYNC251  # that is the point

    @app.get("/waits")
    async def waits() -> None:
        await asyncio.sleep(0.05)

    with record_spans(app) as recorder:
        run(app, "/blocks", "/waits")
    blocks_, waits_ = (recorder.one(route=r).attributes for r in ("/blocks", "/waits"))
    assert blocks_["mobius.loop.blocked.duration"] >= 0.3
    assert blocks_["mobius.loop.held.duration"] >= 0.3
    assert waits_["mobius.loop.held.duration"] < blocks_["mobius.loop.held.duration"]
    assert waits_["mobius.loop.lag.duration"] >= 0.2
    assert blocks_.get("mobius.loop.lag.duration", 0) < waits_["mobius.loop.lag.duration"]
    assert {blocks_["mobius.requests.in_flight"], waits_["mobius.requests.in_flight"]} == {1, 2}


def test_garbage_collection_is_apart() -> None:
    app = FastAPI()

    @app.get("/litters")
    async def litters() -> None:
        rubbish: list[Any] = [[] for _ in range(300_000)]
        gc.collect()
        del rubbish

    with record_spans(app) as recorder:
        run(app, "/litters")
    assert recorder.one(route="/litters").attributes["mobius.loop.gc.duration"] > 0.0005


def test_a_handler_that_waits_for_a_thread_says_so() -> None:
    app = FastAPI()

    @app.get("/thread/{number}")
    def thread(number: int) -> int:
        time.sleep(0.1)
        return number

    async def ask() -> None:
        anyio.to_thread.current_default_thread_limiter().total_tokens = 1
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
            await asyncio.gather(*(client.get(f"/thread/{n}") for n in range(3)))

    with record_spans(app) as recorder:
        asyncio.run(ask())
    # One thread: where a queue ends, the handler before has slept its 0.1 s.
    begun = sorted(s.start_ns / 1e9 + s.attributes["mobius.queue.duration"] for s in recorder.spans)
    assert min(np.diff(begun)) >= 0.099
    assert max(s.attributes["mobius.queue.thread.duration"] for s in recorder.spans) >= 0.05
    assert all(
        s.end_ns - s.start_ns >= (s.attributes["mobius.queue.duration"] + 0.1) * 1e9
        for s in recorder.spans
    )


def test_dependencies_run_before_the_handler_and_count_as_queue() -> None:
    async def slow() -> None:
        await asyncio.sleep(0.05)

    app = FastAPI()

    @app.get("/", dependencies=[Depends(slow)])
    async def root() -> None:
        await asyncio.sleep(0.05)

    with record_spans(app) as recorder:
        run(app, "/")
    (span,) = recorder.spans
    queue = span.attributes["mobius.queue.duration"]
    assert 0.05 <= queue <= (span.end_ns - span.start_ns) / 1e9 - 0.05


@pytest.mark.parametrize(
    ("written", "waited"),
    [
        (b"t=%.3f", 1.0),
        (b"%.3f", 1.0),
        (b"%d", 1.0),
        (b"t=%d000", 1.0),
        (b"t=%d000000", 1.0),
        (b"%d000000000", 1.0),
        (b"t=%d, t=1", 1.0),
    ],
)
def test_a_proxys_start_is_read_in_every_usual_unit(written: bytes, waited: float) -> None:
    header = written % (time.time() - waited)
    for name in (b"x-request-start", b"x-queue-start"):
        got = proxy_wait_seconds({name: header})
        assert got is not None
        assert waited - 0.01 <= got < waited + 2


@pytest.mark.parametrize(
    "written", [b"", b"t=", b"now", b"-5", b"99999999999999999999", b"1" * 400, b"t=1e9", b"\xff"]
)
def test_a_proxys_nonsense_is_no_wait(written: bytes) -> None:
    assert proxy_wait_seconds({b"x-request-start": written}) is None
    future = str(int(time.time()) + 100).encode()
    assert proxy_wait_seconds({b"x-request-start": future}) is None


def test_the_proxys_wait_is_on_the_span() -> None:
    app = FastAPI()

    @app.get("/")
    async def root() -> None: ...

    with record_spans(app) as recorder:
        run(app, "/", headers={"x-request-start": f"t={time.time() - 3:.3f}"})
    assert 3 <= recorder.one(route="/").attributes["mobius.queue.proxy.duration"] < 10


def test_the_route_is_whole_wherever_it_is_defined() -> None:
    inner, outer, sub, app = APIRouter(prefix="/v1"), APIRouter(prefix="/api"), FastAPI(), FastAPI()

    @inner.get("/orders/{order_id}")
    @sub.get("/orders/{order_id}")
    async def order(order_id: int) -> int:
        return order_id

    outer.include_router(inner)
    app.include_router(outer, prefix="/shop")
    app.mount("/mounted", sub)
    with record_spans(app) as recorder:
        run(app, "/shop/api/v1/orders/1", "/mounted/orders/2", "/nothing", "/mounted/nothing")
    assert sorted((s.name, s.route or "") for s in recorder.spans) == [
        ("GET", ""),
        ("GET /mounted", "/mounted"),
        ("GET /mounted/orders/{order_id}", "/mounted/orders/{order_id}"),
        ("GET /shop/api/v1/orders/{order_id}", "/shop/api/v1/orders/{order_id}"),
    ]


def test_a_stream_lasts_until_its_last_byte_and_work_behind_it_does_not_count() -> None:
    app = FastAPI()
    recorder: SpanRecorder
    done: list[int] = []

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            await asyncio.sleep(0.03)
            yield b"x"

    async def later() -> None:
        done.append(time.time_ns())
        await asyncio.sleep(0.01)
        calls(recorder, ("later", {}, 0, 1))

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(chunks())

    @app.get("/behind")
    async def behind(tasks: BackgroundTasks) -> None:
        tasks.add_task(later)

    with record_spans(app) as recorder:
        run(app, "/stream", "/behind")
    streamed, behind_ = recorder.one(route="/stream"), recorder.one(route="/behind")
    assert streamed.end_ns - streamed.start_ns >= 0.09e9
    assert behind_.end_ns <= done[0]
    assert recorder.one(name="later").parent_span_id == behind_.span_id


def test_failures_have_their_type_and_answers_their_status() -> None:
    app = FastAPI()

    @app.get("/answers")
    async def answers() -> None:
        raise HTTPException(503, "Jane's shop is closed")

    @app.get("/fails")
    async def fails() -> None:
        raise KeyError("Jane")

    @app.get("/breaks")
    async def breaks() -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"x"
            raise RuntimeError("Jane")

        return StreamingResponse(chunks())

    with record_spans(app) as recorder:
        run(app, "/answers", "/fails", "/breaks")
    spans = {s.route: s for s in recorder.spans}

    def facts(route: str) -> tuple[Any, ...]:
        span: RecordedSpan = spans[route]
        events = [event[1].get("exception.type") for event in span.events]
        return span.status, span.status_code, span.attributes.get("error.type"), events

    assert facts("/answers") == (503, 2, "503", [])
    assert facts("/fails") == (500, 2, "KeyError", ["KeyError"])
    assert facts("/breaks") == (200, 2, "RuntimeError", ["RuntimeError"])
    assert "Jane" not in str(recorder.spans)


def test_a_request_that_its_client_gave_up_ends_without_a_status() -> None:
    app = FastAPI()
    reached = asyncio.Event()

    @app.get("/slow")
    async def slow() -> None:
        reached.set()
        await asyncio.sleep(60)

    async def ask() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
            task = asyncio.create_task(client.get("/slow"))
            await reached.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with record_spans(app) as recorder:
        asyncio.run(ask())
    span = recorder.one(route="/slow")
    assert (span.status, span.status_code, span.events) == (None, 0, ())


def test_middleware_of_the_application_sees_the_same_request_and_answer() -> None:
    app = FastAPI()

    @app.middleware("http")
    async def stamp(request: Request, call_next: Callable[[Request], Awaitable[Any]]) -> Any:
        response = await call_next(request)
        response.headers["x-path"] = request.url.path
        return response

    @app.get("/seen")
    async def seen() -> int:
        return 7

    with record_spans(app) as recorder:
        (response,) = run(app, "/seen")
    assert (response.json(), response.headers["x-path"]) == (7, "/seen")
    assert recorder.one(route="/seen").attributes["mobius.queue.duration"] > 0


def test_a_websocket_is_one_span_without_a_method() -> None:
    app = FastAPI()

    @app.websocket("/talk/{name}")
    async def talk(socket: WebSocket, name: str) -> None:
        await socket.accept()
        await socket.send_text(f"{await socket.receive_text()} {name}")
        await socket.close()

    heard: list[dict[str, Any]] = []
    told = iter([{"type": "websocket.connect"}, {"type": "websocket.receive", "text": "hello"}])
    scope = {"type": "websocket", "path": "/talk/jane", "headers": [], "query_string": b""}

    async def receive() -> dict[str, Any]:
        return next(told)

    async def send(message: Any) -> None:
        heard.append(message)

    with record_spans(app) as recorder:
        asyncio.run(app({**scope, "scheme": "ws", "subprotocols": []}, receive, send))
    assert [m.get("text") for m in heard if m["type"] == "websocket.send"] == ["hello jane"]
    (span,) = recorder.spans
    assert (span.name, span.route, span.status) == ("/talk/{name}", "/talk/{name}", 101)
    assert "http.request.method" not in span.attributes


def test_nobody_instruments_what_is_instrumented(caplog: pytest.LogCaptureFixture) -> None:
    app = FastAPI()

    @app.get("/")
    async def root() -> None: ...

    with record_spans(app) as recorder:
        FastAPIInstrumentor.instrument_app(app)
        run(app, "/")
    assert len(recorder.spans) == 1
    assert "already instrumented" in caplog.text
    run(app, "/")
    assert len(recorder.spans) == 1, "and afterwards it is as it was"

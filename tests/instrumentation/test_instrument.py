"""instrument() on real applications, with spans read back from the real broker where they travel."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException
from opentelemetry import trace
from opentelemetry.instrumentation.httpx import AsyncOpenTelemetryTransport
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from mobius_instrumentation import ConfigurationError, ExportStats, Instrumentation, instrument
from mobius_instrumentation.marker import sign
from mobius_instrumentation.testing import RecordedSpan, record_spans

if TYPE_CHECKING:
    from mobius_instrumentation.zones import Zones
    from tests.instrumentation.conftest import ReadTopic, ZonesOf

KEY = "secret"
NEVER = 9_999_999_999


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("MOBIUS_") or (name.startswith("OTEL_") and "SEMCONV" not in name):
            monkeypatch.delenv(name)
    monkeypatch.setenv(
        "MOBIUS_RUNTIME_INTERVAL_MS", "0"
    )  # its spans would be counted with the others


def shop() -> FastAPI:
    app = FastAPI()

    @app.get("/orders/{order_id}")
    async def order(order_id: int) -> int:
        trace.get_current_span().set_attribute("customer.name", "Jane")
        if order_id == 0:
            raise HTTPException(404, "no order of Jane's")
        if order_id < 0:
            raise ValueError("Jane's order cannot be negative")
        return order_id

    return app


def get(app: Any, *paths: str, headers: dict[str, str] | None = None) -> list[int]:
    async def run() -> list[int]:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
            return [(await client.get(path, headers=headers)).status_code for path in paths]

    return asyncio.run(run())


@pytest.mark.kafka
def test_requests_become_server_spans_in_the_topic_of_their_zone(
    broker: str, topic: str, zones_of: ZonesOf, read_topic: ReadTopic
) -> None:
    app = shop()
    instrumentation = instrument(
        app,
        zones=zones_of(broker),
        region="eu-central-1",
        service_name="shop",
        service_version="1.4.0",
        environment="production",
        instance_id="shop-1",
        synthetic_key=KEY,
    )
    paths = ("/orders/7?name=jane", "/orders/0", "/orders/-1", "/nothing?name=jane")
    assert get(app, *paths) == [200, 404, 500, 404]
    marker = sign("run-1", "smoke", key=KEY, expires=NEVER)
    get(app, "/orders/8", headers={"baggage": f"mobius-synthetic={marker}"})
    get(app, "/orders/9", headers={"user-agent": "k6/1.0"})
    assert instrumentation.force_flush(20)
    instrumentation.shutdown(5)
    stats = instrumentation.stats()
    assert (stats.accepted, stats.sent, stats.pending, stats.dropped) == (6, 6, 0, {})
    assert stats.attributes_removed == 5, "the name that the handler sets, each time"
    assert instrumentation.zone is not None
    assert instrumentation.zone.spans_topic == topic

    spans = sorted((s for _, m in read_topic(broker, topic) for s in m), key=lambda s: s.start_ns)
    assert [s.kind for s in spans] == [2] * 6, "server spans only: no child for each ASGI message"
    route = "/orders/{order_id}"
    assert [s.route for s in spans] == [route, route, route, None, route, route]
    assert [s.status for s in spans] == [200, 404, 500, 404, 200, 200]
    assert [s.attributes["http.request.method"] for s in spans] == ["GET"] * 6
    assert [s.attributes.get("mobius.test.run") for s in spans] == [None] * 4 + ["run-1", None]
    assert [s.attributes.get("user_agent.synthetic.type") for s in spans[3:]] == [
        None,
        "test",
        "test",
    ]
    failed = spans[2]
    assert failed.status_code == 2
    assert failed.status_message == ""
    assert [event[1].get("exception.type") for event in failed.events] == ["ValueError"]
    assert "jane" not in str(spans).lower()
    assert all(s.start_ns < s.end_ns for s in spans)
    expected = {
        "service.name": "shop",
        "service.version": "1.4.0",
        "cloud.region": "eu-central-1",
        "deployment.environment.name": "production",
        "service.instance.id": "shop-1",
    }
    for span in spans:
        assert {k: span.resource[k] for k in expected} == expected


@pytest.mark.kafka
def test_everything_can_come_from_the_environment(
    *,
    broker: str,
    topic: str,
    zone_name: str,
    read_topic: ReadTopic,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    map_file = tmp_path / "zones.toml"
    map_file.write_text(
        f'[zones.{zone_name}]\nregions = ["eu-west-1"]\nkafka = ["{broker}"]\n'
        'clickhouse = "http://127.0.0.1:1"\n'
    )
    monkeypatch.setenv("MOBIUS_CONFIG", str(map_file))
    monkeypatch.setenv("OTEL_SERVICE_NAME", "named-by-otel")
    monkeypatch.setenv(
        "OTEL_RESOURCE_ATTRIBUTES", "cloud.region=eu-west-1,service.version=9,secret.note=jane"
    )
    monkeypatch.setenv("MOBIUS_ATTRIBUTES", "url.path")
    app = shop()
    instrumentation = instrument(app)
    get(app, "/orders/7?name=jane")
    assert instrumentation.force_flush(20)
    instrumentation.shutdown(5)
    ((_, (span,)),) = read_topic(broker, topic)
    assert span.resource["service.name"] == "named-by-otel"
    assert span.resource["service.version"] == "9"
    assert span.resource["service.instance.id"]
    assert span.attributes["url.path"] == "/orders/7"
    assert "jane" not in str(span)


def test_plain_starlette_has_routes_too() -> None:
    async def hello(_: Any) -> PlainTextResponse:
        return PlainTextResponse("hello")

    app = Starlette(routes=[Route("/hello/{name}", hello)])
    with record_spans(app) as recorded:
        assert get(app, "/hello/jane") == [200]
    assert recorded.one(route="/hello/{name}").status == 200


def test_a_broker_that_is_away_harms_no_request(zones_of: ZonesOf) -> None:
    app = shop()
    instrumentation = instrument(
        app, zones=zones_of("127.0.0.1:1"), region="eu-west-1", service_name="s", max_queue_spans=30
    )
    assert get(app, *["/orders/7"] * 50) == [200] * 50
    stats = instrumentation.stats()
    assert (stats.accepted, stats.sent, stats.pending) == (50, 0, 30)
    assert stats.dropped == {"queue_full": 20}
    instrumentation.shutdown(0.2)
    stats = instrumentation.stats()
    assert stats.dropped == {"queue_full": 20, "shutdown": 30}
    assert get(app, "/orders/7") == [200]
    assert instrumentation.stats().dropped["after_shutdown"] == 1


def test_the_marker_reaches_services_behind_through_stock_propagators() -> None:
    behind, front = shop(), FastAPI()
    with record_spans(behind, synthetic_key=KEY) as inner:
        transport = AsyncOpenTelemetryTransport(httpx.ASGITransport(behind))

        @front.get("/buy/{order_id}")
        async def buy(order_id: int) -> int:
            async with httpx.AsyncClient(transport=transport, base_url="http://behind") as client:
                return (await client.get(f"/orders/{order_id}")).status_code

        with record_spans(front, synthetic_key=KEY) as outer:
            marker = sign("run-2", "smoke", key=KEY, expires=NEVER)
            get(front, "/buy/1", headers={"baggage": f"other=1,mobius-synthetic={marker}"})
            get(front, "/buy/2", headers={"user-agent": "k6/1.0"})
            get(front, "/buy/3")
    keys = ("mobius.test.run", "user_agent.synthetic.type")

    def marks(spans: list[RecordedSpan]) -> list[tuple[str | None, ...]]:
        return [tuple(span.attributes.get(key) for key in keys) for span in spans]

    expected = [("run-2", "test"), (None, "test"), (None, None)]
    assert marks(outer.spans) == expected
    assert marks(inner.spans) == expected


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"zones": None}, r"zones: no residency map.*MOBIUS_CONFIG"),
        ({"zones": "/nowhere/zones.toml"}, r"zones: /nowhere/zones\.toml: -: cannot be read"),
        ({"region": None}, r"region: none given.*the-map\.toml: eu-west-1, eu-central-1"),
        ({"region": "mars-1"}, r"'mars-1' is in no zone.*the-map\.toml: eu-west-1, eu-central-1"),
    ],
)
def test_a_wrong_configuration_is_refused_with_what_to_do(
    zones_of: ZonesOf, arguments: dict[str, Any], says: str
) -> None:
    app = shop()
    with pytest.raises(ConfigurationError, match=says):
        instrument(app, **{"zones": zones_of("127.0.0.1:1"), "region": "eu-west-1", **arguments})
    assert not app.user_middleware
    assert get(app, "/orders/7") == [200]


def start(app: FastAPI, zones: Zones) -> Instrumentation:
    return instrument(app, zones=zones, region="eu-west-1", service_name="s")


def test_an_application_that_serves_or_is_instrumented_is_refused(zones_of: ZonesOf) -> None:
    zones = zones_of("127.0.0.1:1")
    app = shop()
    get(app, "/orders/7")
    with pytest.raises(ConfigurationError, match="it serves already"):
        start(app, zones)
    app = shop()
    start(app, zones)
    with pytest.raises(ConfigurationError, match="once"):
        start(app, zones)


@pytest.mark.parametrize(
    ("name", "value"), [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")]
)
def test_disabled_it_touches_nothing(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    app = shop()
    instrumentation = instrument(app)
    assert get(app, "/orders/7") == [200]
    assert not app.user_middleware
    assert instrumentation.stats() == ExportStats(accepted=0, sent=0, dropped={}, pending=0)
    assert instrumentation.force_flush(1)
    instrumentation.shutdown(1)


@pytest.mark.kafka
def test_the_end_of_the_lifespan_flushes_what_the_application_did_last(
    broker: str, topic: str, zones_of: ZonesOf, read_topic: ReadTopic
) -> None:
    told: list[str] = []
    box: list[Instrumentation] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, int]]:
        told.append("started")
        yield {"answer": 42}
        provider = box[0].tracer_provider
        assert provider is not None
        provider.get_tracer("shop").start_span("closing").end()
        told.append("stopped")

    app = FastAPI(lifespan=lifespan)
    box.append(
        instrument(
            app,
            zones=zones_of(broker),
            region="eu-west-1",
            service_name="s",
            schedule_delay_ms=60_000,
        )
    )
    sent: list[dict[str, Any]] = []
    asyncio.run(_live(app, sent.append))
    assert told == ["started", "stopped"]
    assert [m["type"] for m in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert box[0].stats().sent == 1
    ((_, (span,)),) = read_topic(broker, topic)
    assert span.name == "closing"
    box[0].shutdown(1)


async def _live(app: Any, send: Callable[[dict[str, Any]], None]) -> None:
    messages = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> dict[str, Any]:
        return {"type": next(messages)}

    async def send_(message: dict[str, Any]) -> None:
        send(message)

    await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send_)


def test_what_no_rule_keeps_is_counted(zones_of: ZonesOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    monkeypatch.setenv("MOBIUS_KEEP", "errors")
    app = shop()
    instrumentation = start(app, zones_of("127.0.0.1:1"))
    get(app, "/orders/1", "/orders/-1", "/orders/2")
    stats = instrumentation.stats()
    assert (stats.accepted, stats.unsampled) == (1, 2)
    instrumentation.shutdown(0)


def test_sampling_by_ratio_is_written_into_the_span(
    zones_of: ZonesOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.25")
    app = shop()
    instrumentation = start(app, zones_of("127.0.0.1:1"))
    provider = instrumentation.tracer_provider
    assert provider is not None
    tracer = provider.get_tracer("t")
    states = set()
    for _ in range(400):
        span = tracer.start_span("s")
        if span.get_span_context().trace_flags.sampled:
            states.add(span.get_span_context().trace_state.to_header())
        span.end()
    # A threshold of 3/4 of 2^56: each sampled span stands for four.
    assert states == {"ot=th:c"}
    accepted = instrumentation.stats().accepted
    assert 50 < accepted < 150
    get(app, "/orders/7", headers={"traceparent": f"00-{'1' * 32}-{'2' * 16}-00"})
    assert instrumentation.stats().accepted == accepted
    assert instrumentation.stats().unsampled == 1
    instrumentation.shutdown(0)

"""The service that the benchmark of the instrumentation measures: plain, or traced in one of two ways.

Run by uvicorn. ``BENCH_VARIANT`` says how it is traced, ``BENCH_TARGET`` where the spans go, ``BENCH_DATABASE`` which
SQLite file it reads.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import psutil
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from sqlalchemy import create_engine, text

__all__ = ["app"]

_CHUNKS = 8
_engine = create_engine(f"sqlite:///{os.environ['BENCH_DATABASE']}")
_flush: Callable[[float], object] = lambda _seconds: None  # noqa: E731  # replaced where something is traced


app = FastAPI(openapi_url=None)


@app.get("/json/{number}")
async def json(number: int) -> dict[str, Any]:
    """Answer with a small document."""
    return {"number": number, "name": f"order {number}", "lines": [{"sku": "a", "count": 2}] * 5}


@app.get("/database/{number}")
def database(number: int) -> list[int]:
    """Read from a database, in a worker thread, as handlers that are no coroutines do."""
    with _engine.connect() as connection:
        query = text("SELECT id FROM orders WHERE id >= :number ORDER BY id LIMIT 3")
        return [row[0] for row in connection.execute(query, {"number": number})]


@app.get("/stream/{number}")
async def stream(number: int) -> StreamingResponse:
    """Answer in several parts."""

    async def parts() -> AsyncIterator[bytes]:
        for part in range(_CHUNKS):
            yield b"%d;%d\n" % (number, part)

    return StreamingResponse(parts(), media_type="text/plain")


@app.get("/bench-usage")
def usage(flush_seconds: float) -> dict[str, float]:
    """Send what waits, for so long at most; return CPU seconds and resident bytes of this process."""
    if flush_seconds > 0:
        _flush(flush_seconds)
    return {
        "cpu_seconds": time.process_time(),
        "memory_bytes": float(psutil.Process().memory_info().rss),
    }


def _trace_with_opentelemetry(target: str) -> Callable[[float], object]:
    """Trace as OpenTelemetry's documentation says: its defaults everywhere."""
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(endpoint=f"http://{target}/v1/traces"))
    )
    trace.set_tracer_provider(provider)
    FastAPIInstrumentor.instrument_app(app)
    SQLAlchemyInstrumentor().instrument(engine=_engine, skip_dep_check=True)
    return lambda seconds: provider.force_flush(int(seconds * 1000))


def _trace_with_ours(target: str) -> Callable[[float], object]:
    from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor

    from mobius_instrumentation import instrument
    from mobius_instrumentation.zones import parse_zones

    zone = {"regions": ["here"], "kafka": [target], "clickhouse": "http://127.0.0.1:1"}
    zones = parse_zones({"zones": {"bench": zone}})
    instrumentation = instrument(app, zones=zones, region="here", service_name="bench")
    SQLAlchemyInstrumentor().instrument(
        engine=_engine, tracer_provider=instrumentation.tracer_provider, skip_dep_check=True
    )
    return instrumentation.force_flush


_variant, _target = os.environ["BENCH_VARIANT"], os.environ["BENCH_TARGET"]
if _variant == "opentelemetry":
    _flush = _trace_with_opentelemetry(_target)
elif _variant == "ours":
    _flush = _trace_with_ours(_target)

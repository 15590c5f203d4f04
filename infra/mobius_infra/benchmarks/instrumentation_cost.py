"""What a request pays for being instrumented: CPU and latency, against plain OpenTelemetry in the same run.

Peer: OpenTelemetry's FastAPI instrumentation with the SDK and no exporter, which is the least that tracing
costs; ours adds allow-list, markers, encoding, and sending to a broker. Each is a process of its own that
calls the same application over ASGI, without a network, so that nothing else is in the figures.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any, Final

from mobius_infra.benchmarks._engine import broker

__all__ = ["run"]

_MODES: Final = ("bare", "opentelemetry", "ours")
_REPEATS: Final = 3
_REQUESTS: Final = 4_000
_WARM_UP: Final = 500
_HEADERS: Final = [
    (b"host", b"shop.example"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64) Chrome/131.0 Safari/537.36"),
    (b"accept", b"application/json"),
    (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
]


def run() -> dict[str, Any]:
    """Measure the three ways in turn, several times; the medians are compared."""
    with broker() as address:
        rounds = [{mode: _measure(mode, address) for mode in _MODES} for _ in range(_REPEATS)]

    def median(mode: str, key: str) -> float:
        return statistics.median(measured[mode][key] for measured in rounds)

    per_mode = {
        mode: {key: round(median(mode, key), 1) for key in rounds[0][mode]} for mode in _MODES
    }
    bare, peer, ours = (per_mode[mode]["cpu_us_per_request"] for mode in _MODES)
    return {
        "what": "CPU and latency of a request of one span, application alone / traced / traced and sent",
        "requests": _REQUESTS * _REPEATS,
        "per_mode": per_mode,
        "added_cpu_us_per_request": {
            "opentelemetry": round(peer - bare, 1),
            "ours": round(ours - bare, 1),
        },
        "ratio_of_added_cpu_to_opentelemetry": round((ours - bare) / (peer - bare), 2),
        "import_cpu_ms": {
            name: _import_cpu_ms(code)
            for name, code in (
                ("opentelemetry_sdk", "opentelemetry.sdk.trace, opentelemetry.sdk.resources"),
                ("mobius_instrumentation", "mobius_instrumentation"),
                ("with_exporter", "mobius_instrumentation.exporter"),
            )
        },
    }


def _measure(mode: str, address: str) -> dict[str, float]:
    command = [sys.executable, "-m", "mobius_infra.benchmarks.instrumentation_cost", mode, address]
    # The same conventions on both sides; the older ones write other attributes.
    environment = {**os.environ, "OTEL_SEMCONV_STABILITY_OPT_IN": "http"}
    measured: dict[str, float] = json.loads(subprocess.check_output(command, env=environment))
    return measured


def _import_cpu_ms(modules: str) -> float:
    code = f"import time, {modules}; print(time.process_time())"
    times = [float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(3)]
    return round(min(times) * 1000)


async def _requests(app: Any, number: int) -> list[float]:
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/orders/7",
        "raw_path": b"/orders/7",
        "query_string": b"",
        "root_path": "",
        "headers": _HEADERS,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_: Any) -> None:
        return

    times = []
    for _ in range(number):
        began = time.perf_counter()
        await app(dict(scope), receive, send)
        times.append(time.perf_counter() - began)
    return times


def _child(mode: str, address: str) -> dict[str, float]:
    """One way in this process; ``process`` time has every thread's share, ``thread`` the loop's alone."""
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/orders/{order_id}")
    async def order(order_id: int) -> int:
        return order_id

    flush: Any = None
    if mode == "opentelemetry":
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
        from opentelemetry.sdk.trace import TracerProvider

        FastAPIInstrumentor.instrument_app(
            app, tracer_provider=TracerProvider(), exclude_spans=["receive", "send"]
        )
    elif mode == "ours":
        flush = _instrument(app, address)
    asyncio.run(_requests(app, _WARM_UP))
    if flush:
        flush()
    process, loop = time.process_time(), time.thread_time()
    times = asyncio.run(_requests(app, _REQUESTS))
    loop = time.thread_time() - loop
    if flush:
        flush()
    process = time.process_time() - process
    return {
        "cpu_us_per_request": process / _REQUESTS * 1e6,
        "cpu_us_in_request": loop / _REQUESTS * 1e6,
        "cpu_us_in_background": max(0.0, process - loop) / _REQUESTS * 1e6,
        "p50_us": statistics.median(times) * 1e6,
        "p99_us": statistics.quantiles(times, n=100)[98] * 1e6,
    }


def _instrument(app: Any, address: str) -> Any:
    from mobius_instrumentation import instrument
    from mobius_instrumentation.zones import parse_zones

    zone = {"regions": ["here"], "kafka": [address], "clickhouse": "http://127.0.0.1:1"}
    instrumentation = instrument(
        app, zones=parse_zones({"zones": {"bench": zone}}), region="here", service_name="bench"
    )

    def flush() -> None:
        if not instrumentation.force_flush(30):
            raise SystemExit("the broker did not take the spans")

    return flush


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_child(*sys.argv[1:])))

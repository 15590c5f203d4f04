"""The measures of a request and of a process, through broker and worker into the store that the analysis reads."""

from __future__ import annotations

import asyncio
import threading
import time

import httpx
import pytest
from fastapi import FastAPI

from mobius_instrumentation import instrument
from mobius_instrumentation.zones import Zones
from mobius_pipeline.store import Purpose, connect
from mobius_pipeline.worker import run_worker
from tests.conftest import ZoneFactory

pytestmark = [pytest.mark.kafka, pytest.mark.store]


def test_measures_arrive_and_a_process_is_no_request(zone_factory: ZoneFactory) -> None:
    zone = zone_factory()
    app = FastAPI()
    instrumentation = instrument(
        app,
        zones=Zones({zone.name: zone}, None, "test"),
        region="eu-west-1",
        service_name="shop",
        runtime_interval_ms=100,
    )

    @app.get("/blocks")
    async def blocks() -> None:
        time.sleep(0.15)  # noqa: ASYNC251  # that is the point
        await asyncio.sleep(0.3)

    async def ask() -> None:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://shop.test"
        ) as client:
            await client.get("/blocks")

    asyncio.run(ask())
    assert instrumentation.force_flush(30)
    instrumentation.shutdown(5)
    stop = threading.Event()
    worker = threading.Thread(target=run_worker, args=(zone, stop))
    worker.start()
    client = connect(zone, Purpose.INGEST)

    def rows(sql: str) -> list[tuple[object, ...]]:
        found = client.query(sql, parameters={"database": zone.database}).result_rows
        return [tuple(row) for row in found]

    request = """SELECT toFloat64(attributes['mobius.loop.blocked.duration']) >= 0.15,
            attributes['mobius.requests.in_flight']
        FROM {database:Identifier}.spans WHERE name = 'GET /blocks'"""
    deadline = time.monotonic() + 60
    while not rows(request) and time.monotonic() < deadline:
        time.sleep(0.2)
    stop.set()
    worker.join()
    assert rows(request) == [(1, "1")]
    runtime = """SELECT count() >= 1, min(kind), min(toFloat64(attributes['mobius.process.memory'])) > 1e7
        FROM {database:Identifier}.spans WHERE name = 'mobius.runtime'"""
    assert rows(runtime) == [(1, "Internal", 1)]
    counted = "SELECT sum(requests) FROM {database:Identifier}.latency_minute"
    assert rows(counted) == [(1,)]
    client.close()

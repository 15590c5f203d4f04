from __future__ import annotations

import asyncio

import httpx
import pytest
from fastapi import FastAPI

from mobius_instrumentation.testing import record_spans


def test_it_records_as_exported_and_leaves_the_application_as_it_was() -> None:
    app = FastAPI()

    @app.get("/orders/{order_id}")
    async def order(order_id: int) -> int:
        return order_id

    async def call(path: str) -> int:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            return (await client.get(path)).status_code

    with record_spans(app, resource={"service.name": "shop", "host.name": "h"}) as recorded:
        asyncio.run(call("/orders/7"))
        asyncio.run(call("/nothing"))
        found = recorded.one(route="/orders/{order_id}")
        assert (found.status, found.resource["service.name"]) == (200, "shop")
        assert "host.name" not in found.resource
        assert "url.path" not in found.attributes
        with pytest.raises(AssertionError, match="0 spans of route=/other"):
            recorded.one(route="/other")
    asyncio.run(call("/orders/7"))
    assert len(recorded.spans) == 2
    with record_spans(app) as again:
        asyncio.run(call("/orders/8"))
    assert again.one(name="GET /orders/{order_id}").status == 200

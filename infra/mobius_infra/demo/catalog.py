"""The catalog service: items, search index, stock, reservations; SQLite behind a cache.

Start it with ``python -m mobius_infra.demo.catalog --port N --database FILE``; region, release and
zones come from ``MOBIUS_REGION``, ``MOBIUS_SERVICE_VERSION`` and ``MOBIUS_CONFIG``.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
from fastapi import Body, FastAPI, HTTPException
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.trace import get_current_span
from starlette.concurrency import run_in_threadpool

from mobius_infra.demo import database, shop
from mobius_infra.demo.cache import Cache
from mobius_infra.demo.latency_models import LARGE_CACHE, PARTIES, SEARCH_CACHE, search_party
from mobius_infra.demo.remote import RemoteParties
from mobius_infra.demo.service import new_app, provider_of, serve, service_options

__all__ = ["create_app", "main"]

Row = dict[str, str | int]
_POPULAR: Final = 10


def create_app(file: Path, *, region: str, version: str) -> FastAPI:
    """Build the service on the database in ``file`` (made if it is not there)."""
    size = SEARCH_CACHE.get(region, LARGE_CACHE)
    found: Cache[list[Row]] = Cache(size.entries, size.seconds, time.monotonic)
    items: Cache[Row] = Cache(LARGE_CACHE.entries, LARGE_CACHE.seconds, time.monotonic)

    def set_up(app: FastAPI, stack: ExitStack) -> None:
        engine = database.open_database(file)
        stack.callback(engine.dispose)
        provider = provider_of(app)
        instrumentor = SQLAlchemyInstrumentor()
        # It declares SQLAlchemy < 2.1; its event listeners work with 2.1 as they are (tested).
        instrumentor.instrument(engine=engine, tracer_provider=provider, skip_dep_check=True)
        stack.callback(instrumentor.uninstrument)
        app.state.engine = engine
        app.state.remote = RemoteParties(
            region, provider.get_tracer("shop.catalog"), np.random.default_rng()
        )

    app = new_app(shop.SERVICE_CATALOG, region, version, set_up)

    @app.get("/items/{item_id}")
    async def item(item_id: str) -> Row:
        kept = items.get(item_id)
        get_current_span().set_attribute("shop.cache.hit", kept is not None)
        if kept is None:
            kept = await run_in_threadpool(database.find_item, app.state.engine, item_id)
            if kept is None:
                raise HTTPException(404, "no such item")
            items.put(item_id, kept)
        await app.state.remote.call(PARTIES["stock"])
        return kept

    @app.get("/index")
    async def index(q: str) -> list[Row]:
        kept = found.get(q)
        get_current_span().set_attribute("shop.cache.hit", kept is not None)
        if kept is None:
            kept = await run_in_threadpool(database.search_items, app.state.engine, q)
            await app.state.remote.call(search_party(region))
            found.put(q, kept)
        await app.state.remote.call(PARTIES["stock"])
        return kept

    @app.post("/reservations", status_code=201)
    async def reserve(
        customer: Annotated[str, Body()], items: Annotated[list[str], Body(min_length=1)]
    ) -> dict[str, int]:
        order_id = await run_in_threadpool(database.place_order, app.state.engine, customer, items)
        await app.state.remote.call(PARTIES["warehouse"], units=len(items))
        return {"order": order_id, "lines": len(items)}

    @app.get("/orders/{order_id}/lines")
    async def lines(order_id: int) -> list[Row]:
        rows = await run_in_threadpool(database.order_lines, app.state.engine, order_id)
        if not rows:
            raise HTTPException(404, "no such order")
        await app.state.remote.call(PARTIES["stock"])
        return rows

    @app.get("/popular")
    async def popular(customer: str = "") -> dict[str, Any]:
        orders = await run_in_threadpool(database.count_orders, app.state.engine, customer)
        await app.state.remote.call(PARTIES["stock"])
        return {"items": [shop.product_id(n) for n in range(_POPULAR)], "orders": orders}

    return app


def main(arguments: list[str] | None = None) -> None:
    """Serve the catalog of one region."""
    parser = service_options(main.__doc__ or "")
    parser.add_argument(
        "--database", type=Path, required=True, help="SQLite file, made if it is not there"
    )
    options = parser.parse_args(arguments)
    app = create_app(options.database, region=options.region, version=options.version)
    serve(app, shop.SERVICE_CATALOG, options)


if __name__ == "__main__":
    main()

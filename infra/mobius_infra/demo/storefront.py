"""The storefront service: what the shop's users and its tests call.

Start it with ``python -m mobius_infra.demo.storefront --port N --catalog-url URL``; region, release
and zones come from ``MOBIUS_REGION``, ``MOBIUS_SERVICE_VERSION`` and ``MOBIUS_CONFIG``.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated, Any, Final

import httpx
import numpy as np
from fastapi import Body, Depends, FastAPI, Header, HTTPException
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.trace import get_current_span

from mobius_infra.demo import shop
from mobius_infra.demo.latency_models import PARTIES, personalises
from mobius_infra.demo.remote import RemoteParties, RemotePartyError
from mobius_infra.demo.service import new_app, provider_of, serve, service_options
from mobius_instrumentation import identify

__all__ = ["create_app", "main"]

_CATALOG_SECONDS: Final = 10.0

Customer = Annotated[str, Header(alias="x-customer")]


def create_app(catalog_url: str, *, region: str, version: str) -> FastAPI:
    """Build the service on the catalog at ``catalog_url``."""

    def set_up(app: FastAPI, _stack: ExitStack) -> None:
        provider = provider_of(app)
        limits = httpx.Limits(max_connections=200, max_keepalive_connections=50)
        app.state.catalog = httpx.AsyncClient(
            base_url=catalog_url, timeout=_CATALOG_SECONDS, limits=limits, trust_env=False
        )
        if not HTTPXClientInstrumentor().is_instrumented_by_opentelemetry:
            HTTPXClientInstrumentor.instrument_client(app.state.catalog, tracer_provider=provider)
        app.state.remote = RemoteParties(
            region, provider.get_tracer("shop.storefront"), np.random.default_rng()
        )

    app = new_app(shop.SERVICE_STOREFRONT, region, version, set_up)
    app.router.dependencies.append(Depends(_whom))

    @app.get("/products/{product_id}")
    async def product(product_id: str) -> dict[str, Any]:
        item = await _ask(app, "GET", f"/items/{product_id}")
        await app.state.remote.call(PARTIES["image-cdn"])
        return {"product": item, "image": f"https://image-cdn.example/{product_id}.webp"}

    @app.get("/search")
    async def search(q: str) -> dict[str, Any]:
        found = await _ask(app, "GET", "/index", params={"q": q})
        await app.state.remote.call(PARTIES["ranking"], units=0)
        return {"found": found}

    @app.post("/checkout", status_code=201)
    async def checkout(
        items: Annotated[list[str], Body(embed=True, min_length=1, max_length=100)],
        x_customer: Customer = "",
    ) -> dict[str, Any]:
        get_current_span().set_attribute("shop.basket.lines", len(items))
        order = await _ask(
            app, "POST", "/reservations", json={"customer": x_customer, "items": items}
        )
        await app.state.remote.call(PARTIES["payments"])
        return {"order": order["order"], "paid": True}

    @app.get("/orders/{order_id}")
    async def order(order_id: int) -> dict[str, Any]:
        lines = await _ask(app, "GET", f"/orders/{order_id}/lines")
        await app.state.remote.call(PARTIES["order-archive"], units=len(lines))
        return {"order": order_id, "lines": lines}

    @app.get("/recommendations")
    async def recommendations(x_customer: Customer = "") -> dict[str, Any]:
        popular = await _ask(app, "GET", "/popular", params={"customer": x_customer})
        get_current_span().set_attribute("shop.customer.returning", popular["orders"] > 0)
        if personalises(version) and popular["orders"] > 0:
            await app.state.remote.call(PARTIES["feature-store"], units=popular["orders"])
        await app.state.remote.call(PARTIES["recommender"])
        return {"items": popular["items"]}

    return app


async def _whom(x_customer: Customer = "") -> None:
    """Count the request for its customer."""
    identify(x_customer)


async def _ask(app: FastAPI, method: str, path: str, **request: Any) -> Any:
    """Ask the catalog; its "not found" is ours, any other failure is a bad gateway."""
    try:
        answer = await app.state.catalog.request(method, path, **request)
    except httpx.TransportError as error:
        raise RemotePartyError(shop.SERVICE_CATALOG) from error
    if answer.status_code == httpx.codes.NOT_FOUND:
        raise HTTPException(404, answer.json()["detail"])
    if answer.is_error:
        raise RemotePartyError(shop.SERVICE_CATALOG)
    return answer.json()


def main(arguments: list[str] | None = None) -> None:
    """Serve the storefront of one region."""
    parser = service_options(main.__doc__ or "")
    parser.add_argument(
        "--catalog-url", required=True, help="catalog of the same region, http://HOST:PORT"
    )
    options = parser.parse_args(arguments)
    app = create_app(options.catalog_url, region=options.region, version=options.version)
    serve(app, shop.SERVICE_STOREFRONT, options)


if __name__ == "__main__":
    main()

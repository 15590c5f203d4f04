"""A service without a line of instrumentation, for the way in without code: applications of three makes."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

app = FastAPI()
inner = FastAPI()
app.mount("/inner", inner)


@app.get("/orders/{order_id}")
def order(order_id: int) -> dict[str, int]:
    return {"order": order_id, "pid": os.getpid()}


@inner.get("/parts/{part}")
async def part(part: str) -> dict[str, str]:
    return {"part": part}


async def item(request: Request) -> JSONResponse:
    return JSONResponse({"item": request.path_params["item"]})


starlette_app = Starlette(routes=[Mount("/shop", routes=[Route("/items/{item}", item)])])


async def bare(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[Any]],
    send: Callable[[Any], Awaitable[None]],
) -> None:
    """Application by the specification alone."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})

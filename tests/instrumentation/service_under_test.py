"""A service for tests that need a real server: run it with ``uvicorn``, configured by variables."""

from __future__ import annotations

import json
import os
from pathlib import Path

from fastapi import FastAPI, Request, Response

from mobius_instrumentation import instrument

app = FastAPI()
if os.environ.get("MOBIUS_CONFIG"):
    # An argument beats the environment: messages leave at the end, unless a test wants them sooner.
    instrument(app, schedule_delay_ms=int(os.environ.get("DELAY_MS", "60000")))


@app.get("/orders/{order_id}")
def order(order_id: int, request: Request) -> int:
    if seen := os.environ.get("SEEN"):
        names = ("traceparent", "baggage", "user-agent")
        with Path(seen).open("a", encoding="utf-8") as file:
            file.write(json.dumps({name: request.headers.get(name) for name in names}) + "\n")
    return order_id


@app.get("/broken")
async def broken() -> Response:
    return Response(status_code=503)

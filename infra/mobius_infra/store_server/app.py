"""The HTTP application: two routes, one engine, a bounded number of requests at once."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from mobius_infra.store_server.compression import choose_encoding, compress
from mobius_infra.store_server.engine import Engine
from mobius_infra.store_server.requests import check_password, read_body, read_work
from mobius_infra.store_server.statements import Statement
from mobius_infra.store_server.store_error import StoreError

__all__ = ["make_app"]

_T = TypeVar("_T")
_log = structlog.get_logger("mobius.store")


def make_app(
    engine: Engine,
    threads: ThreadPoolExecutor,
    *,
    password: str,
    max_body_bytes: int,
    max_execution_seconds: int,
) -> Starlette:
    """Make the application; the caller owns ``engine`` and ``threads`` and closes both."""

    async def in_thread(call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(threads, call)

    def answer(request: Request, body: bytes) -> Response:
        work = read_work(request, body, max_body_bytes)
        result = engine.run(
            work.statement,
            database=work.database,
            settings={"max_execution_time": str(max_execution_seconds), **work.settings},
            parameters=work.parameters,
            default_format=work.default_format,
        )
        encoding = (
            choose_encoding(request.headers.get("accept-encoding", "")) if work.compressed else ""
        )
        content, encoding = compress(result.body, encoding)
        headers = {
            "X-ClickHouse-Summary": result.summary(),
            "X-ClickHouse-Timezone": engine.timezone,
        }
        if encoding:
            headers["Content-Encoding"] = encoding
        if isinstance(work.statement, Statement) and work.statement.reads:
            headers["X-ClickHouse-Format"] = work.statement.format or work.default_format
        return Response(content, media_type="application/octet-stream", headers=headers)

    async def query(request: Request) -> Response:
        identity = request.query_params.get("query_id") or str(uuid.uuid4())
        try:
            check_password(request, password)
            if request.method != "POST" and "query" not in request.query_params:
                return PlainTextResponse("Ok.\n")
            body = await read_body(request, max_body_bytes)
            response = await in_thread(lambda: answer(request, body))
        except StoreError as refusal:
            _log.info(
                "request refused", code=refusal.code, query_id=identity, problem=str(refusal)[:300]
            )
            response = PlainTextResponse(
                f"{refusal}\n",
                refusal.status,
                headers={"X-ClickHouse-Exception-Code": str(refusal.code)},
            )
        response.headers["X-ClickHouse-Query-Id"] = identity
        response.headers["X-ClickHouse-Server-Display-Name"] = "mobius-store"
        return response

    async def ping(_request: Request) -> Response:
        return PlainTextResponse("Ok.\n")

    return Starlette(
        routes=[
            Route("/ping", ping, methods=["GET"]),
            Route("/", query, methods=["GET", "HEAD", "POST"]),
        ],
    )

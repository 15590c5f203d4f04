"""Lets clickhouse-go, and with it the Collector's exporter, talk to the embedded store over HTTP.

It stands before a store server, in a process of its own, so that none of its work is counted as the engine's. Besides
HTTP, clickhouse-go wants:

1. The answer to its first query (names, version, revision) in the framing of its own protocol revision. It says
   revision 0 here, and everything after it is Native as that revision has it, which is what ``FORMAT Native`` gives.
2. Block compression (``compress=1``, ``decompress=1``) instead of Content-Encoding.

Start: ``python -m mobius_infra.benchmarks._gateway STORE_URL``; prints ``ready URL``.
"""

from __future__ import annotations

import logging
import socket
import struct
import sys
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

import urllib3
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from mobius_infra.benchmarks._block_frames import frame, unframe

__all__ = ["greeting", "is_greeting", "make_gateway", "native_block"]

# Headers that name this hop, or that change with the body's encoding.
_OWN_HEADERS: Final = frozenset(
    {
        "host",
        "content-length",
        "content-encoding",
        "transfer-encoding",
        "connection",
        "accept-encoding",
    }
)


def is_greeting(statement: str) -> bool:
    """Tell whether this is the query that clickhouse-go opens a connection with."""
    return "displayName()" in statement and "revision()" in statement


def native_block(columns: list[tuple[str, str, bytes]]) -> bytes:
    """One row in Native, as a client of a current revision reads it: columns of name, type and encoded value."""
    # Fields of the block's info: 1 (is_overflows) false, 2 (bucket_num) -1, 0 for their end.
    parts = [b"\x01\x00\x02", struct.pack("<i", -1), b"\x00", bytes([len(columns), 1])]
    for name, kind, value in columns:
        parts += [_text(name), _text(kind), b"\x00", value]  # the zero: no custom serialization
    return b"".join(parts)


def greeting(version: str) -> bytes:
    """Answer to the query of :func:`is_greeting`."""
    return native_block(
        [
            ("displayName()", "String", _text("mobius-store")),
            ("version()", "String", _text(version)),
            ("revision()", "UInt32", struct.pack("<I", 0)),
            ("timezone()", "String", _text("UTC")),
        ]
    )


def _text(value: str) -> bytes:
    encoded = value.encode()
    if len(encoded) > 0x7F:
        raise ValueError(f"{value[:40]!r}... is too long for one byte of length")
    return bytes([len(encoded)]) + encoded


def make_gateway(store: str) -> Starlette:
    """Make the application before the store server at the URL ``store``."""
    pool = urllib3.PoolManager(maxsize=32, retries=False, timeout=300)
    version = pool.request("GET", f"{store}/", fields={"query": "SELECT version()"}).data
    hello = greeting(version.decode().strip())

    def forward(headers: Mapping[str, str], values: dict[str, str], body: bytes) -> Response:
        framed = values.pop("compress", "0") == "1"
        if values.pop("decompress", "0") == "1":
            body = unframe(body)
        statement = values.get("query", "") or body[:1000].decode("utf-8", "replace")
        if is_greeting(statement):
            content, status, kept = hello, 200, {"X-ClickHouse-Format": "Native"}
        else:
            answer = pool.request(
                "POST",
                f"{store}/?{urlencode(values)}",
                body=body,
                headers={
                    name: value
                    for name, value in headers.items()
                    if name.lower() not in _OWN_HEADERS
                },
            )
            content, status = answer.data, answer.status
            kept = {
                name: value
                for name, value in answer.headers.items()
                if name.lower().startswith("x-clickhouse-")
            }
        return Response(frame(content) if framed and content else content, status, headers=kept)

    async def handle(request: Request) -> Response:
        try:
            body = await request.body()
        except ClientDisconnect:  # its client's own time was up; nobody reads the answer
            return Response(status_code=499)
        if request.method == "GET" and "query" not in request.query_params:
            return Response("Ok.\n")
        return await run_in_threadpool(
            forward, dict(request.headers), dict(request.query_params), body
        )

    return Starlette(routes=[Route("/{path:path}", handle, methods=["GET", "POST"])])


def main() -> None:
    """Serve on a free port of 127.0.0.1 until a signal comes."""
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    listener = socket.create_server(("127.0.0.1", 0))
    app = make_gateway(sys.argv[1])
    sys.stdout.write(f"ready http://127.0.0.1:{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_keep_alive=120)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()

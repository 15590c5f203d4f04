"""An open-loop load generator: requests leave by the clock, whether or not earlier ones were answered.

Latency counts from the moment at which a request was due, so that a server which stalls is not spared the requests
that it kept from being sent (no coordinated omission). Run as a process of its own; prints JSON.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from typing import Any

__all__ = ["PATHS"]

PATHS = ("/json/{}", "/database/{}", "/stream/{}")
_CONNECTIONS = 64  # at most so many requests wait for an answer at a time
_ANSWER_SECONDS = 20.0


class _Client:
    """Keeps connections open and gives each to one request at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._room = asyncio.Semaphore(_CONNECTIONS)

    async def get(self, path: str, trace_id: str) -> int:
        """Send one request; return its status, 0 where there was no answer."""
        async with self._room:
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    return await self._get(path, trace_id)
            except (OSError, asyncio.IncompleteReadError, TimeoutError):
                return 0

    async def _get(self, path: str, trace_id: str) -> int:
        while self._idle:
            connection = self._idle.pop()
            if not connection[0].at_eof():
                break  # others the server closed, which it does after five idle seconds
        else:
            connection = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = connection
        writer.write(
            f"GET {path} HTTP/1.1\r\nhost: shop.example\r\naccept: application/json\r\n"
            "user-agent: Mozilla/5.0 (X11; Linux x86_64) Chrome/131.0 Safari/537.36\r\n"
            f"traceparent: 00-{trace_id}-b7ad6b7169203331-01\r\n\r\n".encode()
        )
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b"transfer-encoding: chunked" in head:
            while int((await reader.readuntil(b"\r\n")).strip(), 16):
                await reader.readuntil(b"\r\n")
            await reader.readuntil(b"\r\n")
        else:
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
        self._idle.append(connection)
        return int(head.split(b" ", 2)[1])


async def _load(port: int, rate: float, seconds: float, seed: int) -> dict[str, Any]:
    draw, client = random.Random(seed), _Client(port)
    number = int(rate * seconds)
    latencies: list[float] = []
    answered: list[str] = []
    began = time.perf_counter() + 0.1

    async def one(index: int) -> None:
        due = began + index / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        trace_id = f"{draw.getrandbits(128) or 1:032x}"
        path = PATHS[index % len(PATHS)].format(draw.randrange(1, 900))
        if await client.get(path, trace_id) == 200:
            latencies.append((time.perf_counter() - due) * 1000)
            answered.append(trace_id)

    await asyncio.gather(*(one(index) for index in range(number)))
    return {"requests": number, "latencies_ms": latencies, "answered": answered}


def _main(port: str, rate: str, seconds: str, seed: str) -> None:
    sys.stdout.write(
        json.dumps(asyncio.run(_load(int(port), float(rate), float(seconds), int(seed))))
    )


if __name__ == "__main__":
    _main(*sys.argv[1:])

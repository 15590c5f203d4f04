"""An HTTP proxy in front of a real store that fails as networks and servers do; for tests."""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import urlsplit

__all__ = ["Failure", "faulty_proxy"]

Failure = Literal[
    "hung",  # the request is read, and never answered nor passed on
    "late",  # passed on only after the client has given up
    "slow",  # passed on, answered after a while
    "reset before",  # the connection is reset, and nothing is passed on
    "reset in request",  # half of the request is passed on, then both connections are reset
    "reset in answer",  # passed on and done; the connection is reset in the midst of the answer
    "reset after",  # passed on and done; the connection is reset in place of the answer
    "503",  # refused by what stands before the store
]


# Closing with a linger of zero seconds sends RST.
_LINGER_0 = struct.pack("ii", 1, 0)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, target: str, plan: Callable[[bytes], Failure | None], hold: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = target
        self.plan = plan
        self.hold = hold
        self.closed = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that have gone are what this is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
        """Keep quiet."""

    def _serve(self) -> None:
        body = self._read()
        failure = self.server.plan(self.path.encode() + b"\n" + body[:40_000])
        if failure == "reset before":
            return self._reset()
        if failure == "hung":
            self.server.closed.wait(self.server.hold)
            return self._reset()
        if failure == "503":
            return self._answer(503, [("Content-Type", "text/plain")], b"no server is available")
        if failure == "late":
            self.server.closed.wait(self.server.hold)
        if failure == "reset in request":
            self._pass_on_half(body)
            return self._reset()
        answer = self._pass_on(body)
        if failure == "reset in answer":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Click")
            return self._reset()
        if failure in {"reset after", "late"}:
            return self._reset()
        if failure == "slow":
            time.sleep(min(0.4, self.server.hold))
        return self._answer(*answer)

    def _read(self) -> bytes:
        if "chunked" not in (self.headers.get("Transfer-Encoding") or ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts: list[bytes] = []
        while size := int(self.rfile.readline().split(b";")[0] or b"0", 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _pass_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.server.target, timeout=60)
        own = {"connection", "transfer-encoding", "content-length"}
        headers = {k: v for k, v in self.headers.items() if k.lower() not in own}
        connection.request(self.command, self.path, body, headers)
        response = connection.getresponse()
        answer = response.status, response.getheaders(), response.read()
        connection.close()
        return answer

    def _pass_on_half(self, body: bytes) -> None:
        host, _, port = self.server.target.rpartition(":")
        kept = (
            f"{name}: {value}\r\n"
            for name, value in self.headers.items()
            if name.lower() not in {"transfer-encoding", "content-length"}
        )
        head = f"{self.command} {self.path} HTTP/1.1\r\n{''.join(kept)}Content-Length: {len(body)}\r\n\r\n"
        with socket.create_connection((host, int(port))) as store:
            store.sendall(head.encode() + body[: len(body) // 2])
            # It has what was sent before the reset takes it away.
            time.sleep(0.1)
            store.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
        with contextlib.suppress(OSError):
            self.connection.close()


@contextmanager
def faulty_proxy(
    url: str, plan: Callable[[bytes], Failure | None], hold: float = 2.0
) -> Iterator[str]:
    """Stand in front of the store at ``url``; gives the proxy's URL.

    ``plan`` is asked once a request, with its path and the begin of its body, what shall happen to it; ``hold`` is
    for how many seconds a request hangs, or is late. It must be longer than the client's time-out.
    """
    server = _Server(urlsplit(url).netloc, plan, hold)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.closed.set()
        server.shutdown()
        thread.join()
        server.server_close()

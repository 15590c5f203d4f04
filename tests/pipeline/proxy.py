"""A TCP proxy for tests, in front of a real engine, that fails as networks do."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

__all__ = ["Fault", "Proxy", "proxied"]

Fault = Literal[
    "hang",  # no byte passes in either direction; connections are taken all the same
    "slow",  # a few bytes at a time
    "reset",  # a message that is under way is cut in two by a reset
    "refuse",  # connections are reset, new ones refused
    "half-open",  # connections that exist never carry a byte again; new ones are all right
]

_SLOW_BYTES = 2_000
_SLOW_SECONDS = 0.02
_CUT_AFTER_BYTES = 50
# Closing with a linger of zero seconds sends RST.
_RESET = struct.pack("ii", 1, 0)


class Proxy:
    """Listens on a free port of 127.0.0.1; ``address`` is ``127.0.0.1:PORT``.

    Connections whose first bytes hold ``spared`` suffer no fault. ``accepted`` counts connections that reached the
    target, ``suffered`` those that met a fault.
    """

    def __init__(self, target: str, spared: bytes = b"") -> None:
        host, _, number = target.rpartition(":")
        self._target = (host, int(number))
        self._spared = spared
        self._fault: Fault | None = None
        self._open: set[_Connection] = set()
        self._closed = False
        self.accepted = 0
        self.suffered = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._port = self._listener.getsockname()[1]
        self.address = f"127.0.0.1:{self._port}"
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    @property
    def fault(self) -> Fault | None:
        """What happens to connections now."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault | None) -> None:
        before, self._fault = self._fault, fault
        if fault == "half-open":
            for each in list(self._open):
                each.silence()
        if fault == "refuse":
            self._stop_listening()
            for each in list(self._open):
                each.reset()
        if before == "refuse" and fault != "refuse":
            self._listener = socket.create_server(("127.0.0.1", self._port))
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def hang(self) -> None:
        self.fault = "hang"

    def close(self) -> None:
        self._closed = True
        self._stop_listening()
        for each in list(self._open):
            each.reset()

    def _stop_listening(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._target)
        except OSError:
            client.close()
            return
        self.accepted += 1
        connection = _Connection(self, client, server)
        self._open.add(connection)
        connection.carry()
        self._open.discard(connection)


class _Connection:
    """Two sockets, and a thread for each direction."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._sockets = (client, server)
        self._spared = False
        self._silent = False

    def carry(self) -> None:
        client, server = self._sockets
        answers = threading.Thread(target=self._pump, args=(server, client), daemon=True)
        answers.start()
        self._pump(client, server, first=True)
        answers.join()
        for each in self._sockets:
            each.close()

    def silence(self) -> None:
        if not self._spared:
            self._proxy.suffered += 1
            self._silent = True

    def reset(self) -> None:
        if self._spared and not self._proxy._closed:
            return
        self._proxy.suffered += 1
        self._silent = False
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                # Wakes the thread that reads it, which then closes both.
                each.shutdown(socket.SHUT_RD)

    def _pump(self, source: socket.socket, sink: socket.socket, *, first: bool = False) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if first:
                    self._spared = bool(self._proxy._spared) and self._proxy._spared in data
                    first = False
                self._pass_on(data, sink)
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _pass_on(self, data: bytes, sink: socket.socket) -> None:
        proxy = self._proxy
        fault = None if self._spared else proxy.fault
        if fault == "reset":
            sink.sendall(data[: min(_CUT_AFTER_BYTES, len(data) // 2)])
            self.reset()
            raise ConnectionResetError
        if fault == "slow":
            proxy.suffered += 1
            for begin in range(0, len(data), _SLOW_BYTES):
                time.sleep(_SLOW_SECONDS)
                sink.sendall(data[begin : begin + _SLOW_BYTES])
            return
        if fault == "hang":
            proxy.suffered += 1
        while self._silent or (not self._spared and proxy.fault == "hang"):
            if proxy._closed:
                raise ConnectionAbortedError
            time.sleep(0.01)
        sink.sendall(data)


@contextmanager
def proxied(target: str, spared: bytes = b"") -> Iterator[Proxy]:
    proxy = Proxy(target, spared)
    try:
        yield proxy
    finally:
        proxy.close()

"""Does it answer? Probes that never raise and never take long."""

from __future__ import annotations

import http.client
import socket
from typing import Final

__all__ = ["http_answers", "http_status", "port_answers"]

_SECONDS: Final = 2.0


def port_answers(port: int, host: str = "127.0.0.1") -> bool:
    """Somebody accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=_SECONDS):
            return True
    except OSError:
        return False


def http_status(
    port: int, path: str, *, host: str = "127.0.0.1", seconds: float = _SECONDS
) -> int | None:
    """Status of a GET, or None where no answer comes within ``seconds``."""
    connection = http.client.HTTPConnection(host, port, timeout=seconds)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def http_answers(port: int, path: str) -> bool:
    """A GET of ``path`` is answered with success."""
    status = http_status(port, path)
    return status is not None and 200 <= status < 300

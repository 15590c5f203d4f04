"""A Kafka node as a child process that can be started, stopped, killed and started again, data kept."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from mobius_infra.kafka_broker.distribution import Distribution, lay_out
from mobius_infra.kafka_broker.node import Listener, Node
from mobius_infra.stack.probes import port_answers
from mobius_infra.stack.process import exit_text, last_lines
from mobius_pipeline.errors import TerminalError

__all__ = ["KafkaBroker", "answers", "free_ports"]

_POLL_SECONDS: Final = 0.05


class KafkaBroker:
    """One broker over one data folder; as a context manager it is started and stopped.

    Its address stays the same however often it is started. Its log is ``broker.log`` in the data folder.
    """

    def __init__(
        self,
        data: Path,
        *,
        port: int = 0,
        distribution: Distribution | None = None,
        listeners: Sequence[Listener] = (),
    ) -> None:
        """Choose ports (0: a free one); ``listeners`` are opened besides the one without TLS and password.

        Raises
        ------
        KafkaMissingError
            Java is missing, or the jars cannot be fetched.
        """
        self._distribution = distribution or lay_out()
        chosen, controller_port = free_ports(port, 0)
        self._node = Node(data.absolute(), chosen, controller_port, tuple(listeners))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Bootstrap address, ``127.0.0.1:PORT``."""
        return f"127.0.0.1:{self._node.port}"

    @property
    def log(self) -> Path:
        """What the broker says."""
        return self._node.data / "broker.log"

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if running and self._process is not None else None

    def start(self, seconds: float = 90.0) -> None:
        """Start it, and wait until it answers requests.

        Raises
        ------
        TerminalError
            It ended, or did not answer within ``seconds``; shows the end of its log.
        """
        if self.pid is not None:
            return
        command = self._node.prepare(self._distribution)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._node.data,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C in a terminal is for its owner, who stops it in good order.
                start_new_session=True,
            )
        deadline = time.monotonic() + seconds
        while not answers(self._node.port):
            code = self._process.poll()
            if code is not None or time.monotonic() > deadline:
                self.kill()
                why = "does not answer" if code is None else f"ended ({exit_text(code)})"
                lines = "\n".join(f"    {line}" for line in last_lines(self.log))
                raise TerminalError(
                    f"Kafka at {self.address} {why}; its log is {self.log}\n{lines}"
                )
            time.sleep(_POLL_SECONDS)

    def stop(self, seconds: float = 30.0) -> None:
        """Let it write everything and end; after ``seconds`` it is killed. Nothing if it does not run."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        self.kill()

    def kill(self) -> None:
        """End it as a failing machine would: at once, without a word to anybody."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()


def answers(port: int) -> bool:
    """Tell whether a broker on this port names itself; an open port alone may belong to one that still starts."""
    if not port_answers(port):
        return False
    admin: Any = None
    try:
        admin = KafkaAdminClient(
            bootstrap_servers=f"127.0.0.1:{port}",
            bootstrap_timeout_ms=5_000,
            request_timeout_ms=5_000,
        )
        return bool(admin.describe_cluster()["brokers"])
    except (KafkaError, OSError, KeyError):
        return False
    finally:
        if admin is not None:
            with contextlib.suppress(KafkaError, OSError):
                admin.close()


def free_ports(*wanted: int) -> list[int]:
    """Replace each 0 by a port of 127.0.0.1 that is free now, all different."""
    with contextlib.ExitStack() as held:
        chosen = []
        for port in wanted:
            if not port:
                probe = held.enter_context(socket.socket())
                probe.bind(("127.0.0.1", 0))
                port = int(probe.getsockname()[1])  # noqa: PLW2901 - the choice takes the wish's place
            chosen.append(port)
        return chosen

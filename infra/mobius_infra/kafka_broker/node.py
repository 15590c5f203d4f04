"""The data folder of one Kafka node: its settings, and its format, done once."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Final
from uuid import uuid4

from mobius_infra.kafka_broker.distribution import Distribution, definition_folder
from mobius_pipeline.errors import TerminalError, UsageError

__all__ = ["Listener", "Node"]

_SETTINGS: Final = "server.properties"
_FORMAT_SECONDS: Final = 120


@dataclass(frozen=True, slots=True)
class Listener:
    """A further port of clients on 127.0.0.1.

    Attributes
    ----------
    name
        Upper-case word, such as ``TLS``.
    protocol
        ``PLAINTEXT``, ``SSL``, ``SASL_PLAINTEXT`` or ``SASL_SSL``.
    port
        Port that it listens on.
    advertised
        Address that clients are told to use, where it is another, such as a proxy's.
    settings
        Kafka's settings of this listener alone, such as ``ssl.keystore.location``. They are left out of ``repr``:
        some are passwords.
    """

    name: str
    protocol: str
    port: int
    advertised: str = ""
    settings: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT``."""
        return f"127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True)
class Node:
    """One KRaft node that keeps everything below ``data`` and listens on 127.0.0.1 alone.

    The ports may be others at the next start: no topic and no offset knows them.
    """

    data: Path
    port: int
    controller_port: int
    listeners: tuple[Listener, ...] = ()

    def prepare(self, distribution: Distribution) -> list[str]:
        """Format the folder where it is new, write the settings; return the command, to be run in ``data``.

        Raises
        ------
        UsageError
            The folder cannot be made or written.
        TerminalError
            Kafka's own tool could not format it.
        """
        try:
            self.data.mkdir(parents=True, exist_ok=True)
            if not (self.data / "log" / "meta.properties").exists():
                self._format(distribution)
            self._write(_SETTINGS, "log")
        except OSError as error:
            raise UsageError(
                f"cannot write the broker's data folder ({error.strerror})", file=str(self.data)
            ) from error
        return distribution.command("kafka.Kafka", _SETTINGS)

    def _format(self, distribution: Distribution) -> None:
        # Under another name until it is complete, so that a folder named `log` always is.
        name, settings = f"log.{uuid4().hex[:8]}.new", "format.properties"
        self._write(settings, name)
        arguments = ["format", "--cluster-id", _cluster_id(), "--config", settings]
        done = subprocess.run(
            distribution.command("kafka.tools.StorageTool", *arguments),
            cwd=self.data,
            capture_output=True,
            text=True,
            timeout=_FORMAT_SECONDS,
            check=False,
        )
        (self.data / settings).unlink()
        if done.returncode:
            said = (done.stderr + done.stdout).strip()[-500:]
            raise TerminalError(f"Kafka could not format {self.data}: {said}")
        (self.data / name).rename(self.data / "log")

    def _write(self, file: str, log_dirs: str) -> None:
        more = self.listeners
        text = Template((definition_folder() / _SETTINGS).read_text(encoding="utf-8")).substitute(
            port=self.port,
            controller_port=self.controller_port,
            log_dirs=log_dirs,
            more_listeners="".join(f",{each.name}://{each.address}" for each in more),
            more_advertised="".join(
                f",{each.name}://{each.advertised or each.address}" for each in more
            ),
            more_protocols="".join(f",{each.name}:{each.protocol}" for each in more),
            more_settings="".join(
                f"listener.name.{each.name.lower()}.{name}={value}\n"
                for each in more
                for name, value in each.settings.items()
            ),
        )
        path = self.data / file
        # Passwords of listeners stand in it.
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")


def _cluster_id() -> str:
    """Return a UUID as Kafka writes it; one that begins with a hyphen would look like an option."""
    while True:
        text = base64.urlsafe_b64encode(uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text

"""The data folder of one Kafka node: its settings, and its format, done once."""

from __future__ import annotations

import base64
import subprocess
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Final
from uuid import uuid4

from mobius_infra.kafka_broker.distribution import Distribution, definition_folder
from mobius_pipeline.errors import TerminalError, UsageError

__all__ = ["Node"]

_SETTINGS: Final = "server.properties"
_FORMAT_SECONDS: Final = 120


@dataclass(frozen=True, slots=True)
class Node:
    """One KRaft node that keeps everything below ``data`` and listens on 127.0.0.1 alone.

    The ports may be others at the next start: no topic and no offset knows them.
    """

    data: Path
    port: int
    controller_port: int

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
        text = Template((definition_folder() / _SETTINGS).read_text(encoding="utf-8")).substitute(
            port=self.port, controller_port=self.controller_port, log_dirs=log_dirs
        )
        (self.data / file).write_text(text, encoding="utf-8")


def _cluster_id() -> str:
    """Return a UUID as Kafka writes it; one that begins with a hyphen would look like an option."""
    while True:
        text = base64.urlsafe_b64encode(uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text

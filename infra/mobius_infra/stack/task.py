"""Runs one command of the stack to its end, while everything else is looked after."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mobius_infra.stack.process import Process, Warden, exit_text, last_lines
from mobius_pipeline.errors import TerminalError

__all__ = ["TaskFailedError", "run_task"]


class TaskFailedError(TerminalError):
    """A command that the stack needs ended badly."""

    def __init__(self, name: str, why: str, log: Path) -> None:
        lines = [f"{name}: {why}; its log is {log}"]
        lines += [f"    {line}" for line in last_lines(log)]
        super().__init__("\n".join(lines))


def run_task(
    name: str,
    argv: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    warden: Warden,
    *,
    meanwhile: Callable[[], None],
    seconds: float = 600.0,
) -> dict[str, Any]:
    """Run a command that prints one JSON document, and return the document.

    ``meanwhile`` is called several times a second; when it raises, the command is killed.

    Raises
    ------
    TaskFailedError
        It ended with another exit code than 0 or 1, took longer than ``seconds``, or printed no document.
    """
    output = log.with_suffix(".json")
    process = Process(argv, environment, log, warden, output=output)
    deadline = process.started + seconds
    try:
        while (code := process.exit_code()) is None:
            if time.monotonic() > deadline:
                raise TaskFailedError(name, f"not done after {seconds:.0f} s", log)
            meanwhile()
            time.sleep(0.05)
    finally:
        process.kill()
    # 1 is an answer: done, and the answer is no.
    if code not in {0, 1}:
        raise TaskFailedError(name, exit_text(code), log)
    try:
        document = json.loads(output.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TaskFailedError(name, f"printed no JSON document ({exit_text(code)})", log) from error
    if not isinstance(document, dict):
        raise TaskFailedError(name, "printed no JSON object", log)
    return document

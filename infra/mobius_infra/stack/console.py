"""What a person sees of the stack: lines that stay, and one quiet line that is rewritten."""

from __future__ import annotations

import shutil
from typing import TextIO

__all__ = ["StackConsole"]


class StackConsole:
    """Writes to one stream; a terminal that went away is no reason to fail."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._status = ""

    def say(self, text: str) -> None:
        """Write a line that stays."""
        self._write(("\r\x1b[K" if self._status else "") + text + "\n" + self._status)

    def status(self, text: str) -> None:
        """Rewrite the last line; shown on a terminal only."""
        shown = text[: shutil.get_terminal_size().columns - 1]
        if self._terminal and shown != self._status:
            self._status = shown
            self._write(f"\r\x1b[K{self._status}")

    def end_status(self) -> None:
        """Take the last line away."""
        if self._status:
            self._status = ""
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._terminal = False

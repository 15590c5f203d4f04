"""Counters that a process of the demo leaves in a file for the supervisor."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["write_atomically"]


def write_atomically(file: Path, text: str) -> None:
    """Write ``text`` so that a reader sees the old content or the new one, never a part."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f"{file.name}.{os.getpid()}.new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(file)

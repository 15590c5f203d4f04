"""Files for the importers under test, in memory where the machine has such a folder."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

from mobius_pipeline.errors import UsageError

__all__ = ["FOLDER", "check_error", "fresh_folder"]

FOLDER: Final = Path(
    tempfile.mkdtemp(prefix="mobius-fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
)
_OWNER: Final = os.getpid()


@atexit.register
def _remove() -> None:
    if os.getpid() == _OWNER:
        shutil.rmtree(FOLDER, ignore_errors=True)


def fresh_folder() -> Path:
    """An empty folder; what the last input left is gone."""
    folder = FOLDER / "input"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def check_error(error: UsageError, *names: str) -> None:
    """An error for people names one of the files, in a text that a terminal can show."""
    assert error.file is None or Path(error.file).name in names, error.file
    assert error.file or error.field, str(error)
    text = str(error)
    assert len(text) < 2_000, text[:200]
    text.encode()

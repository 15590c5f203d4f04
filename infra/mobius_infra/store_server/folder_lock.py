"""One process owns a data folder: an advisory lock that the kernel gives back however the process ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from mobius_pipeline.errors import UsageError

__all__ = ["FolderLock"]


class FolderLock:
    """Exclusive lock on a folder, held from construction until :meth:`release` or the end of the process."""

    def __init__(self, folder: Path) -> None:
        """Take the lock.

        Raises
        ------
        UsageError
            Another process holds it; names that process, and says what to do.
        """
        self._descriptor = os.open(
            folder / "store-server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise UsageError(
                f"another store server (process {owner or 'unknown'}) owns this data folder: stop it, or use another folder",
                file=str(folder),
            ) from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode("ascii"), 0)

    def release(self) -> None:
        """Give the lock back; may be called again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

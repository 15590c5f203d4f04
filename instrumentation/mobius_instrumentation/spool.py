"""Messages that wait on the disk for a broker that is away: bounded, in order, and outliving their process."""

from __future__ import annotations

import contextlib
import logging
import threading
from pathlib import Path
from typing import Final

from mobius_instrumentation.spool_folder import SpoolFolder, own_folder, take_over

__all__ = ["Spool"]

_log: Final = logging.getLogger("mobius_instrumentation")


class Spool:
    """The spool of one zone, as one process uses it: writes to a folder of its own, takes over those of the dead.

    Parameters
    ----------
    zone_folder
        Folder of the zone, which all processes share. Nothing of another zone is in it.
    limit_bytes
        Most bytes in it, of all processes together; a process that writes at the same moment may exceed it by a message.
    """

    def __init__(self, zone_folder: Path, limit_bytes: int) -> None:
        self._zone_folder = zone_folder
        self._limit = limit_bytes
        self._guard = threading.Lock()
        self._own: SpoolFolder | None = None
        self._adopted: list[SpoolFolder] = []
        self._torn = 0
        self._closed = False
        self.full = False

    @property
    def torn(self) -> int:
        """Records that were cut off or damaged, and are lost."""
        with self._guard:
            folders = [*self._adopted, *([self._own] if self._own else [])]
            return self._torn + sum(folder.torn for folder in folders)

    def append(self, payload: bytes, spans: int) -> bool:
        """Keep a message; False where the bound is reached.

        Raises
        ------
        OSError
            The disk does not take it.
        """
        with self._guard:
            if self._closed:
                return False
            self.full = self._bytes() + len(payload) > self._limit
            if self.full:
                return False
            if self._own is None:
                self._own = own_folder(self._zone_folder)
            self._own.append(payload, spans)
            return True

    def adopt(self) -> int:
        """Take over the folders of dead processes; returns how many spans they hold."""
        spans = 0
        with self._guard, contextlib.suppress(OSError):
            if self._closed:
                return 0
            for path in sorted(self._zone_folder.glob("[0-9]*-*")):
                held = [self._own, *self._adopted]
                if any(folder is not None and folder.path == path for folder in held):
                    continue
                folder = take_over(path)
                if folder is not None:
                    spans += folder.load()
                    self._adopted.append(folder)
                    _log.info("taking over %s, with what a dead process could not send", path)
            self._release()
        return spans

    def peek(self) -> tuple[bytes, int] | None:
        """Oldest message and its number of spans: those of the dead first; None when there is none."""
        with self._guard:
            for folder in self._folders():
                found = folder.peek()
                if found is not None:
                    return found
            return None

    def pop(self) -> bool:
        """Forget the message that :meth:`peek` returned last; False if the spool was closed meanwhile."""
        with self._guard:
            folder = next((folder for folder in self._folders() if not folder.empty), None)
            if folder is None:
                return False
            folder.pop()
            self.full = False
            self._release()
            return True

    def close(self) -> None:
        """Let go of all folders; what is in them is delivered by the next process."""
        with self._guard:
            self._closed = True
            for folder in self._folders():
                self._torn += folder.torn
                folder.close()
            self._own, self._adopted = None, []

    def disown(self) -> None:
        """Forget everything in a forked child."""
        for folder in self._folders():
            folder.disown()

    def _folders(self) -> list[SpoolFolder]:
        return [*self._adopted, *([] if self._own is None else [self._own])]

    def _release(self) -> None:
        for folder in [folder for folder in self._adopted if folder.empty]:
            self._torn += folder.torn
            folder.close()
            self._adopted.remove(folder)

    def _bytes(self) -> int:
        total = 0
        for file in self._zone_folder.glob("*/*.seg"):
            with contextlib.suppress(OSError):  # another process has just delivered it
                total += file.stat().st_size
        return total

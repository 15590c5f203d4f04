"""One process's part of the spool: append-only segment files, a cursor, and a lock that dies with its owner.

A record is ``<length><crc32c><spans>`` (little-endian, 4 bytes each) and a message; the checksum is of what follows it.
Nothing is synced to the disk: what was written survives the process, not a power cut.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from collections import deque
from pathlib import Path
from typing import Final, NamedTuple
from uuid import uuid4

import crc32c

__all__ = ["Record", "SpoolFolder", "own_folder", "take_over"]

_HEAD: Final = struct.Struct("<III")
_CURSOR: Final = struct.Struct("<QQI")
_LONGEST: Final = 1 << 26
_SEGMENT_BYTES: Final = 4 * 1024 * 1024
_LOCK: Final = "lock"
_CURSOR_NAME: Final = "cursor"


class Record(NamedTuple):
    """A message on the disk: where it is, how long it is with its head, and how many spans it holds."""

    segment: int
    offset: int
    size: int
    spans: int


class SpoolFolder:
    """A folder whose lock this process holds. Not safe for several threads: :class:`Spool` guards it.

    Attributes
    ----------
    torn
        Records that were cut off or damaged, and are ignored with what follows them in their segment.
    """

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self.torn = 0
        self._lock = lock
        self._records: deque[Record] = deque()
        self._last = 0  # number of the newest segment
        self._writing = -1
        self._size = 0  # of the segment that is written

    def load(self) -> int:
        """Find the records that are not delivered yet; returns how many spans they hold."""
        segment, offset = self._read_cursor()
        for number in sorted(int(file.stem) for file in self.path.glob("*.seg")):
            self._last = max(self._last, number)
            if number < segment:
                self._file(number).unlink(missing_ok=True)
            else:
                self._scan(number, offset if number == segment else 0)
        return sum(record.spans for record in self._records)

    def append(self, payload: bytes, spans: int) -> None:
        """Write a message.

        Raises
        ------
        OSError
            It cannot be written; the file is as it was.
        """
        if self._writing < 0 or self._size >= _SEGMENT_BYTES:
            self._next_segment()
        checked = spans.to_bytes(4, "little") + payload
        record = _HEAD.pack(len(payload), crc32c.crc32c(checked), spans) + payload
        try:
            self._write(record)
        except OSError:
            os.ftruncate(self._writing, self._size)
            raise
        self._records.append(Record(self._last, self._size, len(record), spans))
        self._size += len(record)

    def _write(self, record: bytes) -> None:
        if os.write(self._writing, record) != len(record):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def peek(self) -> tuple[bytes, int] | None:
        """Oldest message and its number of spans; None when there is no further."""
        while self._records:
            record = self._records[0]
            found = _read(self._file(record.segment), record.offset)
            if found is not None:
                return found[0], record.spans
            self.torn += 1  # damaged since it was found
            self.pop()
        return None

    def pop(self) -> None:
        """Forget the oldest message, which was delivered. The cursor says so to whoever comes after a kill."""
        record = self._records.popleft()
        following = self._records[0].segment if self._records else 0
        if not self._records and self._writing >= 0:
            # All is delivered: the next message begins a new segment.
            os.close(self._writing)
            self._writing = -1
        if following != record.segment:
            self._file(record.segment).unlink(missing_ok=True)
            return
        end = record.offset + record.size
        self._write_cursor(record.segment, end)

    @property
    def empty(self) -> bool:
        """Whether all is delivered."""
        return not self._records

    def close(self) -> None:
        """Let go; an empty folder disappears."""
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1
        if self.empty:
            with contextlib.suppress(OSError):
                for file in self.path.iterdir():
                    file.unlink()
                self.path.rmdir()
        os.close(self._lock)

    def disown(self) -> None:
        """Forget it in a forked child: files and lock are the parent's."""
        for descriptor in (self._writing, self._lock):
            if descriptor >= 0:
                os.close(descriptor)

    def _file(self, number: int) -> Path:
        return self.path / f"{number:016d}.seg"

    def _next_segment(self) -> None:
        fresh = os.open(self._file(self._last + 1), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        if self._writing >= 0:
            os.close(self._writing)
        self._writing, self._size = fresh, 0
        self._last += 1

    def _scan(self, number: int, offset: int) -> None:
        file = self._file(number)
        size = file.stat().st_size
        while offset < size:
            found = _read(file, offset)
            if found is None:
                self.torn += 1
                return
            payload, spans = found
            length = _HEAD.size + len(payload)
            self._records.append(Record(number, offset, length, spans))
            offset += length

    def _read_cursor(self) -> tuple[int, int]:
        with contextlib.suppress(OSError, struct.error):
            segment, offset, check = _CURSOR.unpack((self.path / _CURSOR_NAME).read_bytes())
            if check == crc32c.crc32c(struct.pack("<QQ", segment, offset)):
                return int(segment), int(offset)
        return 0, 0

    def _write_cursor(self, segment: int, offset: int) -> None:
        check = crc32c.crc32c(struct.pack("<QQ", segment, offset))
        descriptor = os.open(self.path / _CURSOR_NAME, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(descriptor, _CURSOR.pack(segment, offset, check), 0)
        finally:
            os.close(descriptor)


def _read(file: Path, offset: int) -> tuple[bytes, int] | None:
    """Message and spans of the record at ``offset``; None if it is cut off or damaged."""
    try:
        with file.open("rb") as opened:
            opened.seek(offset)
            length, check, spans = _HEAD.unpack(opened.read(_HEAD.size))
            if length > _LONGEST:
                return None
            payload = opened.read(length)
    except (OSError, struct.error):
        return None
    if len(payload) != length or crc32c.crc32c(spans.to_bytes(4, "little") + payload) != check:
        return None
    return payload, spans


def own_folder(zone_folder: Path) -> SpoolFolder:
    """Make this process's folder.

    Raises
    ------
    OSError
        It cannot be made.
    """
    zone_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    name = f"{os.getpid()}-{uuid4().hex[:8]}"
    # It gets its name with its lock: others take over what has a name and no lock.
    hidden = zone_folder / f".{name}"
    hidden.mkdir(mode=0o700)
    lock = os.open(hidden / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return SpoolFolder(hidden.rename(zone_folder / name), lock)


def take_over(path: Path) -> SpoolFolder | None:
    """Take a folder over whose process is dead; None if it lives, or another took it."""
    try:
        lock = os.open(path / _LOCK, os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(lock).st_ino == (path / _LOCK).stat().st_ino:
            return SpoolFolder(path, lock)
    except OSError:
        pass
    os.close(lock)
    return None

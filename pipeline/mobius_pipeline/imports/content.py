"""Bytes of an input file: plain, gzip or zstd, told apart by their content, read with bounded memory."""

from __future__ import annotations

import hashlib
import io
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Protocol

import zstandard

from mobius_pipeline.errors import UsageError

__all__ = ["Content", "Source", "open_sources"]

_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
# Compressed bytes given to a decompressor at once. They bound the memory of a malicious file: zlib makes
# at most 1,032 bytes of one, zstd up to 32,768.
_GZIP_STEP: Final = 1 << 16
_ZSTD_STEP: Final = 1 << 10
_PLAIN_STEP: Final = 1 << 18
_LONGEST_LINE: Final = 256 << 20


class _Truncated(Exception):  # noqa: N818 -- a signal inside this module, not an error for people
    """The compressed data end before their end mark."""


class _Corrupt(Exception):  # noqa: N818 -- as _Truncated
    """The compressed data cannot be decompressed."""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Source:
    """One input: where its bytes lie, and the name that people know it by."""

    path: Path
    name: str

    @property
    def bytes_on_disk(self) -> int:
        """Size as given, before decompression."""
        return self.path.stat().st_size


@contextmanager
def open_sources(paths: Sequence[str | Path]) -> Iterator[tuple[Source, ...]]:
    """Turn arguments into sources; ``-`` is standard input, kept in a temporary file while it is used.

    Raises
    ------
    UsageError
        A file is missing, is a folder, cannot be read, or is named twice.
    """
    names = [str(path) for path in paths]
    if not names:
        raise UsageError("no input file")
    if repeated := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise UsageError("is named twice", file=repeated[0])
    with tempfile.TemporaryDirectory(prefix="mobius-import-") as folder:
        sources = []
        for name in names:
            if name == "-":
                copy = Path(folder) / "stdin"
                with copy.open("wb") as target:
                    shutil.copyfileobj(sys.stdin.buffer, target)
                sources.append(Source(copy, "standard input"))
            else:
                sources.append(_existing(name))
        yield tuple(sources)


def _existing(name: str) -> Source:
    path = Path(name)
    try:
        if path.is_dir():
            raise UsageError("is a folder, not a file", file=name)
        with path.open("rb"):
            return Source(path, name)
    except OSError as error:
        raise UsageError(f"cannot be read ({error.strerror})", file=name) from error


class _Decompressed(io.RawIOBase):
    """Decompressed bytes of ``file``; counts what was read of it and digests what comes out."""

    def __init__(self, file: IO[bytes], progress: Callable[[int], None] | None) -> None:
        super().__init__()
        self._file = file
        self._progress = progress
        self._digest = hashlib.sha256()
        self._ready = memoryview(b"")
        self._ended = False
        magic = file.read(4)
        file.seek(0)
        self._make, self._step, self.kind = _decompressor_for(magic)
        self._current: _Decompressor | None = None

    def readable(self) -> bool:
        return True

    def hexdigest(self) -> str:
        return self._digest.hexdigest()

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        while not self._ready and not self._ended:
            self._ready = memoryview(self._more())
        count = min(len(view), len(self._ready))
        view[:count] = self._ready[:count]
        self._digest.update(self._ready[:count])
        self._ready = self._ready[count:]
        return count

    def _more(self) -> bytes:
        data = self._file.read(self._step)
        if self._progress is not None:
            self._progress(len(data))
        if not data:
            self._ended = True
            if self._current is not None:
                raise _Truncated
            return b""
        if self._make is None:
            return data
        out = bytearray()
        while data:  # members and frames may follow each other in one file
            if self._current is None:
                if self.kind == "gzip" and not data.strip(b"\0"):
                    break  # tape padding, which gzip allows after the last member
                self._current = self._make()
            try:
                out += self._current.decompress(data)
            except (zlib.error, zstandard.ZstdError) as error:
                raise _Corrupt(str(error)) from error
            if not self._current.eof:
                break
            data = self._current.unused_data
            self._current = None
        return bytes(out)


def _decompressor_for(magic: bytes) -> tuple[Callable[[], _Decompressor] | None, int, str]:
    if magic.startswith(_GZIP):
        return (lambda: zlib.decompressobj(wbits=31)), _GZIP_STEP, "gzip"
    if magic == _ZSTD:
        # Without a limit a frame may ask for a window of gigabytes.
        return (
            (lambda: zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()),
            _ZSTD_STEP,
            "zstd",
        )
    return None, _PLAIN_STEP, "plain"


class Content:
    """Decompressed content of one source, read once from its begin to its end.

    Every error of reading names the source, and the line after which the data end where they are cut off.
    """

    def __init__(
        self, source: Source, file: IO[bytes], progress: Callable[[int], None] | None = None
    ) -> None:
        self.source = source
        self._raw = _Decompressed(file, progress)
        self._reader = io.BufferedReader(self._raw, _PLAIN_STEP)
        self.line = 0
        self.ends_with_newline = False

    @classmethod
    @contextmanager
    def open(
        cls, source: Source, progress: Callable[[int], None] | None = None
    ) -> Iterator[Content]:
        """Open ``source``; ``progress`` is told of each piece of the file's own bytes that was read."""
        try:
            with source.path.open("rb") as file:
                yield cls(source, file, progress)
        except OSError as error:
            raise UsageError(f"cannot be read ({error.strerror})", file=source.name) from error

    def peek(self, size: int = 1 << 14) -> bytes:
        """Return the first bytes without reading them; fewer than ``size`` where the file is short."""
        try:
            head = self._reader.peek(size)
        except (_Truncated, _Corrupt) as error:
            raise self._broken(error) from error
        if not head:
            raise UsageError("is empty", file=self.source.name)
        return head[:size]

    def peek_byte(self) -> bytes:
        """Return the next byte without reading it; nothing at the end."""
        try:
            return self._reader.peek(1)[:1]
        except (_Truncated, _Corrupt) as error:
            raise self._broken(error) from error

    def read(self, size: int) -> bytes:
        """Read up to ``size`` bytes; fewer at the end only."""
        try:
            return self._reader.read(size)
        except (_Truncated, _Corrupt) as error:
            raise self._broken(error) from error

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield number (from 1) and bytes of each line, without its end.

        Raises
        ------
        UsageError
            The data are cut off or corrupt, or a line is longer than 256 MiB.
        """
        while True:
            try:
                line = self._reader.readline(_LONGEST_LINE)
            except (_Truncated, _Corrupt) as error:
                raise self._broken(error) from error
            if not line:
                return
            self.line += 1
            self.ends_with_newline = line.endswith(b"\n")
            if len(line) == _LONGEST_LINE:
                raise self.wrong("the line is longer than 256 MiB")
            yield self.line, line.rstrip(b"\r\n")

    def rest(self) -> bytes:
        """Read everything that is left, up to 256 MiB."""
        data = self.read(_LONGEST_LINE)
        if len(data) == _LONGEST_LINE:
            raise UsageError("one document of over 256 MiB; split it", file=self.source.name)
        return data

    def digest(self) -> str:
        """SHA-256 of the decompressed content in hexadecimal; reads what is left of it."""
        while self.read(_PLAIN_STEP):
            pass
        return self._raw.hexdigest()

    def wrong(self, problem: str, *, line: int | None = None) -> UsageError:
        """Make an error about the present line (or ``line``) of this source."""
        return UsageError(problem, file=self.source.name, line=line or self.line or None)

    def _broken(self, error: Exception) -> UsageError:
        kind = self._raw.kind
        where = f"after line {self.line}" if self.line else "before its first line is complete"
        if isinstance(error, _Truncated):
            problem = f"the {kind} data are cut off {where}; get the whole file"
        else:
            problem = f"the {kind} data are damaged {where} ({error})"
        return UsageError(problem, file=self.source.name, line=self.line or None)

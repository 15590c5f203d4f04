"""Gatling's simulation.log as bytes, big-endian, as current versions write it.

Byte 0, then version, class, start in ms, description, scenarios, assertions; then records until the end: a user, a
request, a group, or an error. A text is its length, its bytes and how they are coded. Texts that come again are
cached: a positive number names a new one that follows, a negative one that came before.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Final

from mobius_pipeline.imports.content import Content
from mobius_pipeline.imports.formats.gatling import note_run, to_request
from mobius_pipeline.imports.formats.model import Facts, Format, Request

__all__ = ["GATLING_BINARY", "is_gatling_binary"]

_BEGIN: Final = re.compile(rb"\x00\x00\x00\x00.\d+\.\d+[.\w-]*\x00", re.DOTALL)
_LONGEST_TEXT: Final = 1 << 20
_MOST: Final = 1 << 20
_MOST_CACHED_BYTES: Final = 256 << 20
# Latin-1, or UTF-16 in the byte order of the machine that Gatling ran on, which is little-endian nowadays.
_CODERS: Final = {0: "latin-1", 1: "utf-16-le"}
_INT: Final = struct.Struct(">i")
_LONG: Final = struct.Struct(">q")
_TIMES: Final = struct.Struct(">iiB")
_USER, _REQUEST, _GROUP, _ERROR = 2, 1, 3, 4


class _CutOffError(ValueError):
    """The file ends inside a record."""


def is_gatling_binary(head: bytes) -> bool:
    """Tell whether a file begins like Gatling's binary log."""
    return _BEGIN.match(head) is not None


class _Reader:
    def __init__(self, content: Content) -> None:
        self._content = content
        self._cache: dict[int, str] = {}
        self._cached = 0

    def take(self, size: int) -> bytes:
        data = self._content.read(size)
        if len(data) < size:
            raise _CutOffError(
                "the file ends inside it: the run was cut off, or the file is not whole"
            )
        return data

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        return int(_INT.unpack(self.take(4))[0])

    def long(self) -> int:
        return int(_LONG.unpack(self.take(8))[0])

    def count(self, what: str) -> int:
        value = self.number()
        if not 0 <= value <= _MOST:
            raise ValueError(f"{value} {what}")
        return value

    def text(self) -> str:
        length = self.number()
        if not 0 <= length <= _LONGEST_TEXT:
            raise ValueError(f"a text of {length} bytes")
        if not length:
            return ""
        data, coder = self.take(length), self.byte()
        if coder not in _CODERS:
            raise ValueError(f"a text in the unknown code {coder}")
        return data.decode(_CODERS[coder], "replace")

    def cached(self) -> str:
        number = self.number()
        if number < 0:
            if -number not in self._cache:
                raise ValueError(f"a text by the number {-number}, which none has")
            return self._cache[-number]
        text = self.text()
        self._cached += len(text) + 100
        if self._cached > _MOST_CACHED_BYTES:
            raise ValueError("more different texts than fit into memory")
        self._cache[number] = text
        return text


def _read(content: Content, facts: Facts) -> Iterator[Request]:
    reader = _Reader(content)
    number = 0
    try:
        start_ms, scenarios = _header(reader, facts)
        while kind := content.read(1):
            number += 1
            if kind[0] == _REQUEST:
                yield _request(reader, start_ms)
            else:
                _pass_over(reader, kind[0], scenarios)
    except _CutOffError as error:
        if not number:
            raise _wrong(content, number, error) from error
        facts.warnings.append(f"record {number:,} is cut off: what stands before it was taken")
    except ValueError as error:
        raise _wrong(content, number, error) from error


def _wrong(content: Content, number: int, error: Exception) -> Exception:
    wrong = content.wrong("")
    field = f"record {number}" if number else "header"
    return type(wrong)(f"is no record of Gatling's log ({error})", file=wrong.file, field=field)


def _header(reader: _Reader, facts: Facts) -> tuple[int, int]:
    if reader.byte():
        raise ValueError("it does not begin with the run")
    version, simulation = reader.text(), reader.text()
    note_run(facts, version, simulation)
    start_ms = reader.long()
    reader.text()
    scenarios = reader.count("scenarios")
    for _ in range(scenarios):
        reader.text()
    for _ in range(reader.count("assertions")):
        reader.take(reader.count("bytes of an assertion"))
    return start_ms, scenarios


def _pass_over(reader: _Reader, kind: int, scenarios: int) -> None:
    """Read a record that is no request; its texts count into the cache."""
    if kind == _USER:
        if not 0 <= reader.number() < scenarios:
            raise ValueError("a user of a scenario that there is none of")
        reader.take(5)  # start or end, and when
    elif kind == _GROUP:
        for _ in range(reader.count("groups")):
            reader.cached()
        reader.take(13)  # start, end, cumulated time, OK or KO
    elif kind == _ERROR:
        reader.text()
        reader.number()
    else:
        raise ValueError(f"a record of the unknown kind {kind}")


def _request(reader: _Reader, run_ms: int) -> Request:
    for _ in range(reader.count("groups")):
        reader.cached()
    name = reader.cached()
    start, end, good = _TIMES.unpack(reader.take(_TIMES.size))
    message = reader.cached()
    return to_request(name, run_ms + start, run_ms + end, good=bool(good), message=message.strip())


GATLING_BINARY: Final = Format("gatling-binary", "gatling", _read)

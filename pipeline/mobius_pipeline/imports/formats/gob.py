"""Go's binary form of values (encoding/gob), as far as records of flat fields, byte strings and maps of lists need it.

Written from the format's description in the documentation of the Go package encoding/gob. A stream is a row of
messages, each after its length: a negative type id defines a type, a positive one is followed by a value of it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["GobError", "Stream"]

_LARGEST_MESSAGE: Final = 256 << 20
_BOOL, _INT, _UINT, _FLOAT, _BYTES, _STRING = range(1, 7)
_MOST_TYPES: Final = 1_000
_DEEPEST: Final = 20


class GobError(ValueError):
    """The bytes are no gob, or hold a kind of value that is not read here."""


@dataclass(frozen=True, slots=True)
class _Type:
    """A type that the stream defined: a struct's fields, a slice's element, a map's key and element, or bytes."""

    kind: str
    fields: tuple[tuple[str, int], ...] = ()
    key: int = 0
    element: int = 0


class _Cursor:
    """Reads the primitives of one message."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self.data):
            raise GobError("a value reaches over the end of its message")
        found, self.at = self.data[self.at : end], end
        return found

    def uint(self) -> int:
        first = self.take(1)[0]
        if first < 0x80:
            return first
        size = 256 - first
        if size > 8:
            raise GobError("a number of over 8 bytes")
        return int.from_bytes(self.take(size), "big")

    def int(self) -> int:
        value = self.uint()
        return ~(value >> 1) if value & 1 else value >> 1

    def float(self) -> float:
        (value,) = struct.unpack("<d", self.uint().to_bytes(8, "big"))
        return float(value)

    def bytes(self) -> bytes:
        return self.take(self.uint())


class Stream:
    """Yields the values of a stream; structs as dictionaries that leave out fields of value zero."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._types: dict[int, _Type] = {}

    def values(self) -> Iterator[dict[str, Any]]:
        """Yield each struct of the stream.

        Raises
        ------
        GobError
            The bytes are no gob, are cut off, or hold something else.
        """
        while (message := self._message()) is not None:
            cursor = _Cursor(message)
            type_id = cursor.int()
            if type_id < 0:
                if len(self._types) >= _MOST_TYPES:
                    raise GobError(f"over {_MOST_TYPES} types")
                self._types[-type_id] = _definition(cursor)
                continue
            type_ = self._types.get(type_id)
            if type_ is None or type_.kind != "struct":
                raise GobError(f"a value of type {type_id}, which is no struct that was defined")
            yield self._struct(cursor, type_, 0)

    def _message(self) -> bytes | None:
        first = self._read(1)
        if not first:
            return None
        length = first[0]
        if length >= 0x80:
            size = 256 - length
            if size > 8:
                raise GobError("a length of over 8 bytes")
            more = self._read(size)
            if len(more) < size:
                raise GobError("the file ends inside a length; get the whole file")
            length = int.from_bytes(more, "big")
        if length > _LARGEST_MESSAGE:
            raise GobError(f"a message of {length:,} bytes")
        data = self._read(length)
        if len(data) < length:
            raise GobError("the file ends inside a record; get the whole file")
        return data

    def _struct(self, cursor: _Cursor, type_: _Type, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        number = -1
        while delta := cursor.uint():
            number += delta
            if number >= len(type_.fields):
                raise GobError("a struct has more fields than its type")
            name, field_type = type_.fields[number]
            found[name] = self._value(cursor, field_type, depth + 1)
        return found

    def _value(self, cursor: _Cursor, type_id: int, depth: int) -> Any:
        if depth > _DEEPEST:
            raise GobError("values inside values too deep")
        if type_id == _STRING:
            return cursor.bytes().decode("utf-8", "replace")
        if type_id == _BYTES:
            return cursor.bytes()
        if type_id == _INT:
            return cursor.int()
        if type_id in {_UINT, _BOOL}:
            return cursor.uint()
        if type_id == _FLOAT:
            return cursor.float()
        type_ = self._types.get(type_id)
        if type_ is None:
            raise GobError(f"a value of type {type_id}, which was not defined")
        if type_.kind == "struct":
            return self._struct(cursor, type_, depth)
        if type_.kind == "encoded":
            return cursor.bytes()
        count = cursor.uint()
        if count > len(cursor.data):
            raise GobError("a list longer than its message")
        if type_.kind == "slice":
            return [self._value(cursor, type_.element, depth + 1) for _ in range(count)]
        return {
            self._value(cursor, type_.key, depth + 1): self._value(cursor, type_.element, depth + 1)
            for _ in range(count)
        }


def _definition(cursor: _Cursor) -> _Type:
    """Read a wireType: one field of it is set, by the kind of type that it defines."""
    kind = cursor.uint() - 1
    if kind == 0:  # an array: its common part, element, length
        return _Type("slice", element=_parts(cursor, 3)[2])
    if kind == 1:
        return _Type("slice", element=_parts(cursor, 2)[2])
    if kind == 2:
        return _Type("struct", fields=tuple(_fields(cursor)))
    if kind == 3:
        parts = _parts(cursor, 3)
        return _Type("map", key=parts[2], element=parts[3])
    if kind in {4, 5, 6}:  # a type that encodes itself, as a time does
        return _Type("encoded")
    raise GobError("a type of no known kind")


def _parts(cursor: _Cursor, most: int) -> dict[int, int]:
    """Read a type's common part (number 1) and the numbers after it, by their place."""
    found = dict.fromkeys(range(1, most + 2), 0)
    place = 0
    while delta := cursor.uint():
        place += delta
        if place == 1:
            _common(cursor)
        elif place in found:
            found[place] = cursor.int()
        else:
            raise GobError("a type with an unknown part")
    return found


def _common(cursor: _Cursor) -> None:
    place = 0
    while delta := cursor.uint():
        place += delta
        if place == 1:
            cursor.bytes()
        else:
            cursor.int()


def _fields(cursor: _Cursor) -> Iterator[tuple[str, int]]:
    place = 0
    while delta := cursor.uint():
        place += delta
        if place == 1:
            _common(cursor)
            continue
        for _ in range(cursor.uint()):
            name, type_id, part = "", 0, 0
            while step := cursor.uint():
                part += step
                if part == 1:
                    name = cursor.bytes().decode("utf-8", "replace")
                else:
                    type_id = cursor.int()
            yield name, type_id

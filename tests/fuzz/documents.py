"""Damages JSON documents, tables and files: small changes that keep most of the structure, and values that hurt."""

from __future__ import annotations

import copy
import gzip
import io
import json
import re
from collections.abc import Iterator
from typing import Any, Final

import zstandard

from tests.fuzz.draw import Draw

__all__ = ["compressed", "csv_table", "damaged", "damaged_tokens", "json_text"]

# Texts that json_text() puts something else in place of: what json.dumps cannot write.
_TOKENS: Final = re.compile(rb"([\w.+-]+)")
_RAW: Final = {
    '"@nested"': "[" * 200 + "]" * 200,
    '"@nested_deep"': '{"a":' * 990 + "1" + "}" * 990,
    '"@too deep"': "[" * 100_000,
    '"@digits"': "9" * 5_000,
    '"@half"': '"\\ud800"',
    '"@huge"': "1e999",
}
_WEIRD: Final[tuple[Any, ...]] = (
    *(json.loads(name) for name in _RAW), None, True, False, 0, -1, 1, 6, 65_535, 65_536, 2**31, 2**53 + 1, 2**63, 2**64, 10**20, 10**400, -(10**400),
    0.5, 1e15, 1e308, -1e308, 5e-324, float("nan"), float("inf"), "", " ", "x", "0", "-0", "+1", "1_0", "0x10",
    "1e5", "1e999", "nan", "Infinity", "١٢", "\x00", "\ud800", "\n", '"', ",", "é" * 300, "x" * 70_000, "9" * 30,
    "9" * 5_000, "ab\tcd" * 4, "GET", "eu-west-1", "us-east-1", "cloud.region", "http://h/a?b#c", "/a/[id]/{x}",
    [], {}, [[]], [None], {"": None}, {"values": []}, {"stringValue": "y"}, {"intValue": "7"}, {"boolValue": True},
    "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "1999-12-31T23:59:59Z", "2299-12-31T23:59:59Z",
    "2026-02-30T00:00:00Z", "2026-11-23T15:05:54.0063224859999Z", "2026-11-23t15:05:54z", "2106-02-08T00:00:00Z",
    0.1, 946_684_799, 4_294_967_296, 10_413_792_000, 1e12, 1e13, 3.0, 12345678901234567890,
)  # fmt: skip


def _nodes(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) below ``value``."""
    if isinstance(value, dict):
        keys: Any = list(value)
    elif isinstance(value, list):
        keys = range(len(value))
    else:
        return
    for key in keys:
        yield value, key
        yield from _nodes(value[key])


def damaged(draw: Draw, document: Any) -> Any:
    """A copy of ``document`` with up to six nodes changed, removed, repeated, renamed or swapped."""
    result = copy.deepcopy(document)
    for _ in range(draw.below(7)):
        nodes = list(_nodes(result))
        if not nodes:
            return _weird(draw)
        container, key = nodes[draw.below(len(nodes))]
        choice = draw.below(8)
        if choice == 0:
            del container[key]
        elif choice == 1 and isinstance(container, list):
            container.insert(key, copy.deepcopy(container[key]))
        elif choice == 1:
            container[str(draw.pick(_WEIRD))[:50]] = container.pop(key)
        elif choice == 2:
            other, place = nodes[draw.below(len(nodes))]
            container[key] = copy.deepcopy(other[place])
        elif choice == 3:
            container[key] = draw.text()
        elif choice == 4:
            container[key] = draw.number(8) if not draw.one_in(3) else str(draw.number(8))
        else:
            container[key] = _weird(draw)
    return result


def damaged_tokens(draw: Draw, text: bytes) -> bytes:
    """The text of any format with up to six of its words, numbers or signs changed, removed, repeated or swapped."""
    parts = _TOKENS.split(text)
    for _ in range(draw.below(7)):
        place, other = draw.below(len(parts)), draw.below(len(parts))
        choice = draw.below(6)
        if choice == 0:
            parts[place] = b""
        elif choice == 1:
            parts[place] += parts[place]
        elif choice == 2:
            parts[place], parts[other] = parts[other], parts[place]
        elif choice == 3:
            parts[place] = draw.blob()
        else:
            parts[place] = str(draw.pick(_WEIRD)).encode("utf-8", "surrogatepass")
    return b"".join(parts)


def _weird(draw: Draw) -> Any:
    return copy.deepcopy(draw.pick(_WEIRD))


def json_text(document: Any, indent: int | None = None) -> bytes:
    """The document as JSON, with what json.dumps cannot write put in."""
    text = json.dumps(document, indent=indent)
    for placeholder, raw in _RAW.items():
        text = text.replace(json.dumps(placeholder), raw)
    return text.encode()


def csv_table(draw: Draw, rows: list[list[str]]) -> bytes:
    """The rows as CSV after :func:`damaged`; now and then a cell is not quoted as it should be."""
    lines = []
    table = damaged(draw, rows)
    for row in table if isinstance(table, list) else [table]:
        cells = [str(cell) for cell in (row if isinstance(row, list) else [row])]
        plain = draw.one_in(32)
        lines.append(",".join(cell if plain else _quoted(cell) for cell in cells))
    return "\n".join([*lines, ""]).encode("utf-8", "surrogatepass" if draw.one_in(4) else "replace")


def _quoted(cell: str) -> str:
    special = any(sign in cell for sign in ',"\n\r')
    return '"' + cell.replace('"', '""') + '"' if special else cell


def compressed(draw: Draw, content: bytes) -> bytes:
    """The bytes of a file with this content: plain, gzip or zstd, of one part or several, sometimes broken."""
    choice = draw.below(12)
    middle = len(content) // 2
    if choice == 8:
        content = gzip.compress(content, 1)
    elif choice == 9:
        content = gzip.compress(content[:middle], 1) + gzip.compress(content[middle:], 1) + bytes(9)
    elif choice == 10:
        content = zstandard.compress(content)
    elif choice == 11:
        target = io.BytesIO()
        with zstandard.ZstdCompressor().stream_writer(target, closefd=False) as writer:
            writer.write(content)
        content = zstandard.compress(content[:0]) + target.getvalue()
    if draw.one_in(16):
        content = content[: draw.below(len(content) + 1)]
    if draw.one_in(16):
        place = draw.below(len(content) + 1)
        content = content[:place] + draw.blob() + content[place + draw.below(4) :]
    return content

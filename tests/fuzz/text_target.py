"""Small texts that people, files and networks give: residency maps, rules, times, markers, headers."""

from __future__ import annotations

import logging
import re
import tomllib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

from mobius_instrumentation.marker import Marker, sign, verify
from mobius_instrumentation.synthetic import _baggage, type_of_user_agent
from mobius_instrumentation.zones import ZonesError, load_zones
from mobius_pipeline.config import read_credentials_file
from mobius_pipeline.errors import UsageError
from mobius_pipeline.imports.routes import RouteMatcher, Template, load_rules
from mobius_pipeline.kafka_client import content_encoding
from mobius_pipeline.options import format_time, parse_time
from tests.fuzz.documents import damaged
from tests.fuzz.draw import Draw
from tests.fuzz.file_input import check_error, fresh_folder
from tests.fuzz.target import Target

__all__ = ["TARGET"]

# It says what is wrong with each header.
logging.getLogger("opentelemetry.baggage").setLevel(logging.CRITICAL)

_NOW: Final = datetime(2026, 11, 23, 12, tzinfo=UTC)
_TIMES: Final = (
    "2026-11-23T17:00:00Z",
    "2026-11-23",
    "now",
    "90m",
    "1.5h",
    "0001-01-01T00:00+23:59",
    "9999-W52",
)
_ZONES: Final = """
[hub]
clickhouse = "http://127.0.0.1:8130"
database = "rum_hub"
[zones.eu]
regions = ["eu-west-1", "eu-central-1"]
kafka = ["127.0.0.1:9092", "[::1]:9092"]
clickhouse = "https://store.example:8131"
[zones.us]
regions = ["us-east-1"]
kafka = ["kafka.example:9092"]
clickhouse = "http://[::1]"
database = "rum_us"
"""
_RULES: Final = """
[[route]]
name = "browse"
route = "/catalog/{item_id}"
[[route]]
pattern = "/old/.*|x{2,3}"
method = "get"
route = "/new"
service = "shop"
"""


def _toml(draw: Draw, example: str) -> bytes:
    if draw.one_in(2):
        return draw.rest()
    document = damaged(draw, tomllib.loads(example))
    lines = []
    for key, value in document.items() if isinstance(document, dict) else ():
        tables = value if isinstance(value, list) else [value]
        for table in tables:
            lines += _table(str(key), table, repeated=isinstance(value, list))
    return "\n".join(lines).encode("utf-8", "replace")


def _table(name: str, table: Any, *, repeated: bool) -> list[str]:
    if not isinstance(table, dict):
        return [f"{_string(name)} = {_value(table)}"]
    inner = {key: value for key, value in table.items() if isinstance(value, dict)}
    lines = [f"[[{_string(name)}]]" if repeated else f"[{_dotted(name)}]"]
    lines += [f"{_string(key)} = {_value(v)}" for key, v in table.items() if key not in inner]
    for key, value in inner.items():
        lines += _table(f"{name}\0{key}", value, repeated=False)
    return lines


def _dotted(name: str) -> str:
    return ".".join(_string(part) for part in name.split("\0"))


def _string(text: Any) -> str:
    return '"' + "".join(f"\\U{ord(sign):08x}" for sign in str(text)) + '"'


def _value(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if value in ("@nested", "@too deep"):
        return "[" * 5_000 + "]" * 5_000
    if value == "@digits":
        return "9" * 5_000
    return _string(value)


def _zones(draw: Draw) -> bool:
    file = fresh_folder() / "zones.toml"
    file.write_bytes(_toml(draw, _ZONES))
    try:
        zones = load_zones(file)
    except ZonesError as error:
        assert error.file == str(file)
        assert error.key
        assert len(str(error)) < 1_000
        return False
    assert len(set(zones.regions)) == len(zones.regions)
    for zone in zones:
        for address in (zone.clickhouse, *(f"kafka://{server}" for server in zone.kafka)):
            parts = urlsplit(address)
            assert parts.hostname, address
            assert address.strip() == address, address
            assert parts.port is None or 0 < parts.port < 65_536, address
    return True


def _rules(draw: Draw) -> bool:
    file = fresh_folder() / "rules.toml"
    file.write_bytes(_toml(draw, _RULES))
    try:
        rules = load_rules(file)
    except UsageError as error:
        check_error(error, file.name)
        return False
    if not any(re.search(r"[*+}].*[*+}]", rule.pattern.pattern) for rule in rules):
        RouteMatcher([Template("shop", "GET", "/catalog/{item_id}")], rules).match("GET", "browse")
    return True


def _time(draw: Draw) -> bool:
    text = draw.text() if draw.one_in(2) else draw.pick(_TIMES) + draw.text(6)
    try:
        moment = parse_time(text, _NOW, field="--since")
    except UsageError as error:
        assert error.field == "--since"
        return False
    assert moment.tzinfo is UTC
    assert parse_time(format_time(moment), _NOW).replace(microsecond=0) == moment.replace(
        microsecond=0
    )
    return True


def _marker(draw: Draw) -> bool:
    key = draw.pick(("key", "", "ü", "\udcff")) if draw.one_in(4) else "key"
    choice = draw.below(4)
    token = draw.text(200)
    if choice:
        token = sign("run-1", "t", key="key", expires=draw.number(4))
        place = draw.below(len(token) + 1)
        token = token[:place] + draw.text(3) + token[place + draw.below(3) :]
    if choice == 3:
        token = f"v1.{draw.text(9)}.t.{draw.text(14)}.{'a' * 64}"
    header = (b"mobius-synthetic=" if choice else b"") + token.encode("utf-8", "replace")
    for entry in (token, *map(str, _baggage(header).values())):
        found = verify(entry, key=key, now=1e9)
        assert found is None or isinstance(found, Marker)
        if found is not None and choice != 3:
            assert sign(found.run, found.test, key=key, expires=found.expires) == entry
    type_of_user_agent(draw.text(300))
    return True


def _headers(draw: Draw) -> bool:
    headers = []
    for _ in range(draw.below(5)):
        name = draw.pick(("content-encoding", "Content-Encoding", "topic-id", "")) + draw.text(2)
        headers.append((name, None if draw.one_in(4) else draw.blob(300)))
    encoding = content_encoding(headers)
    assert encoding == encoding.strip().lower()
    # A dead letter carries the encoding on, and a replay puts it into a header again.
    assert content_encoding([("content-encoding", encoding.encode())]) is not None
    return True


def _credentials(draw: Draw) -> bool:
    file = fresh_folder() / "credentials.env"
    file.write_bytes(draw.rest())
    try:
        read_credentials_file(file)
    except UsageError as error:
        check_error(error, file.name)
        return False
    return True


_PARSERS: Final[tuple[Callable[[Draw], bool], ...]] = (
    _zones, _rules, _time, _marker, _headers, _credentials,
)  # fmt: skip


def check(data: bytes) -> bool:
    """Each parser gives a value that its users can work with, or raises its own error, which says where."""
    draw = Draw(data)
    return draw.pick(_PARSERS)(draw)


def seeds() -> Sequence[bytes]:
    """One of each parser, with its example where it has one."""
    return [
        b"\x00\x01" + _ZONES.encode(),
        b"\x01\x01" + _RULES.encode(),
        *(b"\x02\x01\x0f" + text.encode() for text in _TIMES),
        b"\x05# x\nA=b\nMOBIUS_EU_CLICKHOUSE_USER = me\n",
        *(bytes([parser]) for parser in range(len(_PARSERS))),
        *(bytes([parser]) + bytes(range(256)) for parser in range(len(_PARSERS))),
    ]


TARGET: Final = Target(check, seeds)

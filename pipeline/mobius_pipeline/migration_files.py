"""The numbered SQL files: found, checked, cut into statements, and rendered for one store or for a cluster."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from typing import Final, Literal

from mobius_pipeline.errors import TerminalError

__all__ = [
    "DEDUPLICATION_WINDOW",
    "Kind",
    "Migration",
    "Target",
    "load_migrations",
    "parse_migration",
]

Kind = Literal["zone", "hub"]

_FILE: Final = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_TOKEN: Final = re.compile(
    r"""(?P<comment>--[^\n]*|/\*.*?\*/)|(?P<quoted>'(?:[^'\\]|\\.|'')*'|`[^`]*`|"[^"]*")|(?P<word>[A-Za-z_]\w*)|(?P<end>;)|.""",
    re.DOTALL | re.VERBOSE,
)
# What can lose data. A file that means it says so, with its reason: "-- dangerous: REASON".
_DANGEROUS: Final = frozenset(
    {"DROP", "TRUNCATE", "DELETE", "DETACH", "RENAME", "REPLACE", "EXCHANGE", "UPDATE", "TTL"}
)
_FLAG: Final = re.compile(r"^-- dangerous: \S.+$", re.MULTILINE)

# A batch may be repeated long after it was written (a worker that stood still for days), so the window of
# remembered blocks is wide, and in the replicated form long.
DEDUPLICATION_WINDOW: Final = 10_000
"""How many inserted blocks each table remembers the tokens of."""

_WINDOW_LOCAL: Final = f"non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}"
_WINDOW_REPLICATED: Final = (
    f"replicated_deduplication_window = {DEDUPLICATION_WINDOW}, "
    "replicated_deduplication_window_seconds = 2592000"
)
# OTLP's repeated KeyValue. `value` tells which member of the oneof is present (input_format_protobuf_oneof_presence).
_KEY_VALUES: Final = (
    "Array(Tuple(key String, value Tuple(string_value String, bool_value Bool, int_value Int64, double_value Float64, "
    "bytes_value String, value Enum8('none' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, "
    "'double_value' = 4, 'bytes_value' = 7))))"
)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a migration is rendered for. ``cluster`` None means one store that stands alone."""

    database: str
    cluster: str | None = None

    @property
    def on_cluster(self) -> str:
        """The ``ON CLUSTER`` clause, or nothing."""
        return f"ON CLUSTER `{self.cluster}`" if self.cluster else ""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file. ``checksum`` is the SHA-256 of its bytes, in hex."""

    version: int
    name: str
    text: str
    checksum: str

    def render(self, target: Target) -> tuple[str, ...]:
        """Return the file's statements for ``target``, in their order."""
        text = Template(self.text).substitute(
            database=f"`{target.database}`",
            on_cluster=target.on_cluster,
            replicated="Replicated" if target.cluster else "",
            deduplication_window=_WINDOW_REPLICATED if target.cluster else _WINDOW_LOCAL,
            key_values=_KEY_VALUES,
        )
        return tuple(_statements(text))


def load_migrations(kind: Kind) -> tuple[Migration, ...]:
    """Return the migrations of one kind of store, in the order of their numbers.

    Raises
    ------
    TerminalError
        A file has no number, a number is missing or used twice, or a statement is dangerous without a flag.
    """
    folder = files("mobius_pipeline").joinpath("migrations", kind)
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    found = tuple(parse_migration(name, folder.joinpath(name).read_bytes()) for name in names)
    for expected, migration in enumerate(found, 1):
        if migration.version != expected:
            raise TerminalError(
                f"migrations/{kind}: number {expected:04} is missing, or used twice"
            )
    return found


def parse_migration(file: str, content: bytes) -> Migration:
    """Check one file; see :func:`load_migrations`."""
    named = _FILE.fullmatch(file)
    if named is None:
        raise TerminalError(f"migration {file}: its name must be such as 0007_what_it_adds.sql")
    text = content.decode("utf-8")
    words = {token["word"].upper() for token in _TOKEN.finditer(text) if token["word"]} & _DANGEROUS
    if words and not _FLAG.search(text):
        raise TerminalError(
            f"migration {file}: {', '.join(sorted(words))} can lose data; if that is meant, say why in a line "
            "'-- dangerous: REASON'"
        )
    return Migration(int(named[1]), named[2], text, hashlib.sha256(content).hexdigest())


def _statements(text: str) -> Iterable[str]:
    begin = 0
    empty = True
    for token in _TOKEN.finditer(text):
        if token["end"]:
            if not empty:
                yield text[begin : token.start()].strip()
            begin, empty = token.end(), True
        elif not token["comment"] and token.group().strip():
            empty = False
    if not empty:
        yield text[begin:].strip()

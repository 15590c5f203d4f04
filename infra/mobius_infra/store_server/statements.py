"""Just enough of ClickHouse's lexer to tell statements apart: never a regular expression over whole SQL.

Works on bytes, because an INSERT may carry binary data behind its ``FORMAT`` in the same body.
Lexical rules: https://clickhouse.com/docs/sql-reference/syntax.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from mobius_infra.store_server.store_error import StoreError

__all__ = ["Insert", "Statement", "read_statement"]

# The lexer stops here instead of walking through megabytes of data; the engine's own limit on a statement
# (max_query_size) is 256 KiB.
_MAX_STATEMENT_BYTES: Final = 1 << 20

_TOKEN: Final = re.compile(
    rb"""
      (?P<space>\s+ | --[^\n]* | \#[ !][^\n]* | /\*.*?\*/)
    | (?P<string>'(?:[^'\\]|\\.|'')*' | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
    | (?P<name>`(?:[^`\\]|\\.|``)*` | "(?:[^"\\]|\\.|"")*")
    | (?P<word>[A-Za-z_][A-Za-z0-9_$]*)
    | (?P<number>\d[A-Za-z0-9_.]*)
    | (?P<end>;)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
# Statements that answer with rows; the others answer with an empty body and without a format.
_READING: Final = frozenset(
    {
        "SELECT",
        "WITH",
        "SHOW",
        "DESCRIBE",
        "DESC",
        "EXPLAIN",
        "EXISTS",
        "CHECK",
        "FROM",
        "VALUES",
        "KILL",
        "LIST",
    }
)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement without data of its own.

    ``reads`` tells whether it answers with rows; ``format`` is the one that it names, "" for none.
    """

    text: str
    reads: bool
    format: str = ""


@dataclass(frozen=True, slots=True)
class Insert:
    """An INSERT that takes data: ``INSERT INTO ... (columns)``, its ``SETTINGS`` clause or "", and what follows it."""

    target: str
    settings: str
    format: str
    data: bytes


@dataclass(slots=True)
class _Token:
    kind: str
    text: str
    begin: int
    end: int
    depth: int


def read_statement(body: bytes) -> Statement | Insert:
    """Find out what ``body`` asks for.

    Raises
    ------
    StoreError
        It is empty, is more than one statement, is too long, is not text, or names a file of the server.
    """
    tokens: list[_Token] = []
    for token in _tokens(body):
        tokens.append(token)
        if insert := _insert_with_data(body, tokens):
            _refuse_files(tokens)
            return insert
    while tokens and tokens[-1].kind == "end":
        tokens.pop()
    if not tokens:
        raise StoreError(62, "SYNTAX_ERROR", "Empty query")
    if any(token.kind == "end" for token in tokens):
        raise StoreError(
            62, "SYNTAX_ERROR", "Multi-statements are not allowed: send one statement a request"
        )
    if len(body) > _MAX_STATEMENT_BYTES:
        raise StoreError(
            62, "SYNTAX_ERROR", f"Max query size exceeded ({_MAX_STATEMENT_BYTES} bytes)"
        )
    _refuse_files(tokens)
    first = next((token for token in tokens if token.kind != "other"), tokens[0]).text.upper()
    return Statement(_text(body[: tokens[-1].end]), first in _READING, _named_format(tokens))


def _tokens(body: bytes) -> Iterator[_Token]:
    """Yield tokens without blanks and comments, with the depth of brackets they stand at."""
    depth = 0
    position = 0
    while position < min(len(body), _MAX_STATEMENT_BYTES):
        found = _TOKEN.match(body, position)
        if found is None:  # pragma: no cover - the last alternative takes any byte
            return
        position = found.end()
        kind = "string" if found.lastgroup == "tag" else found.lastgroup or "other"
        if kind == "space":
            continue
        text = found.group().decode("latin-1")
        if text in {"(", "[", "{"}:
            depth += 1
        elif text in {")", "]", "}"}:
            depth = max(0, depth - 1)
        yield _Token(kind, text, found.start(), found.end(), depth)


def _insert_with_data(body: bytes, tokens: list[_Token]) -> Insert | None:
    """The insert, once its last token is its format (or VALUES before a large body); else None."""
    if len(tokens) < 4 or tokens[0].text.upper() != "INSERT":
        return None
    before, last = tokens[-2:]
    if last.kind != "word" or last.depth:
        return None
    if last.text.upper() == "VALUES" and len(body) > _MAX_STATEMENT_BYTES:
        return _insert(body, tokens[:-1], last.begin, "Values", body[last.end :])
    if before.kind != "word" or before.text.upper() != "FORMAT":
        return None
    outer = {
        token.text.upper() for token in tokens[:-2] if token.kind == "word" and not token.depth
    }
    if outer & {"SELECT", "WITH", "VALUES"}:
        return None
    data = body[last.end :]
    # One separator belongs to the statement, as in ClickHouse; the data may begin with blanks of their own.
    separator = re.match(rb"[ \t]*;?[ \t]*\r?\n|[ \t]+|;?$", data)
    return _insert(
        body, tokens[:-2], before.begin, last.text, data[separator.end() :] if separator else data
    )


def _insert(body: bytes, tokens: list[_Token], end: int, form: str, data: bytes) -> Insert:
    words = [token for token in tokens if token.kind == "word" and not token.depth]
    clause = next((token.begin for token in words if token.text.upper() == "SETTINGS"), end)
    return Insert(_text(body[:clause]), _text(body[clause:end]), form, data)


def _named_format(tokens: list[_Token]) -> str:
    for before, last in zip(tokens[-2::-1], tokens[:0:-1], strict=True):
        if (
            before.kind == "word"
            and before.text.upper() == "FORMAT"
            and last.kind == "word"
            and not last.depth
        ):
            return last.text
    return ""


def _refuse_files(tokens: list[_Token]) -> None:
    words = [token.text.upper() if token.kind == "word" else "" for token in tokens]
    for before, word in pairwise(words):
        if (before, word) in {("INTO", "OUTFILE"), ("FROM", "INFILE")}:
            raise StoreError(
                1,
                "UNSUPPORTED_METHOD",
                f"{before} {word} names a file of the server: send or read data over HTTP",
            )


def _text(statement: bytes) -> str:
    try:
        return statement.decode("utf-8")
    except UnicodeDecodeError as error:
        raise StoreError(
            62, "SYNTAX_ERROR", f"The query is not UTF-8 text at byte {error.start}"
        ) from error

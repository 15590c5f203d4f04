"""What arrives as a statement is told apart before the engine sees it, and answers are encoded as asked."""

from __future__ import annotations

import pytest

from mobius_infra.store_server.compression import choose_encoding
from mobius_infra.store_server.statements import Insert, Statement, read_statement
from mobius_infra.store_server.store_error import StoreError


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"SELECT 1;", Statement("SELECT 1", reads=True)),
        (b"/* a; b */ select ';' -- end;", Statement("/* a; b */ select ';'", reads=True)),
        (b"(SELECT 1) FORMAT CSV", Statement("(SELECT 1) FORMAT CSV", reads=True, format="CSV")),
        (b"CREATE TABLE format (a Int8) ENGINE = Memory", Statement("CREATE TABLE format (a Int8) ENGINE = Memory", reads=False)),
        (b"INSERT INTO t FORMAT Native\n\n\x00;", Insert("INSERT INTO t ", "", "Native", b"\n\x00;")),
        (b"INSERT INTO t FORMAT CSV;\r\n1", Insert("INSERT INTO t ", "", "CSV", b"1")),
        (b"INSERT INTO t FORMAT CSV", Insert("INSERT INTO t ", "", "CSV", b"")),
        (b'INSERT INTO `format csv` (`a;b`, "settings") FORMAT CSV\n', Insert('INSERT INTO `format csv` (`a;b`, "settings") ', "", "CSV", b"")),
        (b"INSERT INTO t SETTINGS a = 'FORMAT X' FORMAT CSV\n1", Insert("INSERT INTO t ", "SETTINGS a = 'FORMAT X' ", "CSV", b"1")),
        (b"INSERT INTO t VALUES (1) ", Statement("INSERT INTO t VALUES (1)", reads=False)),
        (b"SELECT $tag$ ; $tag$", Statement("SELECT $tag$ ; $tag$", reads=True)),
    ],
)  # fmt: skip
def test_statements_are_told_apart(body: bytes, expected: Statement | Insert) -> None:
    assert read_statement(body) == expected


@pytest.mark.parametrize(
    "body", [b"", b" ; ", b"-- only a comment", b"SELECT 1; DROP TABLE t", b"SELECT '\xff'"]
)
def test_what_is_no_single_statement_is_refused(body: bytes) -> None:
    with pytest.raises(StoreError) as refused:
        read_statement(body)
    assert (refused.value.code, refused.value.status) == (62, 400)


def test_encoding_is_the_first_known_one() -> None:
    assert choose_encoding("br, zstd;q=0.1, gzip") == "zstd"
    assert choose_encoding("lz4;q=0, gzip") == "gzip"
    assert choose_encoding("") == choose_encoding("identity") == ""

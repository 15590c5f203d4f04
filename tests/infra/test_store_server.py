"""The store server keeps to ClickHouse's HTTP protocol, as clickhouse-connect uses it."""

from __future__ import annotations

import gzip
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from ipaddress import IPv4Address
from typing import Any
from uuid import UUID, uuid4

import clickhouse_connect
import lz4.frame  # type: ignore[import-untyped]  # ships no types
import pytest
import zstandard
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from mobius_infra.store_server.compression import decompress
from mobius_infra.store_server.store_error import StoreError

pytestmark = pytest.mark.store


def open_client(url: str, **options: Any) -> Client:
    return clickhouse_connect.get_client(dsn=url, autogenerate_session_id=False, **options)


@pytest.fixture
def client(store_server: str) -> Iterator[Client]:
    name = f"t_{uuid4().hex[:12]}"
    setup = open_client(store_server)
    setup.command(f"CREATE DATABASE {name}")
    yield open_client(store_server, database=name)
    setup.command(f"DROP DATABASE {name} SYNC")


def call(
    url: str,
    *,
    query: dict[str, str] | None = None,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, bytes, dict[str, str]]:
    address = f"{url}/?{urllib.parse.urlencode(query or {})}"
    request = urllib.request.Request(address, data=body, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read(), {k.lower(): v for k, v in answer.headers.items()}
    except urllib.error.HTTPError as error:
        return error.code, error.read(), {k.lower(): v for k, v in error.headers.items()}


VALUES: list[tuple[str, list[Any]]] = [
    ("UInt64", [0, 2**64 - 1]),
    ("Int8", [-128, 127]),
    ("Float64", [0.5, -1e300]),
    ("Bool", [True, False]),
    ("String", ["", "ü\\'\n\t\0"]),
    ("LowCardinality(String)", ["a", "b"]),
    ("FixedString(4)", [b"abcd", b"\x00\x01\xff\xfe"]),
    ("Nullable(Float64)", [None, 1.5]),
    ("DateTime('UTC')", [datetime(2026, 1, 1), datetime(2038, 1, 20)]),  # noqa: DTZ001 - the client answers so
    ("DateTime64(6, 'UTC')", [datetime(2026, 1, 1, microsecond=1), datetime(1999, 12, 31)]),  # noqa: DTZ001 - as above
    ("Date", [date(2026, 1, 1), date(1970, 1, 1)]),
    ("UUID", [UUID(int=1), UUID(int=2**128 - 1)]),
    ("Decimal(18, 4)", [Decimal("1.2345"), Decimal("-0.0001")]),
    ("IPv4", [IPv4Address("127.0.0.1"), IPv4Address("0.0.0.0")]),
    ("Enum8('a' = 1, 'b' = 2)", ["a", "b"]),
    ("Array(Array(Int32))", [[], [[1], [], [2, 3]]]),
    ("Map(Int16, Float64)", [{}, {-5: 0.5, 7: 1.0}]),
    ("Map(LowCardinality(String), String)", [{}, {"k": "v"}]),
    ("Tuple(a Int32, b String)", [{"a": 1, "b": "x"}, {"a": 2, "b": ""}]),
]


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "compressed"])
def test_types_come_back_as_they_went_in(store_server: str, client: Client, compress: bool) -> None:
    columns = ", ".join(f"c{index} {kind}" for index, (kind, _) in enumerate(VALUES))
    client.command(f"CREATE TABLE types ({columns}) ENGINE = Memory")
    other = open_client(store_server, database=client.database, compress=compress)
    rows = [list(row) for row in zip(*(values for _, values in VALUES), strict=True)]
    other.insert("types", rows)
    assert [list(row) for row in other.query("SELECT * FROM types").result_rows] == rows


def test_parameters_are_values_never_text_of_the_query(client: Client) -> None:
    nasty = "'; DROP TABLE x; -- \\ ü {a:String}"
    (row,) = client.query(
        "SELECT {a:String}, {b:Array(UInt32)}, {c:DateTime64(3, 'UTC')}, {e:Identifier} FROM (SELECT 1 AS one)",
        parameters={
            "a": nasty,
            "b": [1, 2],
            "c": datetime(2026, 1, 2, 3, tzinfo=UTC),
            "d": {"k": "'"},
            "e": "one",
        },
    ).result_rows
    assert row[:2] == (nasty, [1, 2])
    assert row[2].replace(tzinfo=UTC) == datetime(2026, 1, 2, 3, tzinfo=UTC)
    assert row[3] == 1


def test_parameters_in_a_form(store_server: str, client: Client) -> None:
    long = "x" * 40_000
    assert client.query(
        "SELECT length({a:String}), {a:String} LIKE 'xx%'", parameters={"a": long}
    ).result_rows == [(40_000, 1)]
    forced = open_client(store_server, form_encode_query_params=True)
    assert forced.query("SELECT {a:String}", parameters={"a": "ü\r\n--b"}).result_rows == [
        ("ü\r\n--b",)
    ]


def test_settings_and_database_end_with_their_request(store_server: str, client: Client) -> None:
    """Among them readonly, which an engine session could not even take back."""
    ask = "SELECT getSetting('readonly'), getSetting('max_block_size'), currentDatabase()"
    default = open_client(store_server, database="default").query(ask).result_rows
    for _ in range(20):
        changed = client.query(ask, settings={"readonly": 2, "max_block_size": 7}).result_rows
        assert changed == [(2, 7, client.database)]
    answers: set[Any] = set()
    for _ in range(20):
        answers.update(open_client(store_server, database="default").query(ask).result_rows)
    assert answers == set(default)
    client.command("SET max_block_size = 9")
    assert client.query(ask).result_rows[0][1] != 9


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO t VALUES (2)",
        "INSERT INTO t SELECT 2",
        "CREATE TABLE u (a Int32) ENGINE = Memory",
        "DROP TABLE t",
        "TRUNCATE TABLE t",
        "ALTER TABLE t DELETE WHERE 1",
        "SYSTEM FLUSH LOGS",
    ],
)
def test_readonly_refuses_every_change(client: Client, statement: str, level: int) -> None:
    client.command("CREATE TABLE t (a Int32) ENGINE = MergeTree ORDER BY a")
    client.insert("t", [[1]])
    with pytest.raises(DatabaseError) as refused:
        client.command(statement, settings={"readonly": level})
    assert getattr(refused.value, "code", None) == 164
    with pytest.raises(DatabaseError):
        client.insert("t", [[2]], settings={"readonly": level})
    assert client.query("SELECT groupArray(a) FROM t").result_rows == [([1],)]
    assert client.query("SHOW TABLES").result_rows == [("t",)]


def test_get_changes_nothing(store_server: str, client: Client) -> None:
    client.command("CREATE TABLE t (a Int32) ENGINE = Memory")
    query = {"database": str(client.database)}
    assert call(store_server, query={**query, "query": "SELECT count() FROM t"})[:2] == (
        200,
        b"0\n",
    )
    status, text, headers = call(store_server, query={**query, "query": "INSERT INTO t VALUES (1)"})
    assert (status, headers["x-clickhouse-exception-code"]) == (500, "164")
    assert b"READONLY" in text


@pytest.mark.parametrize(
    ("statement", "status", "code"),
    [
        ("SELECT * FROM nowhere", 404, 60),
        ("SELECT nothing", 404, 47),
        ("SELECT nonsense(1)", 404, 46),
        ("SELEC 1", 400, 62),
        ("SELECT 1; SELECT 2", 400, 62),
        ("", 400, 62),
        ("SELECT throwIf(1)", 500, 395),
        ("SELECT 1 INTO OUTFILE '/tmp/x.csv'", 500, 1),
        ("INSERT INTO t FROM INFILE '/etc/passwd' FORMAT CSV", 500, 1),
        (
            "SELECT sleepEachRow(0.2) FROM numbers(100) SETTINGS max_execution_time = 0.3, max_block_size = 1",
            408,
            159,
        ),
        (
            "SELECT count() FROM numbers(1000000) GROUP BY number SETTINGS max_rows_to_group_by = 10",
            500,
            158,
        ),
    ],
)
def test_errors_have_their_codes(store_server: str, statement: str, status: int, code: int) -> None:
    found, text, headers = call(store_server, body=statement.encode() or b" ")
    assert (found, headers["x-clickhouse-exception-code"]) == (status, str(code))
    assert text.startswith(f"Code: {code}. DB::Exception: ".encode())


def test_unknown_setting_and_database(store_server: str) -> None:
    assert (
        call(store_server, query={"no_such_setting": "1"}, body=b"SELECT 1")[2][
            "x-clickhouse-exception-code"
        ]
        == "115"
    )
    status, _, headers = call(store_server, query={"database": "nowhere"}, body=b"SELECT 1")
    assert (status, headers["x-clickhouse-exception-code"]) == (404, "81")
    assert call(store_server, query={"database": "a`; DROP"}, body=b"SELECT 1")[0] == 404


def test_a_refused_row_refuses_the_insert(client: Client) -> None:
    """The engine's own insert stream says it succeeded here, and loses the rows."""
    client.command("CREATE TABLE parts (a Int32) ENGINE = MergeTree PARTITION BY a ORDER BY a")
    with pytest.raises(DatabaseError) as refused:
        client.insert("parts", [[number] for number in range(150)])
    assert getattr(refused.value, "code", None) == 252
    client.command("CREATE TABLE source (a Int32) ENGINE = Null")
    client.command(
        "CREATE MATERIALIZED VIEW v TO parts AS SELECT a + throwIf(a = 7) AS a FROM source"
    )
    with pytest.raises(DatabaseError):
        client.insert("source", [[7]])
    client.insert("source", [[8]])
    assert client.query("SELECT a FROM parts").result_rows == [(8,)]


def test_insert_forms(store_server: str, client: Client) -> None:
    client.command("CREATE TABLE t (a Int32, b String) ENGINE = MergeTree ORDER BY a")
    database = {"database": str(client.database)}
    rows = b'{"a": 1, "b": "x"}\n'
    for query, body in [
        ("INSERT INTO t FORMAT JSONEachRow", rows),
        ("", b"INSERT INTO t FORMAT JSONEachRow\n" + rows),
        ("", b"insert into t settings async_insert = 0 format JSONEachRow " + rows),
        ("INSERT INTO t (b, a) SETTINGS max_insert_threads = 1 FORMAT CSV", b"x,1\n"),
        ("INSERT INTO t VALUES", b"(1, 'x')"),
        ("", b"INSERT INTO t VALUES (1, 'x'), (1, 'FORMAT CSV')"),
        ("", b"INSERT INTO t SELECT 1, 'x' FORMAT Null"),
        ("", b"INSERT INTO t VALUES " + b"(1, 'x')," * 200_000 + b"(1, 'x')"),
    ]:
        status, text, headers = call(
            store_server, query={**database, "query": query} if query else database, body=body
        )
        assert (status, text) == (200, b""), (query, body[:80])
        assert "x-clickhouse-format" not in headers
    assert client.query(
        "SELECT count(), uniqExact(a), countIf(b NOT IN ('x', 'FORMAT CSV')) FROM t"
    ).result_rows == [(200_001 + 8, 1, 0)]


@pytest.mark.parametrize("encoding", ["gzip", "lz4", "zstd", "deflate"])
def test_compression_both_ways(store_server: str, client: Client, encoding: str) -> None:
    import zlib

    pack = {
        "gzip": gzip.compress,
        "lz4": lz4.frame.compress,
        "zstd": zstandard.ZstdCompressor().compress,
        "deflate": zlib.compress,
    }[encoding]
    client.command("CREATE TABLE t (a String) ENGINE = Memory")
    text = b"".join(b"%d\n" % number for number in range(5000))
    status, _, _ = call(
        store_server,
        query={"database": str(client.database), "query": "INSERT INTO t FORMAT TSV"},
        body=pack(text),
        headers={"Content-Encoding": encoding},
    )
    assert status == 200
    status, body, headers = call(
        store_server,
        query={"database": str(client.database), "enable_http_compression": "1"},
        body=b"SELECT a FROM t ORDER BY toUInt32(a)",
        headers={"Accept-Encoding": f"br, {encoding};q=0.5"},
    )
    assert (status, headers["content-encoding"]) == (200, encoding)
    assert decompress(body, encoding, 1 << 20) == text


def test_damaged_and_growing_bodies_are_refused(store_server: str) -> None:
    query = {"query": "INSERT INTO t FORMAT TSV"}
    whole = gzip.compress(b"x" * 100_000)
    assert (
        call(store_server, query=query, body=whole[:-20], headers={"Content-Encoding": "gzip"})[0]
        == 400
    )
    assert (
        call(store_server, query=query, body=b"no", headers={"Content-Encoding": "snappy"})[0]
        == 400
    )
    for encoding, body in {
        "gzip": whole,
        "zstd": zstandard.ZstdCompressor().compress(b"x" * 100_000),
        "lz4": lz4.frame.compress(b"x" * 100_000),
    }.items():
        with pytest.raises(StoreError) as refused:
            decompress(body, encoding, 1000)
        assert refused.value.status == 413


def test_four_threads_at_once(store_server: str, client: Client) -> None:
    client.command(
        "CREATE TABLE t (thread UInt8, number UInt32) ENGINE = MergeTree ORDER BY number"
    )
    problems: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            mine = open_client(store_server, database=client.database)
            for step in range(10):
                mine.insert("t", [[thread, step * 100 + number] for number in range(100)])
                seen = mine.query(
                    "SELECT uniqExact(number) FROM t WHERE thread = {t:UInt8}", {"t": thread}
                )
                assert seen.result_rows == [((step + 1) * 100,)]
        except Exception as error:  # noqa: BLE001 - shown by the assertion below
            problems.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert client.query("SELECT count(), uniqExact(thread, number) FROM t").result_rows == [
        (4000, 4000)
    ]


def test_headers_say_what_was_done(store_server: str) -> None:
    status, body, headers = call(
        store_server,
        query={"query_id": "mine", "default_format": "JSONEachRow"},
        body=b"SELECT number FROM numbers(3)",
    )
    assert (status, body) == (200, b'{"number":0}\n{"number":1}\n{"number":2}\n')
    assert headers["x-clickhouse-query-id"] == "mine"
    assert headers["x-clickhouse-format"] == "JSONEachRow"
    assert headers["x-clickhouse-timezone"] in {"UTC", "Etc/UTC"}
    assert '"result_rows":"3"' in headers["x-clickhouse-summary"]
    assert call(store_server, body=b"SELECT 1 FORMAT CSV")[2]["x-clickhouse-format"] == "CSV"
    with urllib.request.urlopen(f"{store_server}/ping", timeout=10) as answer:
        assert answer.read() == b"Ok.\n"


def test_arrow_and_streams(client: Client) -> None:
    table = client.query_arrow("SELECT number, toString(number) AS text FROM numbers(1000)")
    assert table.num_rows == 1000
    with client.query_row_block_stream("SELECT number FROM numbers(200000)") as stream:
        assert sum(len(block) for block in stream) == 200_000

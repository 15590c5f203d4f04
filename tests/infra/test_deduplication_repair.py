"""An engine that is killed between its log of inserts and the part: the insert is repeated, and stored."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client

from mobius_infra.store_server.deduplication_repair import forget_what_is_not_there
from tests.conftest import start_store

pytestmark = pytest.mark.store


@contextmanager
def _store(folder: Path) -> Iterator[tuple[Client, subprocess.Popen[str]]]:
    process, url = start_store(folder)
    client = clickhouse_connect.get_client(dsn=url, autogenerate_session_id=False)
    try:
        yield client, process
    finally:
        client.close()
        process.kill()
        process.wait()


def _insert(client: Client, number: int) -> None:
    client.insert("t", [[number]], ["a"], settings={"insert_deduplication_token": f"t{number}"})


def _numbers(client: Client) -> list[int]:
    return [row[0] for row in client.query("SELECT a FROM t ORDER BY a").result_rows]


def _filled(folder: Path, *, partition: str = "tuple()") -> Path:
    """Leave a table with the numbers 1 to 5, a part each, as a killed engine does; returns its folder."""
    with _store(folder) as (client, _):
        client.command(
            f"CREATE TABLE t (a UInt64) ENGINE = MergeTree PARTITION BY {partition} ORDER BY a "
            "SETTINGS non_replicated_deduplication_window = 100"
        )
        client.command("SYSTEM STOP MERGES t")
        for number in range(1, 6):
            _insert(client, number)
    (log,) = folder.glob("store/*/*/deduplication_logs")
    return log.parent


@pytest.mark.parametrize("partition", ["tuple()", "intDiv(a, 100)"])
def test_an_insert_that_was_logged_and_not_written_can_be_repeated(
    tmp_path: Path, partition: str
) -> None:
    table = _filled(tmp_path, partition=partition)
    (last,) = table.glob("*_5_5_0")
    # What a kill between the two steps leaves: the block's id in the log, the part under its temporary name.
    last.rename(table / "tmp_insert_all_1_1_0")
    with _store(tmp_path) as (client, _):
        assert _numbers(client) == [1, 2, 3, 4]
        for number in (5, 5, 4):
            _insert(client, number)
        assert _numbers(client) == [1, 2, 3, 4, 5]


def test_what_was_written_is_not_taken_twice(tmp_path: Path) -> None:
    table = _filled(tmp_path)
    # A kill before the log: the part that was being written is in no log, the ones before it are.
    (table / "tmp_insert_all_1_1_0").mkdir()
    assert list(forget_what_is_not_there(tmp_path)) == []
    with _store(tmp_path) as (client, _):
        for number in (5, 1):
            _insert(client, number)
        assert _numbers(client) == [1, 2, 3, 4, 5]


def test_a_part_that_was_merged_is_there(tmp_path: Path) -> None:
    table = _filled(tmp_path)
    with _store(tmp_path) as (client, _):
        client.command("OPTIMIZE TABLE t FINAL")
    for old in table.glob("all_*_0"):
        old.rename(tmp_path / old.name)
    (table / "tmp_insert_all_1_1_0").mkdir()
    assert all(path.name.startswith("all_1_5_") for path in table.glob("all_*"))
    assert list(forget_what_is_not_there(tmp_path)) == []


def test_only_tables_with_a_cut_off_insert_are_touched(tmp_path: Path) -> None:
    table = _filled(tmp_path)
    (table / "all_5_5_0").rename(tmp_path / "away")
    before = (table / "deduplication_logs" / "deduplication_log_1.txt").read_bytes()
    assert list(forget_what_is_not_there(tmp_path)) == []
    assert (table / "deduplication_logs" / "deduplication_log_1.txt").read_bytes() == before


def test_says_which_part_was_forgotten_once(tmp_path: Path) -> None:
    table = _filled(tmp_path)
    (table / "all_5_5_0").rename(table / "tmp_insert_all_1_1_0")
    (found,) = forget_what_is_not_there(tmp_path)
    assert (found.table, found.part) == (table, "all_5_5_0")
    assert list(forget_what_is_not_there(tmp_path)) == []

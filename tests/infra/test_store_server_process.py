"""A store server of its own: password, sizes, its folder's lock, its end, and what it leaves behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from tests.conftest import start_store

pytestmark = pytest.mark.store


def open_client(url: str, **options: Any) -> Client:
    return clickhouse_connect.get_client(dsn=url, autogenerate_session_id=False, **options)


def call(url: str, *, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    request = urllib.request.Request(f"{url}/?", data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str, Path]]:
    folder = tmp_path / "store"
    process, url = start_store(
        folder,
        "--max-body-mb",
        "1",
        "--password-env",
        "STORE_SECRET",
        environment={"STORE_SECRET": "s3cret"},
    )
    yield process, url, folder
    process.kill()
    process.wait()


def test_password_size_lock_and_end(own_server: tuple[subprocess.Popen[str], str, Path]) -> None:
    process, url, folder = own_server
    for options in ({}, {"password": "wrong"}, {"username": "other", "password": "s3cret"}):
        with pytest.raises(ClickHouseError) as refused:
            open_client(url, **options)
        assert getattr(refused.value, "code", None) == 516
    assert (
        call(
            url,
            body=b"SELECT 1",
            headers={"X-ClickHouse-User": "default", "X-ClickHouse-Key": "no"},
        )[0]
        == 403
    )
    assert (
        call(
            url,
            body=b"SELECT 1",
            headers={"X-ClickHouse-User": "default", "X-ClickHouse-Key": "s3cret"},
        )[0]
        == 200
    )
    client = open_client(url, username="default", password="s3cret")

    status, text = call(
        url,
        body=b"SELECT 1" + b" " * 1_000_001,
        headers={"X-ClickHouse-User": "default", "X-ClickHouse-Key": "s3cret"},
    )
    assert (status, b"larger than 1000000 bytes" in text) == (413, True)

    second = subprocess.run(
        [sys.executable, "-m", "mobius_infra.store_server", "--path", str(folder), "--port", "0"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode == 2
    assert f"another store server (process {process.pid}) owns this data folder" in second.stderr
    assert "Traceback" not in second.stderr
    port = url.rpartition(":")[2]
    busy = subprocess.run(
        [
            sys.executable,
            "-m",
            "mobius_infra.store_server",
            "--path",
            str(folder / "other"),
            "--port",
            port,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert busy.returncode == 2
    assert f"127.0.0.1:{port} is taken" in busy.stderr

    client.command("CREATE TABLE kept (a UInt64) ENGINE = MergeTree ORDER BY a")
    running = threading.Thread(
        target=client.command,
        args=("INSERT INTO kept SELECT number + sleepEachRow(0.1) FROM numbers(10)",),
    )
    running.start()
    while not open_client(url, username="default", password="s3cret").command(
        "SELECT count() FROM system.processes WHERE query LIKE 'INSERT INTO kept%'"
    ):
        pass
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0
    running.join()
    again, url = start_store(folder, port=0)
    try:
        assert open_client(url).query("SELECT count(), uniqExact(a) FROM kept").result_rows == [
            (10, 10)
        ]
    finally:
        again.kill()
        again.wait()


def test_an_insert_gives_its_memory_back(
    own_server: tuple[subprocess.Popen[str], str, Path],
) -> None:
    process, url, _ = own_server
    client = open_client(url, username="default", password="s3cret")
    client.command("CREATE TABLE t (a Int32) ENGINE = MergeTree ORDER BY a")
    for number in range(3):
        client.insert("t", [[number]])
    with pytest.raises(ClickHouseError):
        client.raw_insert("t", insert_block="no number", fmt="CSV")
    links = []
    for number_of_file in Path(f"/proc/{process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since it was listed
            links.append(str(number_of_file.readlink()))
    assert links
    assert not [link for link in links if "memfd:insert" in link]

"""A store server keeps to its data folder, wherever it is started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import clickhouse_connect
import pytest

from mobius_pipeline.wire import INSERT_SETTINGS

pytestmark = pytest.mark.store


def test_schemas_of_formats_stay_in_the_data_folder(tmp_path: Path) -> None:
    started_in = tmp_path / "elsewhere"
    started_in.mkdir()
    command = [
        *(sys.executable, "-m", "mobius_infra.store_server"),
        *("--path", "data", "--port", "0"),
    ]
    server = subprocess.Popen(command, cwd=started_in, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = server.stdout.readline().split()[1]
        client = clickhouse_connect.get_client(dsn=url)
        client.raw_insert(
            "FUNCTION null('kafka_partition UInt32')",
            insert_block=b"\x03\xa8\x06\x07",
            fmt="Protobuf",
            settings=INSERT_SETTINGS,
        )
        client.close()
    finally:
        server.terminate()
        server.wait(30)
    assert [path.name for path in started_in.iterdir()] == ["data"]
    assert list((started_in / "data").glob("**/*.proto")), "the engine keeps none: test nothing"

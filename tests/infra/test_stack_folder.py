"""Data folder, ports, counts: what `mobius-rum up` checks before it starts anything."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from mobius_infra.stack.accounts import produced_spans, span_account
from mobius_infra.stack.folder import DataFolder
from mobius_infra.stack.options import StackOptions
from mobius_infra.stack.plan import Plan
from mobius_infra.stack.ports import PortBlock, check_free
from mobius_instrumentation.zones import load_zones
from mobius_pipeline.config import clickhouse_credentials, load_config
from mobius_pipeline.errors import UsageError
from mobius_pipeline.status import SpanIdentity


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    made = DataFolder(tmp_path / "data")
    made.prepare()
    return made


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


@pytest.fixture
def busy_after_free() -> Iterator[int]:
    """A port that somebody listens on; the one before it is free."""
    for _ in range(100):
        with socket.create_server(("127.0.0.1", 0)) as made:
            port = made.getsockname()[1]
            try:
                socket.create_server(("127.0.0.1", port - 1)).close()
            except OSError:
                continue
            yield port
            return
    pytest.fail("no two ports beside each other")


def test_a_busy_port_is_named_with_its_user_and_option(busy_after_free: int) -> None:
    port = busy_after_free
    block = PortBlock("--store-port", port - 1, ("store of the hub", "store of zone eu"))
    with pytest.raises(UsageError) as error:
        check_free([block])
    assert f"port {port}, wanted for the store of zone eu, is in use" in str(error.value)
    assert f"--store-port NUMBER (now ports {port - 1} to {port})" in str(error.value)
    assert error.value.exit_code == 2


def test_a_port_that_was_just_closed_is_free(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    with socket.create_connection(("127.0.0.1", port)) as client, listener.accept()[0] as served:
        served.close()  # our side closes first, so that its address lingers in TIME_WAIT
        client.close()
    listener.close()
    check_free([PortBlock("--broker-port", port, ("broker",))])


def test_overlapping_blocks_and_impossible_ports_are_refused(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    listener.close()
    blocks = [
        PortBlock("--broker-port", port, ("broker",)),
        PortBlock("--store-port", port, ("store",)),
    ]
    with pytest.raises(UsageError, match="move one of them with --store-port or --broker-port"):
        check_free(blocks)
    with pytest.raises(UsageError, match="no port 65536"):
        check_free([PortBlock("--demo-port", 65536, ("storefront",))])


def test_a_second_stack_on_the_same_folder_is_told_who_holds_it(folder: DataFolder) -> None:
    with (
        folder.held("http://127.0.0.1:8100"),
        pytest.raises(UsageError) as error,
        folder.held("other"),
    ):
        pytest.fail("held twice")
    assert f"process {os.getpid()}" in str(error.value)
    assert "http://127.0.0.1:8100" in str(error.value)
    with folder.held("again"):
        pass


def test_a_folder_that_cannot_be_made_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write the data folder"):
        DataFolder(tmp_path / "file" / "data").prepare()


def test_secrets_are_random_kept_and_private(folder: DataFolder, tmp_path: Path) -> None:
    first = folder.secrets(["eu", "us"])
    assert set(first) == {
        "MOBIUS_SYNTHETIC_KEY",
        "MOBIUS_EU_CLICKHOUSE_PASSWORD",
        "MOBIUS_US_CLICKHOUSE_PASSWORD",
        "MOBIUS_EU_SUBJECT_KEY",
        "MOBIUS_US_SUBJECT_KEY",
    }
    assert len(set(first.values())) == 5
    file = folder.root / "credentials.env"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = folder.secrets(["eu", "us", "hub"])
    assert {name: again[name] for name in first} == first
    assert "MOBIUS_HUB_SUBJECT_KEY" not in again
    other = DataFolder(tmp_path / "other")
    other.prepare()
    assert not set(other.secrets(["eu"]).values()) & set(first.values())


def test_commands_find_the_password_beside_the_map_and_the_environment_wins(
    folder: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = folder.secrets(["eu"])
    plan = Plan(StackOptions(data=folder.root), folder, secrets)
    folder.zones_file.write_text(plan.zones_toml())
    monkeypatch.delenv("MOBIUS_EU_CLICKHOUSE_PASSWORD", raising=False)
    load_config(folder.zones_file)
    assert clickhouse_credentials("eu").password == secrets["MOBIUS_EU_CLICKHOUSE_PASSWORD"]
    monkeypatch.setenv("MOBIUS_EU_CLICKHOUSE_PASSWORD", "from the environment")
    assert clickhouse_credentials("eu").password == "from the environment"
    monkeypatch.delenv("MOBIUS_EU_CLICKHOUSE_PASSWORD")
    elsewhere = tmp_path / "zones.toml"
    elsewhere.write_text(plan.zones_toml())
    load_config(elsewhere)
    assert clickhouse_credentials("eu").password == ""


def test_the_map_that_up_writes_says_what_the_plan_means(folder: DataFolder) -> None:
    plan = Plan(StackOptions(data=folder.root), folder, {})
    folder.zones_file.write_text(plan.zones_toml())
    assert load_zones(folder.zones_file) == plan.zones


def test_a_zone_s_processes_know_no_other_zone_s_password(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOBIUS_US_CLICKHOUSE_PASSWORD", "of another stack")
    plan = Plan(StackOptions(data=folder.root), folder, folder.secrets(["hub", "eu", "us"]))
    for part in [*plan.stores(), *plan.workers()]:
        zone = part.name.partition("-")[2]
        known = {name for name in part.environment if re.fullmatch("MOBIUS_.*(PASSWORD|KEY)", name)}
        assert known == {f"MOBIUS_{zone.upper()}_CLICKHOUSE_PASSWORD"}


def test_produced_spans_are_summed_over_all_processes(tmp_path: Path) -> None:
    for name, accepted in (("catalog-eu-west-1-1", 40), ("catalog-eu-west-1-2", 2)):
        (tmp_path / f"{name}.json").write_text(
            json.dumps({"accepted": accepted, "sent": 0, "dropped": {}, "pending": 0})
        )
    assert produced_spans(tmp_path) == 42


def test_the_account_tells_lost_from_duplicated() -> None:
    account = span_account(
        100, SpanIdentity(rows=7, distinct=6), SpanIdentity(rows=108, distinct=104)
    )
    assert account.document() == {"produced": 100, "stored": 98, "lost": 2, "duplicated": 3}

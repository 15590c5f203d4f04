"""What is said where Java or Maven are missing; the folder of a node; its ports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mobius_infra.kafka_broker import (
    Distribution,
    KafkaBroker,
    KafkaMissingError,
    find_jars,
    find_java,
    require,
)
from mobius_infra.kafka_broker.node import Node
from mobius_infra.stack.options import BrokerKind, StackOptions
from mobius_pipeline.errors import TerminalError


def program(folder: Path, name: str, text: str) -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing on it, and an empty cache."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return folder


def test_a_missing_or_old_java_is_named_with_its_remedy(path: Path) -> None:
    with pytest.raises(KafkaMissingError, match=r"no java on the PATH.*Java 17") as missing:
        require()
    assert missing.value.exit_code == 3
    assert "--broker embedded" in str(missing.value)
    program(path, "java", "echo 'openjdk version \"11.0.2\" 2019-01-15' >&2")
    with pytest.raises(KafkaMissingError, match="is Java 11"):
        find_java()
    program(path, "java", "echo 'java version \"1.8.0_392\"' >&2")
    with pytest.raises(KafkaMissingError, match="is Java 1"):
        find_java()
    program(path, "java", "echo 'openjdk version \"21\" 2023-09-19' >&2")
    assert find_java() == path / "java"


def test_maven_is_needed_only_while_the_jars_are_not_there(path: Path, tmp_path: Path) -> None:
    program(path, "java", "echo 'openjdk version \"17.0.1\"' >&2")
    assert find_jars() is None
    with pytest.raises(KafkaMissingError, match="no mvn on the PATH"):
        require()
    program(path, "mvn", "echo '[ERROR] Unknown host repository'; exit 1")
    require()
    done = subprocess.run(
        [sys.executable, "-m", "mobius_infra.kafka_broker", "--fetch-only"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert "Maven could not fetch its jars ([ERROR] Unknown host repository)" in done.stderr
    assert "Traceback" not in done.stderr
    assert find_jars() is None
    assert [file.name for file in (tmp_path / "cache" / "mobius-rum").iterdir()] == ["kafka.lock"]


def test_a_folder_that_could_not_be_formatted_is_formatted_the_next_time(
    path: Path, tmp_path: Path
) -> None:
    program(path, "java", "echo 'the disk is full' >&2; exit 1")
    data = tmp_path / "a, b"
    node = Node(data, 1, 2)
    with pytest.raises(TerminalError, match="the disk is full"):
        node.prepare(Distribution(path / "java", tmp_path))
    assert not (data / "log").exists()


def test_a_broker_that_ends_at_once_shows_its_last_lines(path: Path, tmp_path: Path) -> None:
    program(path, "java", "echo 'Address already in use'; exit 1")
    data = tmp_path / "data"
    (data / "log").mkdir(parents=True)
    (data / "log" / "meta.properties").touch()
    broker = KafkaBroker(data, distribution=Distribution(path / "java", tmp_path))
    with pytest.raises(TerminalError, match=r"ended \(exit code 1\)[^$]*Address already in use"):
        broker.start(seconds=20)
    assert broker.pid is None


def test_kafka_takes_a_second_port_for_its_controller(tmp_path: Path) -> None:
    embedded = StackOptions(data=tmp_path).ports()["broker"]
    kafka = StackOptions(data=tmp_path, broker=BrokerKind.KAFKA).ports()["broker"]
    assert len(embedded.users) == 1
    assert kafka.port("controller of the broker") == kafka.port("broker") + 1

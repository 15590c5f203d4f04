"""Failpoints: what the environment may say, and that a process really dies or stands still there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from mobius_pipeline.errors import UsageError
from mobius_pipeline.failpoints import Trap, arm

_PROGRAM = """
from mobius_pipeline.failpoints import reach
for turn in range(5):
    reach("before_intent")
    reach("after_insert")
    print(turn, flush=True)
"""


def _run(value: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM],
        env={**os.environ, "MOBIUS_FAILPOINT": value},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_no_value_arms_nothing() -> None:
    assert arm({}) is None
    assert arm({"MOBIUS_FAILPOINT": ""}) is None


def test_reads_point_visit_and_signal() -> None:
    assert arm({"MOBIUS_FAILPOINT": "after_insert=kill"}) == Trap("after_insert", 1, signal.SIGKILL)
    assert arm({"MOBIUS_FAILPOINT": "after_intent:12=stop"}) == Trap(
        "after_intent", 12, signal.SIGSTOP
    )


@pytest.mark.parametrize(
    "value",
    ["after_insert", "nowhere=kill", "after_insert=burn", "after_insert:0=kill", "after_insert:x=kill", "=kill"],
)  # fmt: skip
def test_refuses_a_malformed_value_and_says_what_is_known(value: str) -> None:
    with pytest.raises(UsageError, match=r"MOBIUS_FAILPOINT: .*before_intent, after_intent"):
        arm({"MOBIUS_FAILPOINT": value})


def test_dies_at_the_named_visit_and_not_before() -> None:
    with _run("after_insert:3=kill") as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert said.split() == ["0", "1"]


def test_stands_still_until_it_is_continued() -> None:
    with _run("before_intent:2=stop") as process:
        stopped, status = os.waitpid(process.pid, os.WUNTRACED)
        assert stopped == process.pid
        assert os.WIFSTOPPED(status)
        process.send_signal(signal.SIGCONT)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert said.split() == ["0", "1", "2", "3", "4"]


def test_a_malformed_value_ends_the_process_at_its_start() -> None:
    with _run("nowhere=kill") as process:
        said, problem = process.communicate(timeout=60)
    assert process.returncode
    assert not said
    assert "is no failpoint" in problem

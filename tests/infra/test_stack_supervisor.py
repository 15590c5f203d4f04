"""The supervisor, with tiny real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mobius_infra.stack.part import Part
from mobius_infra.stack.supervisor import Backoff, Interrupted, PartFailedError, Supervisor

QUICK = Backoff(first=0.05, ceiling=0.2)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


class Stack:
    """A supervisor, what it said, and parts made of Python one-liners."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.stop_requests = 0
        self.supervisor = Supervisor(self.said.append, lambda: self.stop_requests, backoff=QUICK)

    def part(self, name: str, code: str, **more: Any) -> Part:
        return Part(
            name=name,
            argv=(sys.executable, "-I", "-S", "-c", textwrap.dedent(code)),
            environment=dict(os.environ),
            log=self.folder / f"{name}.log",
            **more,
        )

    def pid(self, name: str) -> int:
        return next(state.pid or 0 for state in self.supervisor.states() if state.name == name)

    def tick_until(self, condition: Callable[[], bool]) -> None:
        def step() -> bool:
            self.supervisor.tick()
            return condition()

        eventually(step)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    made = Stack(tmp_path)
    yield made
    made.supervisor.close()


SLEEP = "import time; time.sleep(600)"


def test_start_waits_for_the_answer_and_says_one_line(stack: Stack, tmp_path: Path) -> None:
    flag = tmp_path / "answer"
    code = f"import time, pathlib; time.sleep(0.2); pathlib.Path({str(flag)!r}).touch(); time.sleep(600)"
    ready_at_call = []
    stack.supervisor.start(
        stack.part(
            "slow",
            code,
            address="here:1",
            ready=flag.exists,
            after_ready=lambda: ready_at_call.append(flag.exists()),
        )
    )
    assert ready_at_call == [True]
    [line] = stack.said
    assert line.split()[:2] == ["slow", "here:1"]
    assert line.endswith(" s")


def test_a_part_that_ends_while_it_starts_is_an_error_with_its_last_lines(stack: Stack) -> None:
    with pytest.raises(PartFailedError) as failure:
        stack.supervisor.start(
            stack.part("bad", "import sys; print('no such shop'); sys.exit(4)", ready=lambda: False)
        )
    assert "exit code 4" in str(failure.value)
    assert "no such shop" in str(failure.value)
    assert str(stack.folder / "bad.log") in str(failure.value)


def test_a_part_that_never_answers_is_an_error(stack: Stack) -> None:
    with pytest.raises(PartFailedError, match="does not answer"):
        stack.supervisor.start(stack.part("mute", SLEEP, ready=lambda: False, ready_seconds=0.2))


def test_a_request_to_stop_interrupts_the_start(stack: Stack) -> None:
    stack.stop_requests = 1
    with pytest.raises(Interrupted):
        stack.supervisor.start(stack.part("mute", SLEEP, ready=lambda: False))


def test_a_killed_part_is_reported_and_starts_again_with_its_preparations(stack: Stack) -> None:
    prepared: list[int] = []
    stack.supervisor.start(stack.part("worker", SLEEP, after_ready=lambda: prepared.append(1)))
    first = stack.pid("worker")
    os.kill(first, signal.SIGKILL)
    stack.tick_until(lambda: len(prepared) == 2)
    assert stack.pid("worker") not in {0, first}
    assert stack.supervisor.restarts == {"worker": 1}
    assert any("worker ended (killed by SIGKILL)" in line for line in stack.said)
    assert stack.said[-1] == "worker answers again"


def test_dependents_begin_anew_after_a_restart(stack: Stack) -> None:
    stack.supervisor.start(stack.part("reader", SLEEP))
    stack.supervisor.start(stack.part("broker", SLEEP, dependents=("reader",)))
    reader = stack.pid("reader")
    os.kill(stack.pid("broker"), signal.SIGKILL)
    stack.tick_until(lambda: stack.pid("reader") not in {0, reader})
    assert not alive(reader)


def test_a_crash_loop_shows_the_log_once(stack: Stack) -> None:
    stack.supervisor.start(
        stack.part(
            "shaky",
            "import time; print('disk is full', flush=True); time.sleep(0.05); raise SystemExit(7)",
        )
    )
    stack.tick_until(lambda: stack.supervisor.restarts.get("shaky", 0) >= 5)
    assert sum("4 times in a row" in line for line in stack.said) == 1
    assert "    disk is full" in stack.said


def test_backoff_doubles_up_to_its_ceiling() -> None:
    waits = [Backoff(first=0.5, ceiling=30).seconds(deaths) for deaths in range(1, 10)]
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_stop_lets_a_part_finish(stack: Stack, tmp_path: Path) -> None:
    flushed = tmp_path / "flushed"
    code = f"""
        import pathlib, signal, time
        def end(*_):
            time.sleep(0.3)
            pathlib.Path({str(flushed)!r}).touch()
            raise SystemExit(0)
        signal.signal(signal.SIGTERM, end)
        pathlib.Path({str(tmp_path / "up")!r}).touch()
        time.sleep(600)
    """
    stack.supervisor.start(stack.part("service", code, ready=(tmp_path / "up").exists))
    assert stack.supervisor.stop(["service"]) == []
    assert flushed.exists()
    assert stack.supervisor.states() == []


def test_stop_kills_and_names_what_does_not_end(stack: Stack, tmp_path: Path) -> None:
    code = f"""
        import pathlib, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        pathlib.Path({str(tmp_path / "up")!r}).touch()
        time.sleep(600)
    """
    stack.supervisor.start(
        stack.part("deaf", code, ready=(tmp_path / "up").exists, stop_seconds=0.2)
    )
    pid = stack.pid("deaf")
    assert stack.supervisor.stop() == ["deaf"]
    assert not alive(pid)


def test_a_second_request_to_stop_ends_the_waiting(stack: Stack, tmp_path: Path) -> None:
    code = f"""
        import pathlib, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        pathlib.Path({str(tmp_path / "up")!r}).touch()
        time.sleep(600)
    """
    part = stack.part("deaf", code, ready=(tmp_path / "up").exists, stop_seconds=600)
    stack.supervisor.start(part)
    stack.stop_requests = 2
    assert stack.supervisor.stop() == ["deaf"]


def test_a_replacement_answers_before_the_old_one_is_asked_to_stop(
    stack: Stack, tmp_path: Path
) -> None:
    answer, asked = tmp_path / "answer", tmp_path / "asked"
    code = f"""
        import pathlib, signal, time
        def end(*_):
            pathlib.Path({str(asked)!r}).touch()
            time.sleep(0.3)
            raise SystemExit(0)
        signal.signal(signal.SIGTERM, end)
        pathlib.Path({str(tmp_path / "up")!r}).touch()
        time.sleep(600)
    """
    stack.supervisor.start(stack.part("shop", code, ready=(tmp_path / "up").exists))
    old = stack.pid("shop")
    stack.supervisor.replace(stack.part("shop", SLEEP, ready=answer.exists))
    new = stack.pid("shop")
    for _ in range(5):
        stack.supervisor.tick()
    assert alive(old)
    assert not asked.exists()
    assert not stack.supervisor.settled("shop")
    answer.touch()
    stack.tick_until(lambda: stack.supervisor.settled("shop"))
    assert asked.exists()
    assert not alive(old)
    assert alive(new)
    assert stack.pid("shop") == new
    assert stack.supervisor.restarts == {}


def test_stop_during_a_replacement_stops_both(stack: Stack) -> None:
    stack.supervisor.start(stack.part("shop", SLEEP))
    old = stack.pid("shop")
    stack.supervisor.replace(stack.part("shop", SLEEP, ready=lambda: False))
    new = stack.pid("shop")
    assert stack.supervisor.stop(["shop"]) == []
    assert not alive(old)
    assert not alive(new)


def grandchild_code(file: Path) -> str:
    return f"""
        import pathlib, subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"])
        pathlib.Path({str(file)!r}).write_text(str(child.pid))
        time.sleep(600)
    """


def test_what_a_part_started_ends_with_it(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "grandchild"
    stack.supervisor.start(
        stack.part(
            "parent", grandchild_code(file), ready=lambda: file.exists() and file.read_text() != ""
        )
    )
    grandchild = int(file.read_text())
    os.kill(stack.pid("parent"), signal.SIGKILL)
    stack.tick_until(lambda: not alive(grandchild))


@pytest.mark.parametrize("also_the_warden", [False, True])
def test_nothing_outlives_a_killed_supervisor(tmp_path: Path, also_the_warden: bool) -> None:
    file = tmp_path / "grandchild"
    code = f"""
        import os, pathlib, sys, time
        from mobius_infra.stack.part import Part
        from mobius_infra.stack.supervisor import Supervisor
        supervisor = Supervisor(lambda text: None, lambda: 0)
        file = pathlib.Path({str(file)!r})
        argv = (sys.executable, "-I", "-S", "-c", {textwrap.dedent(grandchild_code(file))!r})
        supervisor.start(Part("parent", argv, dict(os.environ), pathlib.Path({str(tmp_path / "log")!r}), ready=file.exists))
        print(supervisor.states()[0].pid, supervisor.warden.pid, flush=True)
        time.sleep(600)
    """
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    assert owner.stdout is not None
    with owner.stdout:
        child, warden = map(int, owner.stdout.readline().split())
    eventually(lambda: file.read_text() != "")
    grandchild = int(file.read_text())
    assert alive(child)
    assert alive(grandchild)
    if also_the_warden:
        os.kill(warden, signal.SIGKILL)
    owner.kill()
    owner.wait()
    eventually(lambda: not alive(child))
    if also_the_warden:
        os.kill(grandchild, signal.SIGKILL)  # the one case that is left: both were killed at once
    eventually(lambda: not alive(grandchild))

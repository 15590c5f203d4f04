"""One child process in a process group of its own, which never outlives us."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

__all__ = ["Process", "Warden", "exit_text", "last_lines"]

_HERE: Final = Path(__file__).parent


class Warden:
    """The helper process that kills what is left when this process is killed; see ``warden.py``."""

    def __init__(self) -> None:
        self._groups: set[int] = set()
        self._process = self._start()

    @property
    def pid(self) -> int:
        """Process id of the helper."""
        return self._process.pid

    def watch(self, group: int) -> None:
        """Kill ``group`` if this process dies."""
        self._groups.add(group)
        self._tell(f"+{group}\n")

    def forget(self, group: int) -> None:
        """``group`` has ended: its number may belong to somebody else soon."""
        self._groups.discard(group)
        self._tell(f"-{group}\n")

    def close(self) -> None:
        """End the helper."""
        self._pipe(self._process).close()
        self._process.wait()

    def _tell(self, text: str) -> None:
        try:
            self._write(self._process, text)
        except BrokenPipeError:  # somebody killed it: the next one learns all groups anew
            self._process.wait()
            self._process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_HERE / "warden.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self._write(process, "".join(f"+{group}\n" for group in sorted(self._groups)))
        return process

    @staticmethod
    def _pipe(process: subprocess.Popen[str]) -> IO[str]:
        if process.stdin is None:  # pragma: no cover - we asked for a pipe
            raise RuntimeError("the warden has no input")
        return process.stdin

    @classmethod
    def _write(cls, process: subprocess.Popen[str], text: str) -> None:
        pipe = cls._pipe(process)
        pipe.write(text)
        pipe.flush()


class Process:
    """A running program; what it prints goes to the end of ``log``.

    With ``output`` its standard output becomes that file's content instead.

    Start it from the main thread: the kernel ends it when the thread that started it ends.
    """

    def __init__(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        warden: Warden,
        *,
        output: Path | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.argv = tuple(argv)
        self.started = time.monotonic()
        self._warden = warden
        log.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as files:
            log_file = files.enter_context(log.open("ab"))
            self._popen = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_HERE / "launch.py"), str(os.getpid()), *argv],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log_file if output is None else files.enter_context(output.open("wb")),
                stderr=log_file,
                start_new_session=True,
                pass_fds=tuple(pass_fds),
            )
        warden.watch(self.pid)

    @property
    def pid(self) -> int:
        """Process id, which is the id of its group too."""
        return self._popen.pid

    def exit_code(self) -> int | None:
        """Exit code (negative: the signal that killed it), or None while it runs.

        When it has ended, what is left of its group is killed.
        """
        if self._popen.returncode is None:
            # WNOWAIT leaves the dead leader in place, so that its group's number cannot be used anew yet.
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
                return None
            self._kill_group()
            self._popen.wait()
            self._warden.forget(self.pid)
        return self._popen.returncode

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the leader alone: it knows how to end its own children."""
        if self.exit_code() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End the whole group at once, and wait for its leader."""
        if self.exit_code() is None:
            self._kill_group()
            self._popen.wait()
            self._warden.forget(self.pid)

    def wait(self, deadline: float) -> bool:
        """Wait until it ends or the monotonic clock reaches ``deadline``; True when it has ended."""
        while self.exit_code() is None:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
        return True

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def exit_text(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def last_lines(log: Path, count: int = 12) -> list[str]:
    """Return the last lines of a log that hold text; at most ``count``."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 16_384))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-count:]

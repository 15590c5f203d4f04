"""Errors of the pipeline; the type says what to do about them.

::

    MobiusError
    +-- UsageError         the input is wrong: exit code 2, nothing was changed
    +-- DependencyError    broker or store cannot be reached: exit code 3, try again later
    +-- TerminalError      the engine refused the work for good (exit code 1)
"""

from __future__ import annotations

from typing import ClassVar, Final

__all__ = ["DependencyError", "MobiusError", "TerminalError", "UsageError"]


_LONGEST: Final = 1_000


class MobiusError(Exception):
    """Base of every error that a person is shown without a traceback."""

    exit_code: ClassVar[int] = 1


class UsageError(MobiusError):
    """Bad input. Names the file, and the line or field where there is one."""

    exit_code: ClassVar[int] = 2

    def __init__(
        self,
        problem: str,
        *,
        file: str | None = None,
        line: int | None = None,
        field: str | None = None,
    ) -> None:
        # Parts of the input may stand in it: whatever they are, a terminal can show it, on a few lines.
        problem = "".join(
            sign if sign.isprintable() else repr(sign)[1:-1] for sign in problem[:_LONGEST]
        )
        self.problem = problem
        self.file = file
        self.line = line
        self.field = field
        where = file or ""
        if line is not None:
            where += f", line {line}" if where else f"line {line}"
        if field is not None:
            where += f", field {field}" if where else f"field {field}"
        super().__init__(f"{where}: {problem}" if where else problem)


class DependencyError(MobiusError):
    """A broker or store does not answer. Says which, where, and how to start it."""

    exit_code: ClassVar[int] = 3

    def __init__(self, what: str, where: str, *, reason: str = "", remedy: str = "") -> None:
        self.what = what
        self.where = where
        self.reason = reason
        self.remedy = (
            remedy
            or "start the local stack with `mobius-rum up`, or correct its address in zones.toml"
        )
        text = f"{what} at {where} does not answer"
        if reason:
            text += f" ({reason})"
        super().__init__(f"{text}: {self.remedy}")


class TerminalError(MobiusError):
    """The engine refused the work and would refuse it again."""

"""Environment variables of one zone, ``MOBIUS_<ZONE>_<FAMILY>_<NAME>``: tables of them, read strictly.

A name that no table knows is an error, never ignored: a misspelt ``..._SSL_CA_FILE`` would otherwise leave a
connection as it was. No error repeats a value, because anything may have been put into the wrong variable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

__all__ = [
    "CREDENTIALS_FILE",
    "Secret",
    "VariableError",
    "ZoneVariable",
    "existing_file",
    "is_loopback",
    "one_of",
    "prefix",
    "read_credentials_file",
    "read_table",
    "read_variables",
    "true_or_false",
    "variables_table",
]

CREDENTIALS_FILE: Final = "credentials.env"
"""Lies beside a zones.toml, where the local stack keeps the passwords that it made up; lines of NAME=value."""


class VariableError(ValueError):
    """A variable is wrong, missing or unknown. ``variable`` is its whole name; no value is repeated."""

    def __init__(self, variable: str, problem: str) -> None:
        self.variable = variable
        self.problem = problem
        super().__init__(f"{variable}: {problem}")


class Secret(str):
    """A text that no log, traceback or debugger shows: only joining and encoding give it away."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Stars."""
        return "'***'"

    def __str__(self) -> str:
        """Stars."""
        return "***"

    def __format__(self, format_spec: str) -> str:
        """Stars."""
        return "***"


@dataclass(frozen=True, slots=True)
class ZoneVariable:
    """One variable.

    Attributes
    ----------
    name
        What stands behind ``MOBIUS_<ZONE>_<FAMILY>_``.
    default
        Value where it is not set, or empty.
    parse
        Reads its text; raises ValueError with what was expected, without the text itself.
    meaning
        What it does, and what follows.
    """

    name: str
    default: Any
    parse: Callable[[str], Any]
    meaning: str


def prefix(zone: str, family: str) -> str:
    """Return what all variables of a zone's family begin with, such as ``MOBIUS_EU_KAFKA_``."""
    return f"MOBIUS_{zone.upper()}_{family}_"


def read_variables(
    zone: str, family: str, table: Sequence[ZoneVariable], values: Mapping[str, str]
) -> dict[str, Any]:
    """Values of a zone's variables, by their names in the table.

    Parameters
    ----------
    values
        All variables, as in ``os.environ``; those of other prefixes are left alone.

    Raises
    ------
    VariableError
        One cannot be read, or begins like the family's and is not in the table.
    """
    return read_table(prefix(zone, family), table, values)


def read_table(
    begin: str, table: Sequence[ZoneVariable], values: Mapping[str, str]
) -> dict[str, Any]:
    """Values of the variables that ``begin`` stands before, by their names in the table; as :func:`read_variables`.

    Raises
    ------
    VariableError
        One cannot be read, or begins so and is not in the table.
    """
    known = {variable.name: variable for variable in table}
    for name in sorted(values):
        rest = name.removeprefix(begin)
        if name.startswith(begin) and rest not in known:
            near = get_close_matches(rest, known, n=1, cutoff=0.0)[0]
            raise VariableError(name, f"unknown variable; the closest known one is {begin}{near}")
    found: dict[str, Any] = {}
    for variable in table:
        written = values.get(begin + variable.name, "")
        try:
            found[variable.name] = variable.parse(written) if written else variable.default
        except ValueError as error:
            # Without the cause: its text may hold the value.
            raise VariableError(begin + variable.name, str(error)) from None
    return found


def read_credentials_file(file: Path) -> dict[str, str]:
    """Names and values of a ``credentials.env``; nothing where there is none or it may not be read."""
    try:
        # As the environment's own variables are read: bytes that are no UTF-8 stay what they are.
        lines = file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return {}
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a reader of one of several words, in any case."""

    def parse(text: str) -> str:
        word = text.strip().upper()
        if word not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return word

    return parse


def true_or_false(text: str) -> bool:
    """Read ``true`` or ``false``."""
    word = text.strip().lower()
    if word not in ("true", "false"):
        raise ValueError("must be true or false")
    return word == "true"


def existing_file(text: str) -> Path:
    """Read the path of a file that this process may read."""
    if "-----BEGIN" in text or "\n" in text:
        raise ValueError("must be the path of a file, not what is in it")
    path = Path(text.strip())
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        raise ValueError(f"the file cannot be read ({error.strerror})") from None


def is_loopback(host: str) -> bool:
    """Whether a host is this machine: what is sent there passes no network."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def variables_table(family: str, table: Sequence[ZoneVariable]) -> str:
    """Write a table of variables in Markdown, for the documentation."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for variable in table:
        default = {True: "`true`", False: "`false`", None: ""}.get(
            variable.default, f"`{variable.default}`"
        )
        lines.append(
            f"| `MOBIUS_<ZONE>_{family}_{variable.name}` | {default} | {variable.meaning} |"
        )
    return "\n".join(lines) + "\n"

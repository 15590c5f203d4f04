"""Options from the table ``[instrumentation]`` of zones.toml: what all services of an installation share.

A service's own arguments and environment come first. Secrets are never in the file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from typing import Any, Final

from mobius_instrumentation.errors import ConfigurationError
from mobius_instrumentation.options import OPTIONS

__all__ = ["TABLE", "file_options"]

TABLE: Final = "instrumentation"
_NOT_IN_FILE: Final = {
    "zones": "the file is the map",
    "synthetic_key": "secrets are never in the file: set MOBIUS_SYNTHETIC_KEY",
    "subject_key": "secrets are never in the file: set MOBIUS_SUBJECT_KEY",
    "instance_id": "it names one process: set MOBIUS_INSTANCE_ID",
}


def file_options(path: str | PathLike[str]) -> dict[str, Any]:
    """Options that the residency map at ``path``, which was read once already, sets.

    Raises
    ------
    ConfigurationError
        A key is unknown or its value cannot be read; names file and key.
    """
    document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    table = document.get(TABLE, {})
    if not isinstance(table, Mapping):
        raise ConfigurationError(TABLE, f"{path}: must be a table, [{TABLE}]")
    return {name: _value(f"{path}: {TABLE}.{name}", name, given) for name, given in table.items()}


def _value(where: str, name: str, given: object) -> Any:
    if name in _NOT_IN_FILE:
        raise ConfigurationError(name, f"{where}: {_NOT_IN_FILE[name]}")
    option = OPTIONS.get(name)
    if option is None:
        near = get_close_matches(name, OPTIONS, n=1, cutoff=0.0)[0]
        raise ConfigurationError(name, f"{where}: unknown option; the closest known one is {near}")
    try:
        return option.parse(_text(given))
    except ValueError as error:
        raise ConfigurationError(name, f"{where} = {given!r}: {error}") from error


def _text(given: object) -> str:
    """Write a value as a variable would have it."""
    if isinstance(given, bool):
        return str(given).lower()
    if isinstance(given, str | int | float):
        return str(given)
    if isinstance(given, list) and all(isinstance(item, str) for item in given):
        return ",".join(given)
    raise ValueError("must be a text, a number, true or false, or a list of texts")

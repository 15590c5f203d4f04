"""Adds to a rules file: which endpoint a name means."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Final

from mobius_pipeline.errors import UsageError
from mobius_pipeline.imports.formats.given import METHODS
from mobius_pipeline.imports.routes import load_rules

__all__ = ["add_rule"]

# As the list of what was not matched writes an endpoint: "shop: GET /search", "GET /search", "/search".
_ENDPOINT: Final = re.compile(
    rf"(?:(?P<service>[^\s:/]+):\s+)?(?:(?P<method>{METHODS})\s+)?(?P<route>\S(?:.*\S)?)",
    re.IGNORECASE,
)
_TEXT: Final = re.compile(r"[^\x00-\x1f\x7f]{1,2000}")


def add_rule(path: Path, name: str, endpoint: str) -> None:
    """Write that ``name`` means ``endpoint`` before the rules that ``path`` holds, so that it comes first.

    Parameters
    ----------
    path
        Rules file (TOML); it is made where there is none.
    endpoint
        Route, with a method and a service before it where they are to be said: ``shop: GET /search``.

    Raises
    ------
    UsageError
        A text is none, or the file is none that can be read or written.
    """
    match = _ENDPOINT.fullmatch(endpoint.strip())
    if not _TEXT.fullmatch(name) or not _TEXT.fullmatch(endpoint) or match is None:
        raise UsageError(
            "needs a name and an endpoint such as 'GET /search/{id}', of printable characters",
            field="--add",
        )
    before = ""
    if path.exists():
        load_rules(path)
        before = path.read_text(encoding="utf-8")
    fields = {"name": name, **{key: value for key, value in match.groupdict().items() if value}}
    # A JSON text is a TOML text, too.
    rule = "[[route]]\n" + "".join(
        f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in fields.items()
    )
    if rule in before:
        return
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_text(rule + ("\n" + before if before else ""), encoding="utf-8")
        load_rules(fresh)
        fresh.replace(path)
    except OSError as error:
        raise UsageError(f"cannot be written ({error.strerror})", file=str(path)) from error
    finally:
        fresh.unlink(missing_ok=True)

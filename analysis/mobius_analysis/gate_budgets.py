"""Budgets of the gate: from options such as ``p95=200ms``, or from a TOML file with patterns of endpoints."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from mobius_analysis.prediction import Subject
from mobius_pipeline.errors import UsageError

__all__ = ["Budget", "budget_for", "parse_budget", "parse_share", "read_budgets"]

_BUDGET: Final = re.compile(r"\s*(p50|p95|p99)\s*=\s*(.+)", re.IGNORECASE)
_LENGTH: Final = re.compile(r"\s*(\d{1,9}(?:\.\d{1,6})?)\s*(us|ms|s)\s*", re.IGNORECASE)
_SECONDS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_LEVELS: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_SHARE: Final = re.compile(r"\s*(\d{1,4}(?:\.\d{1,4})?)\s*%\s*")
_PATTERNS: Final = ("region", "service", "method", "route")


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that quantile ``q`` may take, in seconds, in the endpoints that all patterns match."""

    q: float
    seconds: float
    region: str = "*"
    service: str = "*"
    method: str = "*"
    route: str = "*"

    def matches(self, subject: Subject) -> bool:
        """Whether the budget is this endpoint's; ``*`` stands for any text, ``?`` for one character."""
        patterns = (self.region, self.service, self.method, self.route)
        # A route's braces and brackets are no pattern.
        return all(
            fnmatchcase(value, pattern.replace("[", "[[]"))
            for value, pattern in zip(subject, patterns, strict=True)
        )

    @property
    def pattern(self) -> str:
        """The patterns that say something, for people."""
        said = [getattr(self, name) for name in _PATTERNS if getattr(self, name) != "*"]
        return " ".join(said) or "every endpoint"


def budget_for(budgets: Sequence[Budget], subject: Subject, q: float) -> Budget | None:
    """Return the first budget of this quantile that matches an endpoint."""
    return next((one for one in budgets if one.q == q and one.matches(subject)), None)


def parse_budget(text: str, *, field: str = "--budget") -> tuple[float, float]:
    """Read ``p95=200ms`` as quantile and seconds.

    Raises
    ------
    UsageError
        ``text`` is none.
    """
    found = _BUDGET.fullmatch(text)
    if found is None:
        raise UsageError(f"{text!r} is no budget: give one such as p95=200ms", field=field)
    return _LEVELS[found[1].lower()], _seconds(found[2], field)


def _seconds(text: object, field: str, file: str | None = None) -> float:
    found = _LENGTH.fullmatch(text) if isinstance(text, str) else None
    seconds = float(found[1]) * _SECONDS[found[2].lower()] if found else 0.0
    if seconds <= 0:
        raise UsageError(
            f"{text!r} is no latency above 0: give one such as 200ms or 1.5s",
            file=file,
            field=field,
        )
    return seconds


def parse_share(text: str, *, field: str) -> float:
    """Read ``10%`` as 0.1.

    Raises
    ------
    UsageError
        ``text`` is none, or over 1,000 %.
    """
    found = _SHARE.fullmatch(text)
    if found is None or float(found[1]) > 1000:
        raise UsageError(f"{text!r} is no share: give one such as 10%", field=field)
    return float(found[1]) / 100


def read_budgets(file: Path) -> tuple[Budget, ...]:
    """Read the file of budgets.

    Each table ``[[budget]]`` has latencies (``p50``, ``p95``, ``p99``, such as "200ms") and patterns
    (``region``, ``service``, ``method``, ``route``); the first that matches an endpoint counts.

    Raises
    ------
    UsageError
        The file cannot be read, or is no such file; names the table and field.
    """
    name = str(file)
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot be read ({error.strerror})", file=name) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"is no TOML: {error}", file=name) from error
    tables = content.get("budget")
    if not isinstance(tables, list) or not tables or set(content) != {"budget"}:
        raise UsageError("holds nothing but tables [[budget]], at least one", file=name)
    return tuple(
        budget for number, table in enumerate(tables, 1) for budget in _read(table, number, name)
    )


def _read(table: Any, number: int, file: str) -> list[Budget]:
    where = f"budget {number}"
    if not isinstance(table, dict):
        raise UsageError("is no table: write [[budget]]", file=file, field=where)
    for key, value in table.items():
        if key not in _LEVELS and key not in _PATTERNS:
            known = ", ".join((*_LEVELS, *_PATTERNS))
            raise UsageError(f"{key!r} is unknown; known: {known}", file=file, field=where)
        if not isinstance(value, str) or not value:
            raise UsageError("must be a text that is not empty", file=file, field=f"{where}.{key}")
    patterns = {key: table[key] for key in _PATTERNS if key in table}
    made = [
        Budget(q, _seconds(table[key], f"{where}.{key}", file), **patterns)
        for key, q in _LEVELS.items()
        if key in table
    ]
    if not made:
        raise UsageError("has no p50, p95 or p99", file=file, field=where)
    return made

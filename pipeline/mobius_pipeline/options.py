"""Options, times and output that every command shares, so that all of them look and behave alike."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mobius_pipeline.errors import UsageError

__all__ = [
    "ConfigOption",
    "JsonOption",
    "SinceOption",
    "UntilOption",
    "ZoneOption",
    "format_time",
    "parse_stretch",
    "parse_time",
    "print_json",
    "progress",
    "write_text",
]

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", help="Residency map (zones.toml); see also MOBIUS_CONFIG.", show_default=False
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output.")
]
ZoneOption = Annotated[
    str | None,
    typer.Option("--zone", help="Zone to work in; all of them when left out.", show_default=False),
]
SinceOption = Annotated[
    str, typer.Option("--since", help="Begin: ISO 8601 time, or how long ago (90m, 24h, 7d).")
]
UntilOption = Annotated[
    str | None,
    typer.Option(
        "--until",
        help="End: ISO 8601 time, or how long ago; now when left out.",
        show_default=False,
    ),
]

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGO: Final = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*([smhdw])")
_SHOW_PROGRESS_AFTER_SECONDS: Final = 2.0


def parse_time(text: str, now: datetime, *, field: str | None = None) -> datetime:
    """Read a moment given as ISO 8601 or as a distance into the past.

    Parameters
    ----------
    text
        ``2026-11-23T17:00:00Z`` (UTC when it names no zone), ``2026-11-23``, ``now``, ``90m``, ``24h``, ``7d``.
    now
        The moment that distances count from; has a time zone.
    field
        Option to name in the error.

    Raises
    ------
    UsageError
        ``text`` is neither form.

    Examples
    --------
    >>> parse_time("90m", datetime(2026, 1, 1, 12, tzinfo=UTC)).isoformat()
    '2026-01-01T10:30:00+00:00'
    """
    value = text.strip()
    if value.lower() == "now":
        return now.astimezone(UTC)
    try:
        if ago := _AGO.fullmatch(value.lower()):
            return now.astimezone(UTC) - timedelta(**{_UNITS[ago[2]]: float(ago[1])})
        moment = datetime.fromisoformat(value)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{text!r} is no time: give ISO 8601 such as 2026-11-23T17:00:00Z, or how long ago such as 90m, 24h, 7d",
            field=field,
        ) from error


def parse_stretch(since: str, until: str | None, now: datetime) -> tuple[datetime, datetime]:
    """Read ``--since`` and ``--until``; the stretch ends ``now`` where the latter is left out.

    Raises
    ------
    UsageError
        One of them is no time; names the option.
    """
    begin = parse_time(since, now, field="--since")
    return begin, now if until is None else parse_time(until, now, field="--until")


def format_time(moment: datetime) -> str:
    """Write a moment as ISO 8601 in UTC, with Z, to the millisecond where it has a fraction."""
    value = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    digits = "milliseconds" if value.microsecond else "seconds"
    return value.isoformat(timespec=digits).replace("+00:00", "Z")


def write_text(file: Path, text: str, *, field: str) -> None:
    """Write a file that option ``field`` names.

    Raises
    ------
    UsageError
        It cannot be written; names file and option.
    """
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"cannot be written ({error.strerror})", file=str(file), field=field
        ) from error


def print_json(document: Any) -> None:
    """Print one JSON document on standard output; times become ISO 8601 in UTC."""
    sys.stdout.write(
        json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False, default=_plain) + "\n"
    )
    sys.stdout.flush()


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, date | Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form here")


@contextmanager
def progress(title: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show a bar on standard error for work that takes over two seconds; silent where there is no terminal.

    Yields a function to call with the number of units done since the last call. ``total`` None shows a
    bar without an end.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _units: None
        return
    begin = time.monotonic()
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    task = bar.add_task(title, total=total)

    def advance(units: int) -> None:
        bar.advance(task, units)
        if not bar.live.is_started and time.monotonic() - begin > _SHOW_PROGRESS_AFTER_SECONDS:
            bar.start()

    try:
        yield advance
    finally:
        bar.stop()

"""Takes back what a killed engine remembered as inserted and had not inserted.

A MergeTree table that deduplicates inserts by itself writes the block's id to its log, and only then renames the new
part's folder from ``tmp_insert_…`` to its name (seen in a trace of its system calls). Killed between the two, it finds
the id in its log at the next start and no part; the insert, repeated as it has to be, is dropped as a duplicate, and its
rows are lost for good. A replicated table has no such gap: there both are one transaction of its keeper.

Both are done under the table's lock, so it can only be the part that was logged last, and the folder with its temporary
name is still there: the engine removes it as it starts. This therefore has to run before the engine does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Forgotten", "forget_what_is_not_there"]

_LOG: Final = re.compile(r"deduplication_log_(\d+)\.txt")
_PART: Final = re.compile(r"(?P<partition>[^_]+)_(?P<least>\d+)_(?P<most>\d+)_\d+(?:_\d+)?")
_ADDED: Final = "1"


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A part whose ids were taken out of a table's log, because the part is not there."""

    table: Path
    part: str


def forget_what_is_not_there(data: Path) -> Iterator[Forgotten]:
    """Repair the logs of all tables in an engine's data folder, which no engine may have open.

    1. Look only at tables where an insert was cut off.
    2. Find the part that was logged last.
    3. If neither it nor a merged part with its block is there, cut its lines off the log.
    """
    for folder in sorted(data.glob("store/*/*/deduplication_logs")):
        table = folder.parent
        if not any(table.glob("tmp_insert_*")):  # 1
            continue
        logs = sorted(
            (int(found[1]), path)
            for path in folder.iterdir()
            if (found := _LOG.fullmatch(path.name)) and path.stat().st_size
        )
        if not logs:
            continue
        log = logs[-1][1]
        lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
        part = next((_part(line) for line in reversed(lines) if _part(line)), "")  # 2
        if part and not _is_there(table, part):  # 3
            kept = "".join(line for line in lines if _part(line) != part)
            _replace(log, kept, beside=data / "deduplication-log.repaired")
            yield Forgotten(table, part)


def _part(line: str) -> str:
    """Name of the part that a line of the log adds; "" where it does something else."""
    fields = line.rstrip("\n").split("\t")
    return fields[1] if len(fields) == 3 and fields[0] == _ADDED else ""


def _is_there(table: Path, part: str) -> bool:
    wanted = _PART.fullmatch(part)
    if wanted is None:
        return True  # A name of another form: nothing is known of it, so nothing is changed.
    for path in table.iterdir():
        found = _PART.fullmatch(path.name)
        if (
            found is not None
            and found["partition"] == wanted["partition"]
            and int(found["least"]) <= int(wanted["least"])
            and int(found["most"]) >= int(wanted["most"])
        ):
            return True
    return False


def _replace(log: Path, text: str, beside: Path) -> None:
    """Write the log anew, all or nothing: this process may be killed too. The log's folder is for logs alone."""
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(log)

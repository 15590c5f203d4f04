"""The embedded engine: owns the data folder, and runs each statement on a connection of its own.

An engine connection keeps its settings, its database and its temporary tables. Opening one costs 0.1 ms, so each
request gets a fresh one, and nothing can leak from a request into the next (a ``readonly = 2`` could not even be
taken back). The statement and its settings reach the engine apart from each other (``SET`` first), because putting a
``SETTINGS`` clause into somebody's statement would mean parsing all of SQL.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import chdb
import structlog

from mobius_infra.store_server.deduplication_repair import forget_what_is_not_there
from mobius_infra.store_server.folder_lock import FolderLock
from mobius_infra.store_server.statements import Insert, Statement
from mobius_infra.store_server.store_error import StoreError, error_from_engine
from mobius_pipeline.errors import UsageError

__all__ = ["Answer", "Engine"]

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_log = structlog.get_logger("mobius.store")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a statement gave: its bytes, and what it read and wrote."""

    body: bytes
    read_rows: int
    read_bytes: int
    written_rows: int
    written_bytes: int
    result_rows: int
    elapsed_ns: int

    def summary(self) -> str:
        """Value of ``X-ClickHouse-Summary``; ClickHouse writes numbers as strings there."""
        return json.dumps(
            {
                "read_rows": str(self.read_rows),
                "read_bytes": str(self.read_bytes),
                "written_rows": str(self.written_rows),
                "written_bytes": str(self.written_bytes),
                "result_rows": str(self.result_rows),
                "result_bytes": str(len(self.body)),
                "elapsed_ns": str(self.elapsed_ns),
            },
            separators=(",", ":"),
        )


class Engine:
    """The engine of one data folder. Methods may be called by many threads at once."""

    def __init__(self, path: Path) -> None:
        """Take the folder and start the engine.

        Raises
        ------
        UsageError
            Another process owns the folder, or it cannot be made.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"cannot make the data folder ({error.strerror})", file=str(path)
            ) from error
        self.path = path
        self._lock = FolderLock(path)
        try:
            for forgotten in forget_what_is_not_there(path):
                _log.warning(
                    "a killed engine had logged an insert that it had not finished; it may be repeated now",
                    table=str(forgotten.table),
                    part=forgotten.part,
                )
            # Held open all the time: the engine stops with its last connection.
            self._keeper = chdb.connect(str(path))
        except Exception as error:
            self._lock.release()
            raise UsageError(
                f"the engine cannot open this data folder: {error}", file=str(path)
            ) from error
        self.version = self._scalar("SELECT version()")
        self.timezone = self._scalar("SELECT timezone()")
        self.settings = frozenset(self._scalar("SELECT name FROM system.settings").split("\n"))

    def close(self) -> None:
        """Stop the engine and give the folder back."""
        self._keeper.close()
        self._lock.release()

    def run(
        self,
        statement: Statement | Insert,
        *,
        database: str,
        settings: Mapping[str, str],
        parameters: Mapping[str, str],
        default_format: str,
    ) -> Answer:
        """Run one statement with its own settings.

        Raises
        ------
        StoreError
            The engine, or the check of the settings' names, refuses it.
        """
        prelude = self._prelude(database, settings)
        begin = time.monotonic_ns()
        connection = chdb.connect(str(self.path))
        try:
            for step in prelude:
                connection.query(step)
            if isinstance(statement, Insert):
                return self._insert(connection, statement, begin)
            return self._query(connection, statement, parameters, default_format, begin)
        except StoreError:
            raise
        except Exception as error:
            raise error_from_engine(error) from error
        finally:
            connection.close()

    def _prelude(self, database: str, settings: Mapping[str, str]) -> list[str]:
        steps = []
        if database:
            if not _NAME.fullmatch(database):
                raise StoreError(81, "UNKNOWN_DATABASE", f"Database {database!r} does not exist")
            steps.append(f"USE `{database}`")
        for name in settings:
            if name not in self.settings:
                raise StoreError(115, "UNKNOWN_SETTING", f"Unknown setting {name!r}")
        # readonly comes last, because it forbids what follows it.
        ordered = sorted(settings, key=lambda name: name == "readonly")
        if ordered:
            steps.append(
                "SET " + ", ".join(f"{name} = {_literal(settings[name])}" for name in ordered)
            )
        return steps

    def _query(
        self,
        connection: Any,
        statement: Statement,
        parameters: Mapping[str, str],
        default_format: str,
        begin: int,
    ) -> Answer:
        result = connection.query(statement.text, default_format, params=dict(parameters))
        if result is None:
            return Answer(b"", 0, 0, 0, 0, 0, time.monotonic_ns() - begin)
        body = result.bytes() if statement.reads else b""
        return Answer(
            body=body,
            read_rows=result.storage_rows_read(),
            read_bytes=result.storage_bytes_read(),
            written_rows=result.rows_written(),
            written_bytes=result.bytes_written(),
            result_rows=result.rows_read(),
            elapsed_ns=time.monotonic_ns() - begin,
        )

    def _insert(self, connection: Any, insert: Insert, begin: int) -> Answer:
        # Not chDB's send_insert(): it reports success when a table or a view refuses the rows (too many
        # partitions, a throwing view), and they are lost. The data lie in memory, under a name in /proc.
        memory = os.memfd_create("insert", os.MFD_CLOEXEC)
        with os.fdopen(memory, "wb") as file:
            file.write(insert.data)
            file.flush()
            result = connection.query(
                f"{insert.target} FROM INFILE '/proc/self/fd/{memory}' COMPRESSION 'none' "
                f"{insert.settings} FORMAT {insert.format}"
            )
        return Answer(
            b"", 0, 0, result.rows_written(), result.bytes_written(), 0, time.monotonic_ns() - begin
        )

    def _scalar(self, query: str) -> str:
        return str(self._keeper.query(query, "TabSeparatedRaw")).strip()


def _literal(value: str) -> str:
    """Quote ``value`` as a string literal; the engine turns it into the setting's type."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"

"""Clients for a zone's ClickHouse, one kind a purpose; every engine setting stands here with its reason."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import clickhouse_connect
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError
from urllib3.exceptions import HTTPError

from mobius_pipeline.config import clickhouse_credentials
from mobius_pipeline.errors import DependencyError, TerminalError
from mobius_pipeline.faults import Fault, clickhouse_fault

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from mobius_instrumentation.zones import Hub, Zone

__all__ = ["Purpose", "connect", "store_errors"]

# Its own log repeats each failed request; callers report what matters.
logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)


class Purpose(Enum):
    """What a client is for; decides its engine settings."""

    INGEST = "ingest"
    ANALYSIS = "analysis"
    VIEW = "view"
    MIGRATE = "migrate"


_INGEST: Final[dict[str, Any]] = {
    # Buffering on the server would acknowledge before data are durable and void the token.
    "async_insert": 0,
    # Without it a repeated insert is dropped from the target but counted again by the views behind it.
    "deduplicate_blocks_in_dependent_materialized_views": 1,
    # Blocks must split alike on every repetition, so they are cut by one thread.
    "max_insert_threads": 1,
    # A service whose clock is wrong, or an import of history, must not stop the rest of its batch.
    "max_partitions_per_insert_block": 0,
}
_SETTINGS: Final[dict[Purpose, dict[str, Any]]] = {
    Purpose.INGEST: _INGEST,
    # A job may be long, but not endless.
    Purpose.ANALYSIS: {"max_execution_time": 120},
    # A page's query must not write, nor occupy the store.
    Purpose.VIEW: {"readonly": 2, "max_execution_time": 20, "max_result_rows": 500_000},
    Purpose.MIGRATE: {},
}
_TIMEOUT_SECONDS: Final[dict[Purpose, int]] = {
    Purpose.INGEST: 30,
    Purpose.ANALYSIS: 130,
    Purpose.VIEW: 25,
    Purpose.MIGRATE: 60,
}
_REMEDY: Final[dict[int, str]] = {
    60: "make its tables with `mobius-rum migrate`",
    81: "make its database with `mobius-rum migrate`",
    516: "give its user and password in MOBIUS_{zone}_CLICKHOUSE_USER and MOBIUS_{zone}_CLICKHOUSE_PASSWORD",
}


def connect(zone: Zone | Hub, purpose: Purpose, *, database: str | None = None) -> Client:
    """Open a client to the store of ``zone`` (or the hub), set up for ``purpose``.

    ``database`` overrides the zone's own (migrations connect before it exists, with ``"default"``).
    A client is not safe for use by several threads at once; open one each.

    Raises
    ------
    DependencyError
        The store does not answer at the address of zones.toml.
    """
    credentials = clickhouse_credentials(zone.name)
    try:
        return clickhouse_connect.get_client(
            dsn=zone.clickhouse,
            username=credentials.user,
            password=credentials.password,
            database=database or zone.database,
            settings=_SETTINGS[purpose],
            connect_timeout=5,
            send_receive_timeout=_TIMEOUT_SECONDS[purpose],
            autogenerate_session_id=False,
            client_name=f"mobius-rum {purpose.value}",
        )
    except (ClickHouseError, OSError) as error:
        raise _away(zone, error) from error


@contextmanager
def store_errors(zone: Zone | Hub) -> Iterator[None]:
    """Turn the client's errors into those that say what to do.

    Raises
    ------
    DependencyError
        The store is away, too busy, or not migrated: the same work may succeed later.
    TerminalError
        The store understood the work and refuses it, as it would again.
    """
    try:
        yield
    except DatabaseError as error:
        if clickhouse_fault(error.code) is not Fault.TRANSIENT:
            raise TerminalError(f"the store of zone {zone.name} refused: {_line(error)}") from error
        raise _away(zone, error) from error
    except (ClickHouseError, HTTPError, OSError) as error:
        raise _away(zone, error) from error


def _away(zone: Zone | Hub, error: Exception) -> DependencyError:
    remedy = _REMEDY.get(getattr(error, "code", None) or 0, "")
    what = f"the store of zone {zone.name}"
    return DependencyError(
        what, zone.clickhouse, reason=_line(error), remedy=remedy.format(zone=zone.name.upper())
    )


def _line(error: Exception) -> str:
    if caused := re.search(r"Caused by \w+\(.*?(\[Errno \d+\] [\w ]+|[\w ]+timed out)", str(error)):
        return caused[1]
    return (str(error).splitlines() or [type(error).__name__])[0][:300]

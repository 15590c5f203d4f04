"""One zone's store as importers use it: errors of the client become errors for people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError, OperationalError

from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import DependencyError, TerminalError
from mobius_pipeline.store import Purpose, connect

__all__ = ["open_store"]

_NOT_MIGRATED: Final = (
    "UNKNOWN_DATABASE",
    "UNKNOWN_TABLE",
    "UNKNOWN_IDENTIFIER",
    "code: 81",
    "code: 60",
)


@contextmanager
def open_store(zone: Zone) -> Iterator[Client]:
    """Open a client for inserts into ``zone`` and close it afterwards.

    Raises
    ------
    DependencyError
        The store does not answer, or was never migrated.
    TerminalError
        The store refused a statement.
    """
    client = connect(zone, Purpose.INGEST)
    try:
        yield client
    except OperationalError as error:
        raise _away(zone, error) from error
    except DatabaseError as error:
        text = str(error)
        if any(sign in text for sign in _NOT_MIGRATED):
            raise DependencyError(
                f"database {zone.database} of zone {zone.name}",
                zone.clickhouse,
                reason=_first_line(error),
                remedy="make its tables with `mobius-rum migrate`",
            ) from error
        raise TerminalError(
            f"the store of zone {zone.name} refused: {_first_line(error)}"
        ) from error
    except (ClickHouseError, OSError) as error:
        raise _away(zone, error) from error
    finally:
        client.close()


def _away(zone: Zone, error: Exception) -> DependencyError:
    return DependencyError(
        f"the store of zone {zone.name}", zone.clickhouse, reason=_first_line(error)
    )


def _first_line(error: Any) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]

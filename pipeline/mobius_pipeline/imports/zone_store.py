"""One zone's store as importers use it: opened for inserts, closed again, errors made for people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from clickhouse_connect.driver.client import Client

from mobius_instrumentation.zones import Zone
from mobius_pipeline.store import Purpose, connect, store_errors

__all__ = ["open_store"]


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
        with store_errors(zone):
            yield client
    finally:
        client.close()

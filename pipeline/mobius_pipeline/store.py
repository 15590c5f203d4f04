"""Clients for a zone's ClickHouse, one kind a purpose; every engine setting stands here with its reason."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import clickhouse_connect
from clickhouse_connect.driver.exceptions import ClickHouseError

from mobius_pipeline.config import clickhouse_credentials
from mobius_pipeline.errors import DependencyError

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client
    from mobius_instrumentation.zones import Hub, Zone

__all__ = ["Purpose", "connect"]


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
        raise DependencyError(
            f"the store of zone {zone.name}",
            zone.clickhouse,
            reason=str(error).splitlines()[0][:200],
        ) from error

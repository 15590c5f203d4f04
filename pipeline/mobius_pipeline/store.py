"""Clients for a zone's ClickHouse, one kind a purpose; every engine setting stands here with its reason."""

from __future__ import annotations

import logging
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError
from clickhouse_connect.driver.httputil import check_env_proxy, get_pool_manager
from urllib3.exceptions import HTTPError

from mobius_instrumentation.tls import certificate_remedy, context_from
from mobius_instrumentation.zone_variables import VariableError, prefix
from mobius_pipeline.clickhouse_options import check_clickhouse_variables
from mobius_pipeline.config import clickhouse_credentials, variables
from mobius_pipeline.errors import DependencyError, TerminalError, UsageError
from mobius_pipeline.faults import Fault, clickhouse_fault

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client
    from urllib3 import PoolManager

    from mobius_instrumentation.zones import Hub, Zone

__all__ = ["Purpose", "connect", "store_errors"]

# Its own log repeats each failed request; callers report what matters.
logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)


class Purpose(Enum):
    """What a client is for; decides its engine settings."""

    INGEST = "ingest"
    ANALYSIS = "analysis"
    VIEW = "view"
    AUDIT = "audit"
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
    # With the disk's last byte taken in the midst of an insert the engine can acknowledge what nobody can read; so it is
    # refused (243) while there is still room for everything that is under way.
    "min_free_disk_bytes_to_perform_insert": 268_435_456,
    # Indexes for looking up a trace are built by the first merge; a part as small as an insert is searched without.
    "materialize_skip_indexes_on_insert": 0,
}
_SETTINGS: Final[dict[Purpose, dict[str, Any]]] = {
    Purpose.INGEST: _INGEST,
    # A job may be long, but not endless.
    Purpose.ANALYSIS: {"max_execution_time": 120},
    # A page's query must not write, nor occupy the store.
    Purpose.VIEW: {"readonly": 2, "max_execution_time": 20, "max_result_rows": 500_000},
    # What is written down about a read has to be there before anything is read.
    Purpose.AUDIT: {"async_insert": 0, "max_execution_time": 10},
    Purpose.MIGRATE: {},
}
_TIMEOUT_SECONDS: Final[dict[Purpose, int]] = {
    Purpose.INGEST: 30,
    Purpose.ANALYSIS: 130,
    Purpose.VIEW: 25,
    Purpose.AUDIT: 15,
    Purpose.MIGRATE: 3600,
}
# Connections over TLS by address, with what they were made from.
_pools: Final[dict[str, tuple[object, PoolManager]]] = {}
_REMEDY: Final[dict[int, str]] = {
    60: "make its tables with `mobius-rum migrate`",
    81: "make its database with `mobius-rum migrate`",
    516: "give its user and password in MOBIUS_{zone}_CLICKHOUSE_USER and MOBIUS_{zone}_CLICKHOUSE_PASSWORD",
}


def connect(
    zone: Zone | Hub,
    purpose: Purpose,
    *,
    database: str | None = None,
    timeout_seconds: float | None = None,
) -> Client:
    """Open a client to the store of ``zone`` (or the hub), set up for ``purpose``.

    ``database`` overrides the zone's own (migrations connect before it exists, with ``"default"``), and
    ``timeout_seconds`` how long an answer may take.
    A client is not safe for use by several threads at once; open one each.

    Raises
    ------
    UsageError
        A variable of the zone's ClickHouse is wrong; names it.
    DependencyError
        The store does not answer at the address of zones.toml, or is not the one of its certificate.
    """
    credentials = clickhouse_credentials(zone.name)
    tls = _tls_options(zone)
    address = urlsplit(zone.clickhouse)
    try:
        return clickhouse_connect.get_client(
            # Not as `dsn`: its scheme does not count there, the port 8443 alone would mean TLS.
            interface=address.scheme,
            host=address.hostname,
            port=address.port or 0,
            username=credentials.user,
            password=credentials.password,
            database=database or zone.database,
            settings=_SETTINGS[purpose],
            connect_timeout=5,
            send_receive_timeout=timeout_seconds or _TIMEOUT_SECONDS[purpose],
            autogenerate_session_id=False,
            client_name=f"mobius-rum {purpose.value}",
            **tls,
        )
    except (ClickHouseError, OSError) as error:
        raise _away(zone, error) from error


def _tls_options(zone: Zone | Hub) -> dict[str, Any]:
    """Options of a client over TLS; none where the address is no https://.

    Raises
    ------
    UsageError
        A variable is wrong; names it.
    """
    try:
        found = check_clickhouse_variables(zone, variables())
        if not zone.clickhouse.startswith("https://"):
            return {}
        pool = _pool(zone, found)
    except VariableError as error:
        raise UsageError(error.problem, field=error.variable) from None
    options: dict[str, Any] = {"pool_mgr": pool}
    if found["CERT_FILE"]:
        # With a password the certificate is for the connection alone; without one it says who we are.
        options["client_cert"] = str(found["CERT_FILE"])
        options["tls_mode"] = "strict" if found["PASSWORD"] else "mutual"
    return options


def _pool(zone: Zone | Hub, found: Mapping[str, Any]) -> PoolManager:
    """Connections to a store; the same for all its clients until a variable or a file is another."""
    files = (found[name] for name in ("CA_FILE", "CERT_FILE", "KEY_FILE"))
    state = (
        *(None if file is None else (file, file.stat().st_mtime_ns) for file in files),
        found["SERVER_NAME"],
        "".join((found["KEY_PASSWORD"],)),
    )
    if zone.clickhouse not in _pools or _pools[zone.clickhouse][0] != state:
        address = urlsplit(zone.clickhouse)
        pool = get_pool_manager(
            ssl_context=context_from(prefix(zone.name, "CLICKHOUSE"), found, check_hostname=True),
            https_proxy=check_env_proxy("https", address.hostname or "", address.port or 443),
            # What the certificate must name; the address's host where it is None.
            server_hostname=found["SERVER_NAME"],
        )
        _pools[zone.clickhouse] = state, pool
    return _pools[zone.clickhouse][1]


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
    remedy = _REMEDY.get(getattr(error, "code", None) or 0, "").format(zone=zone.name.upper())
    reason = _line(error)
    if (refusal := _tls_error(error)) is not None:
        begin = prefix(zone.name, "CLICKHOUSE")
        reason = str(getattr(refusal, "verify_message", "") or refusal.reason or refusal)
        remedy = certificate_remedy(
            refusal,
            ca=f"{begin}CA_FILE",
            cert=f"{begin}CERT_FILE",
            host=f"name it in {begin}SERVER_NAME",
        )
    elif zone.clickhouse.startswith("https://") and _dropped(error):
        # A server that wants a certificate of ours may close before its refusal has been read.
        remedy = f"it closed the connection: does it want a certificate of ours ({prefix(zone.name, 'CLICKHOUSE')}CERT_FILE)?"
    return DependencyError(
        f"the store of zone {zone.name}", zone.clickhouse, reason=reason, remedy=remedy
    )


def _tls_error(error: BaseException) -> ssl.SSLError | None:
    """Return what TLS said, from somewhere below the client's error."""
    return next((each for each in _chain(error) if isinstance(each, ssl.SSLError)), None)


def _dropped(error: BaseException) -> bool:
    """Whether the other side closed the connection, without a word in TLS."""
    return any(isinstance(each, (ConnectionResetError, BrokenPipeError)) for each in _chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        # urllib3 keeps the error below in `reason` or as its only argument.
        below = (getattr(error, "reason", None), *error.args, error.__cause__, error.__context__)
        error = next((each for each in below if isinstance(each, Exception)), None)


def _line(error: Exception) -> str:
    if caused := re.search(r"Caused by \w+\(.*?(\[Errno \d+\] [\w ]+|[\w ]+timed out)", str(error)):
        return caused[1]
    return (str(error).splitlines() or [type(error).__name__])[0][:300]

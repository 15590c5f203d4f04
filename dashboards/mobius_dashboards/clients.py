"""The one door to a store: :func:`client_for` gives a client to a viewer whose policy has its zone.

clickhouse-connect's clients are not made for several threads at once, and Streamlit runs every session and
every rerun in a thread of its own. So clients are lent: a free one of the same policy and zone, else a new one.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError

from mobius_dashboards.viewer import Viewer, require
from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import DependencyError, TerminalError
from mobius_pipeline.residency.sight import Level
from mobius_pipeline.store import Purpose, connect

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["client_for"]

_Key = tuple[tuple[str, ...], Zone]
_IDLE_LIMIT: Final = 4
_idle: Final[dict[_Key, queue.SimpleQueue[Client]]] = {}
_lock: Final = threading.Lock()


@contextmanager
def client_for(viewer: Viewer, zone: Zone, level: Level = "aggregates") -> Iterator[Client]:
    """Lend a read-only client of ``zone``'s store for the time of a ``with`` block.

    Raises
    ------
    ForbiddenError
        The viewer's policy does not have ``level`` of ``zone``.
    DependencyError
        The store does not answer.
    TerminalError
        The store answers, and refuses: most often a database that was never migrated.
    """
    require(viewer, zone.name, level)
    with _lock:
        idle = _idle.setdefault((viewer.policy, zone), queue.SimpleQueue())
    try:
        client = idle.get_nowait()
    except queue.Empty:
        client = connect(zone, Purpose.VIEW)
    try:
        yield client
    except DatabaseError as error:
        client.close()
        first = str(error).splitlines()[0][:300]
        if "UNKNOWN_DATABASE" in str(error) or "UNKNOWN_TABLE" in str(error):
            first += f": run `mobius-rum migrate --zone {zone.name}`"
        raise TerminalError(f"zone {zone.name}: {first}") from error
    except (ClickHouseError, OSError) as error:
        client.close()
        raise DependencyError(
            f"the store of zone {zone.name}",
            zone.clickhouse,
            reason=str(error).splitlines()[0][:200],
        ) from error
    except BaseException:
        # Whatever broke off in the middle may have left an answer half read.
        client.close()
        raise
    if idle.qsize() < _IDLE_LIMIT:
        idle.put(client)
    else:
        client.close()

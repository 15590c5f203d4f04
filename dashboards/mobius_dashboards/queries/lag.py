"""How far a zone's worker is behind its broker, asked beside the page: a broker that is away delays no page."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass
from typing import Final

from mobius_dashboards.const import CACHE_SECONDS
from mobius_dashboards.view import View
from mobius_dashboards.viewer import require
from mobius_instrumentation.zones import Zone
from mobius_pipeline import status
from mobius_pipeline.errors import MobiusError

__all__ = ["Lag", "ask_lag", "lag"]

# So long does the first page wait for an answer; later ones show the last answer and ask anew.
_PATIENCE_SECONDS: Final = 0.2
_lock: Final = threading.Lock()
_last: Final[dict[Zone, tuple[float, Future[int]]]] = {}
_known: Final[dict[Zone, Future[int]]] = {}


@dataclass(frozen=True, slots=True)
class Lag:
    """Messages on the broker that are not stored yet; None with a reason where nobody can say."""

    messages: int | None
    reason: str = ""


def ask_lag(view: View, zone: Zone) -> None:
    """Begin to ask for a zone's lag, so that :func:`lag` at the end of a page need not wait."""
    require(view.viewer, zone.name)
    _current(zone)


def lag(view: View, zone: Zone) -> Lag:
    """Return a zone's lag, at most a few seconds old."""
    require(view.viewer, zone.name)
    future = _current(zone)
    known = _known.get(zone)
    if known is not None and not future.done():
        future = known
    try:
        return Lag(future.result(_PATIENCE_SECONDS))
    except NotYet:
        return Lag(None, "the broker takes long to answer")
    except MobiusError as error:
        return Lag(None, str(error))


def _current(zone: Zone) -> Future[int]:
    """Return the newest question about a zone's lag, a new one where the last answer has grown old."""
    with _lock:
        asked, future = _last.get(zone, (float("-inf"), None))
        if future is None or (future.done() and time.monotonic() - asked > CACHE_SECONDS):
            if future is not None:
                _known[zone] = future
            future = _ask(zone)
            _last[zone] = (time.monotonic(), future)
        return future


def _ask(zone: Zone) -> Future[int]:
    """Ask in a thread that does not hold up the end of the process: an absent broker takes ten seconds."""
    future: Future[int] = Future()

    def run() -> None:
        try:
            future.set_result(status.lag(zone))
        except BaseException as error:  # noqa: BLE001 - whoever reads the future gets it
            future.set_exception(error)

    threading.Thread(target=run, name=f"lag-{zone.name}", daemon=True).start()
    return future

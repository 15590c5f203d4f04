"""Switches on OpenTelemetry's own instrumentations of clients, where they are installed, and adds what they lack.

They come with the extras: ``pip install 'mobius-instrumentation[sqlalchemy,httpx,redis]'``. None is switched on without
being asked for: an instrumentation can be switched on once only, and a service may want to do it with options.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from mobius_instrumentation.request import CURRENT
from mobius_instrumentation.runtime import watch_pool

__all__ = ["CLIENTS", "instrument_clients"]

_log: Final = logging.getLogger("mobius_instrumentation")

CLIENTS: Final[dict[str, str]] = {
    "sqlalchemy": "SQLAlchemyInstrumentor",
    "httpx": "HTTPXClientInstrumentor",
    "redis": "RedisInstrumentor",
    "asyncpg": "AsyncPGInstrumentor",
    "psycopg": "PsycopgInstrumentor",
    "requests": "RequestsInstrumentor",
}
"""Library, and the class that instruments it in ``opentelemetry.instrumentation.<library>``."""


def instrument_clients(
    provider: TracerProvider, names: Iterable[str] = tuple(CLIENTS)
) -> list[str]:
    """Switch on the instrumentations of libraries that are there; return their names.

    One that the service has switched on itself stays as it is. None of them can keep a service from starting: what
    fails is logged.
    """
    done = []
    for name in names:
        module = f"opentelemetry.instrumentation.{name}"
        if find_spec(name) is None or find_spec(module) is None:
            continue
        try:
            instrumentor = getattr(import_module(module), CLIENTS[name])()
            if instrumentor.is_instrumented_by_opentelemetry:
                continue
            options: dict[str, Any] = {"tracer_provider": provider}
            if name == "sqlalchemy":
                # It says that it knows no SQLAlchemy 2.1, and works with it: its events are the same.
                options["skip_dep_check"] = True
            elif name == "redis":
                options["response_hook"] = _cache_answer
            instrumentor.instrument(**options)
            if name == "sqlalchemy":
                _watch_sqlalchemy_pools()
            done.append(name)
        except Exception:  # noqa: BLE001  # other people's code, at the start of a service
            _log.exception("the instrumentation of %s does not start", name)
    return done


# Commands of Redis that ask for a value which may be missing: only of these is a missing one a miss.
_READS: Final = frozenset({"GET", "HGET", "GETEX", "GETDEL", "LINDEX", "ZSCORE", "JSON.GET"})


def _cache_answer(span: trace.Span, _client: object, answer: object) -> None:
    """Write hit or miss of a Redis command that reads one value."""
    command = str(getattr(span, "name", "")).partition(" ")[0].upper()
    if command in _READS and span.is_recording():
        span.set_attribute("mobius.cache.hit", answer is not None)


class _SQLAlchemyPool:
    """Counts of one SQLAlchemy pool, for :func:`watch_pool`. Lives as long as the pool, and no longer."""

    def __init__(self, pool: Any) -> None:
        self._pool = weakref.ref(pool)
        self._lock = threading.Lock()
        self._waiting = 0

    def _count(self, name: str) -> int:
        pool = self._pool()
        return 0 if pool is None or not hasattr(pool, name) else int(getattr(pool, name)())

    def size(self) -> int:
        """Connections that it keeps, and those beyond that it has made."""
        return self._count("size") + max(0, self._count("overflow"))

    def in_use(self) -> int:
        """Connections that are checked out."""
        return self._count("checkedout")

    def waiting(self) -> int:
        """Threads or tasks that are getting a connection now."""
        return self._waiting

    def wait(self, change: int) -> None:
        """Count one more that waits, or one less."""
        with self._lock:
            self._waiting += change


def _watch_sqlalchemy_pools() -> None:
    """Watch every pool, and tell requests how long they waited for a connection."""
    from sqlalchemy.pool import Pool

    connect: Any = Pool.connect
    if hasattr(connect, "_mobius_watches"):
        return

    def watched(pool: Any) -> Any:
        watch = vars(pool).get("_mobius_watch")
        if watch is None:
            watch = vars(pool).setdefault("_mobius_watch", _SQLAlchemyPool(pool))
            watch_pool(watch)
        request = CURRENT.get()
        began = time.monotonic_ns()
        watch.wait(1)
        try:
            return connect(pool)
        finally:
            watch.wait(-1)
            if request is not None:
                request.connection_wait_ns += time.monotonic_ns() - began

    vars(watched)["_mobius_watches"] = True
    Pool.connect = watched  # type: ignore[method-assign,assignment]  # its one public way to a connection

"""Locust listener: marks each request of a load test and writes one JSON line for it.

In a locustfile, at module level::

    from mobius_instrumentation.locust import listen

    listen(path="run.jsonl", test="checkout")

Each request gets a ``traceparent`` of its own and the signed marker in ``baggage``, so that services
know it as a test's, and its line joins their spans exactly. The file is for
``mobius-rum import synthetic``. Works with ``HttpUser`` and ``FastHttpUser``; requests of other
clients are written without ids. Needs the extra ``mobius-instrumentation[locust]``.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any, Final

from mobius_instrumentation.errors import ConfigurationError
from mobius_instrumentation.marker import BAGGAGE_KEY, sign

__all__ = ["Listener", "listen"]

_log: Final = logging.getLogger("mobius_instrumentation")

_IDS: Final = "mobius.ids"  # entry of Locust's request context
_FLUSH_SECONDS: Final = 1.0
_TOKEN_SECONDS: Final = 3600.0  # validity of a token; a long run gets new ones


def listen(
    target: Any = None,
    *,
    path: str | os.PathLike[str] | None = None,
    test: str | None = None,
    run: str | None = None,
    key: str | None = None,
) -> Listener:
    """Begin to listen to a load test.

    Parameters
    ----------
    target
        A Locust ``Environment`` or ``Events``; default: the events of the running locustfile.
    path
        File of the results (``MOBIUS_TEST_RESULTS``); default ``locust-<run>.jsonl``. A worker of a
        distributed run puts its process id before the suffix, and each further test that is started
        in the same process its number.
    test
        Name of the test (``MOBIUS_TEST_NAME``), default ``locust``.
    run
        Name of this run (``MOBIUS_TEST_RUN``), default: the time and a random part.
    key
        Shared secret of the markers (``MOBIUS_SYNTHETIC_KEY``). Without it requests are not marked, and
        the services count them as users' traffic, or as suspected where their user agent shows.

    Raises
    ------
    ConfigurationError
        ``test`` or ``run`` has characters outside ``A-Z a-z 0-9 _ -``, or more than 64.
    """
    environ = os.environ
    run = (
        run
        or environ.get("MOBIUS_TEST_RUN")
        or f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
    )
    listener = Listener(
        path=Path(path or environ.get("MOBIUS_TEST_RESULTS") or f"locust-{run}.jsonl"),
        test=test or environ.get("MOBIUS_TEST_NAME") or "locust",
        run=run,
        key=key or environ.get("MOBIUS_SYNTHETIC_KEY") or "",
    )
    listener.attach(target)
    return listener


class Listener:
    """State of one load-generating process; see :func:`listen`. ``now`` is seconds since the epoch."""

    def __init__(
        self, *, path: Path, test: str, run: str, key: str, now: Callable[[], float] = time.time
    ) -> None:
        self._base = path
        self._test = test
        self._base_run = run
        self._key = key
        self._now = now
        self._file: IO[str] | None = None
        self._runs = 0
        self._requests = 0
        self._failed = 0
        self._flushed_at = 0.0
        self._token = ""
        self._token_until = 0.0
        self.path = path
        self.run = run
        try:
            sign(run, test, key=key or "-", expires=0)
        except ValueError as error:
            raise ConfigurationError("run or test", str(error)) from error
        if not key:
            _log.warning(
                "no MOBIUS_SYNTHETIC_KEY: services cannot tell this test's requests from users'"
            )

    # ------------------------------------------------------------------ Locust's events

    def attach(self, target: Any = None) -> None:
        """Register with Locust's events."""
        from locust import events as global_events

        events = getattr(target, "events", None) or target or global_events
        events.init.add_listener(self._on_init)
        events.test_start.add_listener(self._on_test_start)
        events.request.add_listener(self._on_request)
        events.test_stop.add_listener(self._on_end)
        events.quit.add_listener(self._on_end)
        if hasattr(target, "user_classes"):
            self._wrap_users(target)

    def _on_init(self, environment: Any, **_: Any) -> None:
        self._wrap_users(environment)

    def _wrap_users(self, environment: Any) -> None:
        for user_class in environment.user_classes:
            _trace_client(user_class, self._headers)

    def _on_test_start(self, environment: Any, **_: Any) -> None:
        from locust.runners import MasterRunner, WorkerRunner

        runner = getattr(environment, "runner", None)
        if isinstance(runner, MasterRunner):
            return  # its workers send the requests, and each writes a file
        self._runs += 1
        suffix = f".{os.getpid()}" if isinstance(runner, WorkerRunner) else ""
        if self._runs > 1:
            suffix += f".{self._runs}"
            self.run = f"{self._base_run}-{self._runs}"[:64]
            self._token_until = 0.0
        self.path = self._base.with_name(f"{self._base.stem}{suffix}{self._base.suffix}")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("w", encoding="utf-8", buffering=1 << 16)
        self._requests = self._failed = 0
        self._write(
            {
                "mobius_synthetic": 1,
                "kind": "run",
                "tool": "locust",
                "tool_version": _locust_version(),
                "test": self._test,
                "run": self.run,
                "started": _iso(self._now()),
            }
        )
        self._file.flush()

    def _on_request(
        self,
        *,
        request_type: Any,
        name: Any,
        response_time: float | None,
        exception: object,
        context: Mapping[str, Any] | None = None,
        response: Any = None,
        start_time: float | None = None,
        url: Any = None,
        **_: Any,
    ) -> None:
        if self._file is None:
            return
        trace_id, span_id = (context or {}).get(_IDS) or (None, None)
        status = getattr(response, "status_code", None) or None  # 0: no answer came
        start = self._now() - (response_time or 0) / 1000 if start_time is None else start_time
        answered = status is not None or (response is None and exception is None)
        self._requests += 1
        self._failed += exception is not None
        self._write(
            {
                "start": _iso(start),
                "duration_ms": response_time if answered else None,
                "method": _text(request_type),
                "name": _text(name),
                "url": _text(url),
                "status": status,
                "failed": exception is not None,
                "error": None if exception is None else _describe(exception),
                "trace_id": trace_id,
                "span_id": span_id,
            }
        )

    def _on_end(self, **_: Any) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        end = {
            "kind": "end",
            "ended": _iso(self._now()),
            "requests": self._requests,
            "failed": self._failed,
        }
        file.write(json.dumps(end) + "\n")
        file.close()

    # ------------------------------------------------------------------ lines and headers

    def _write(self, line: Mapping[str, object]) -> None:
        if self._file is None:
            return
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        now = time.monotonic()
        if now - self._flushed_at >= _FLUSH_SECONDS:
            # Whole lines reach the file about once a second, so a killed run keeps all but its end.
            self._file.flush()
            self._flushed_at = now

    def _headers(self, given: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, str]]:
        """Return the request's headers with ours, and its trace and span id."""
        headers = dict(given)
        names = {str(name).lower(): name for name in headers}
        ids = _parse_traceparent(headers.get(names.get("traceparent", ""), ""))
        if ids is None:
            ids = (secrets.token_hex(16), secrets.token_hex(8))
            headers[names.get("traceparent", "traceparent")] = f"00-{ids[0]}-{ids[1]}-01"
        if self._key:
            name = names.get("baggage", "baggage")
            before = headers.get(name)
            entry = f"{BAGGAGE_KEY}={self._marker()}"
            headers[name] = f"{_text(before)},{entry}" if before else entry
        return headers, ids

    def _marker(self) -> str:
        now = self._now()
        if now >= self._token_until:
            self._token = sign(self.run, self._test, key=self._key, expires=now + _TOKEN_SECONDS)
            self._token_until = now + _TOKEN_SECONDS / 2
        return self._token


def _trace_client(user_class: Any, headers_of: Callable[..., Any]) -> None:
    """Have each user of the class send its requests with our headers.

    Locust has no event for a new user, so the class's constructor is extended; the client's ``request``,
    through which all its methods go, then adds the headers and leaves the ids in the request's context,
    which Locust hands to the listeners of its ``request`` event.
    """
    if "_mobius_traced" in vars(user_class):
        return
    construct = user_class.__init__

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807  # it becomes the class's constructor
        construct(self, *args, **kwargs)
        client = getattr(self, "client", None)
        send = getattr(client, "request", None)
        if client is None or not callable(send) or getattr(send, "mobius_traced", False):
            return

        def request(method: Any, url: Any, *positional: Any, **options: Any) -> Any:
            headers, ids = headers_of(options.pop("headers", None) or {})
            context = {**(options.pop("context", None) or {}), _IDS: ids}
            return send(method, url, *positional, headers=headers, context=context, **options)

        request.mobius_traced = True  # type: ignore[attr-defined]  # functions take attributes
        client.request = request

    user_class.__init__ = __init__
    user_class._mobius_traced = True  # noqa: SLF001  # our own mark


def _parse_traceparent(value: Any) -> tuple[str, str] | None:
    """Ids of a header that the test set itself (W3C Trace Context), None where there is none."""
    parts = _text(value).split("-")
    if len(parts) < 4 or len(parts[1]) != 32 or len(parts[2]) != 16:
        return None
    return parts[1].lower(), parts[2].lower()


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _describe(exception: object) -> str:
    return (
        f"{type(exception).__name__}: {exception}"
        if isinstance(exception, BaseException)
        else str(exception)
    )[:500]


def _iso(seconds: float) -> str:
    return (
        datetime.fromtimestamp(seconds, UTC)
        .isoformat(timespec="microseconds")
        .replace("+00:00", "Z")
    )


def _locust_version() -> str:
    try:
        return version("locust")
    except PackageNotFoundError:
        return ""

"""Runs the store server: socket, engine, threads, and their orderly end."""

from __future__ import annotations

import errno
import os
import signal
import socket
import ssl
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
import uvicorn

from mobius_infra.store_server.app import make_app
from mobius_infra.store_server.engine import Engine
from mobius_pipeline.errors import UsageError

__all__ = ["ServerOptions", "serve"]

# Requests in flight when a signal comes may take this long to end; inserts take far less.
_GRACE_SECONDS: Final = 30
# Clients keep connections in a pool; closing them early would make their next request fail once.
_KEEP_ALIVE_SECONDS: Final = 120
# Settings travel in the URL, a protobuf schema among them.
_MAX_HEADER_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How to serve one data folder. The password is kept out of ``repr``."""

    path: Path
    port: int
    host: str = "127.0.0.1"
    password: str = ""
    threads: int = 8
    max_body_bytes: int = 512_000_000
    max_execution_seconds: int = 300
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None

    def __repr__(self) -> str:
        """Name folder and address only."""
        return f"ServerOptions(path={self.path}, host={self.host}, port={self.port})"


def serve(options: ServerOptions) -> None:
    """Serve until SIGTERM or SIGINT; then let running requests end, close the engine, and return.

    Prints ``ready http://HOST:PORT`` (``https`` with a certificate) as its only line on standard output once it
    answers.

    Raises
    ------
    UsageError
        The folder belongs to another process, the port is taken, or a certificate or key cannot be used.
    """
    _check_tls(options)
    # Times without a zone mean UTC, as on production servers.
    os.environ["TZ"] = "UTC"
    time.tzset()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    listener = _listen(options.host, options.port)
    try:
        engine = Engine(options.path)
    except UsageError:
        listener.close()
        raise
    # The engine keeps the schemas of formats below its working folder, which is nobody else's business.
    os.chdir(options.path)
    threads = ThreadPoolExecutor(options.threads, thread_name_prefix="query")
    app = make_app(
        engine,
        threads,
        password=options.password,
        max_body_bytes=options.max_body_bytes,
        max_execution_seconds=options.max_execution_seconds,
    )
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
        ssl_certfile=options.tls_cert,
        ssl_keyfile=options.tls_key,
        ssl_ca_certs=str(options.tls_client_ca) if options.tls_client_ca else None,
        ssl_cert_reqs=ssl.CERT_REQUIRED if options.tls_client_ca else ssl.CERT_NONE,
    )
    # The socket listens already: a request that comes before the server's loop runs waits for it.
    scheme = "https" if options.tls_cert else "http"
    sys.stdout.write(f"ready {scheme}://{options.host}:{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    # The server's loop, once ended, raises its signal again; the engine is still to be closed then.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        threads.shutdown(wait=True)
        engine.close()
        listener.close()


def _check_tls(options: ServerOptions) -> None:
    if options.tls_cert is None:
        if options.tls_key or options.tls_client_ca:
            raise UsageError("there is no certificate to go with it", field="--tls-cert")
        return
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.tls_cert, options.tls_key, password=lambda: b"")
        if options.tls_client_ca is not None:
            context.load_verify_locations(options.tls_client_ca)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"certificate, key or authority cannot be used ({error}); PEM files, the key without a password",
            field="--tls-cert",
        ) from error


def _listen(host: str, port: int) -> socket.socket:
    # Only a socket that says it is TCP gets TCP_NODELAY from asyncio; without it each answer waits 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        why = (
            "is taken by another process"
            if error.errno == errno.EADDRINUSE
            else f"cannot be used ({error.strerror})"
        )
        raise UsageError(f"{host}:{port} {why}: choose another port", field="--port") from error
    listener.listen(256)
    return listener

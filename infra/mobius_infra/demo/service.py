"""What both services of the shop share: options, tracing, health, the server process."""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from opentelemetry.trace import ProxyTracerProvider, TracerProvider, get_tracer_provider

from mobius_infra.demo.attributes import ATTRIBUTES
from mobius_infra.demo.remote import RemotePartyError

__all__ = ["new_app", "provider_of", "serve", "service_options"]


def service_options(description: str) -> argparse.ArgumentParser:
    """Parser with the options that every service has; ``version`` comes from MOBIUS_SERVICE_VERSION."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument(
        "--fd",
        type=int,
        help="listening socket inherited from the caller; instead of a port of our own",
    )
    parser.add_argument(
        "--region", default=os.environ.get("MOBIUS_REGION", ""), help="default: MOBIUS_REGION"
    )
    parser.set_defaults(version=os.environ.get("MOBIUS_SERVICE_VERSION", "1.5.0"))
    return parser


def new_app(
    service: str, region: str, version: str, set_up: Callable[[FastAPI, ExitStack], Any]
) -> FastAPI:
    """Application with health endpoint and error answers; ``set_up`` opens what it needs at start."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with ExitStack() as stack:
            set_up(app, stack)
            yield

    app = FastAPI(title=f"Demo shop: {service}", lifespan=lifespan)

    @app.get("/healthz")
    async def health() -> dict[str, str]:
        return {"status": "ok", "service": service, "version": version, "region": region}

    @app.exception_handler(RemotePartyError)
    async def bad_gateway(_request: Request, error: RemotePartyError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status_code=502)

    return app


def provider_of(app: FastAPI) -> TracerProvider:
    """Tracer provider that the app was instrumented with, or the process's own."""
    instrumentation = getattr(app.state, "instrumentation", None)
    provider: TracerProvider = (
        get_tracer_provider() if instrumentation is None else instrumentation.tracer_provider
    )
    return provider


def serve(app: FastAPI, service: str, options: argparse.Namespace) -> None:
    """Serve ``app`` as ``service_options`` say, until SIGTERM or SIGINT; instrument it, unless its process is already.

    With ``--fd`` it accepts from that socket, which two releases may share while one replaces the other.
    """
    # Under `opentelemetry-instrument` there is a provider, and the environment has said the rest.
    if isinstance(get_tracer_provider(), ProxyTracerProvider):
        _instrument(app, service, options)
    config = uvicorn.Config(
        app, host=options.host, port=options.port, log_level="warning", access_log=False
    )
    # uvicorn's own `fd` takes every socket for a Unix one, which leaves Nagle's delay on.
    sockets = None if options.fd is None else [socket.socket(fileno=options.fd)]
    uvicorn.Server(config).run(sockets=sockets)


def _instrument(app: FastAPI, service: str, options: argparse.Namespace) -> None:
    from mobius_instrumentation import instrument

    # Checks of its health are no use of the shop.
    os.environ.setdefault("OTEL_PYTHON_FASTAPI_EXCLUDED_URLS", "healthz")
    # Not a default: whoever starts the demo may have opted in to less, and pages show these attributes.
    os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "http,database"
    app.state.instrumentation = instrument(
        app,
        region=options.region,
        service_name=service,
        service_version=options.version,
        environment=os.environ.get("MOBIUS_ENVIRONMENT", "production"),
        attributes=ATTRIBUTES,
    )

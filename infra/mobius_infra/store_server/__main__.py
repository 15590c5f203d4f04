"""Start one store server: ``python -m mobius_infra.store_server --path DIR --port N``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from mobius_infra.store_server.server import ServerOptions, serve
from mobius_pipeline.errors import MobiusError


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments, serve until a signal comes, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m mobius_infra.store_server", description=__doc__
    )
    parser.add_argument(
        "--path", type=Path, required=True, help="data folder; made when it is not there"
    )
    parser.add_argument("--port", type=int, required=True, help="TCP port; 0 takes a free one")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s)"
    )
    parser.add_argument(
        "--password-env",
        default="MOBIUS_STORE_PASSWORD",
        metavar="NAME",
        help="environment variable with the password of user 'default'; unset or empty: none (default: %(default)s)",
    )
    parser.add_argument(
        "--threads", type=int, default=8, help="requests served at once (default: %(default)s)"
    )
    parser.add_argument(
        "--max-body-mb", type=int, default=512, help="largest request body (default: %(default)s)"
    )
    parser.add_argument(
        "--max-seconds",
        type=int,
        default=300,
        help="longest query unless it asks otherwise (default: %(default)s)",
    )
    parser.add_argument(
        "--tls-cert", type=Path, help="certificate and chain (PEM): serve https:// alone"
    )
    parser.add_argument("--tls-key", type=Path, help="its key (PEM), unless in the same file")
    parser.add_argument(
        "--tls-client-ca",
        type=Path,
        help="authorities (PEM): clients need a certificate that one of them signed",
    )
    given = parser.parse_args(arguments)
    # The server works in its data folder.
    for name in ("path", "tls_cert", "tls_key", "tls_client_ca"):
        if getattr(given, name) is not None:
            setattr(given, name, getattr(given, name).absolute())
    try:
        serve(
            ServerOptions(
                path=given.path,
                port=given.port,
                host=given.host,
                password=os.environ.get(given.password_env, ""),
                threads=given.threads,
                max_body_bytes=given.max_body_mb * 1_000_000,
                max_execution_seconds=given.max_seconds,
                tls_cert=given.tls_cert,
                tls_key=given.tls_key,
                tls_client_ca=given.tls_client_ca,
            )
        )
    except MobiusError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

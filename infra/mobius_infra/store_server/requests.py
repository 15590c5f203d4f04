"""Reads one HTTP request of ClickHouse's protocol: statement, data, settings, parameters, credentials."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from email.parser import BytesParser
from email.policy import HTTP
from typing import Final
from urllib.parse import parse_qsl

from starlette.requests import Request

from mobius_infra.store_server.compression import decompress
from mobius_infra.store_server.statements import Insert, Statement, read_statement
from mobius_infra.store_server.store_error import StoreError

__all__ = ["Work", "check_password", "read_body", "read_work"]

# Names in the URL that are no engine settings. They steer the transport; what has no meaning for an engine
# that answers in one piece and keeps no sessions is accepted and has no effect.
_TRANSPORT: Final = frozenset(
    {
        "buffer_size",
        "client_protocol_version",
        "database",
        "default_format",
        "password",
        "query",
        "query_id",
        "quota_key",
        "role",
        "session_check",
        "session_id",
        "session_timeout",
        "stacktrace",
        "user",
        "wait_end_of_query",
    }
)


@dataclass(frozen=True, slots=True)
class Work:
    """A request, understood."""

    statement: Statement | Insert
    database: str
    settings: Mapping[str, str]
    parameters: Mapping[str, str]
    default_format: str
    compressed: bool


async def read_body(request: Request, limit: int) -> bytes:
    """Read the body as it was sent.

    Raises
    ------
    StoreError
        It is larger than ``limit`` bytes (HTTP 413).
    """
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise StoreError(
                290, "LIMIT_EXCEEDED", f"The body is larger than {limit} bytes", status=413
            )
        chunks.append(chunk)
    return b"".join(chunks)


def read_work(request: Request, body: bytes, limit: int) -> Work:
    """Understand a request whose body has been read; may take CPU time, so not for the event loop.

    Raises
    ------
    StoreError
        It asks for what is not offered, or is damaged.
    """
    values = dict(parse_qsl(request.url.query, keep_blank_values=True))
    for name in ("compress", "decompress"):
        if values.pop(name, "0") not in {"0", ""}:
            raise StoreError(
                48,
                "NOT_IMPLEMENTED",
                f"{name}=1 (ClickHouse's block compression): use Content-Encoding",
            )
    content = decompress(body, request.headers.get("content-encoding", "").strip().lower(), limit)
    kind = request.headers.get("content-type", "")
    if kind.startswith("multipart/form-data"):
        values.update(_multipart(content, kind))
        content = b""
    elif kind.startswith("application/x-www-form-urlencoded") and content.startswith(b"query="):
        values.update(parse_qsl(content.decode("utf-8", "replace"), keep_blank_values=True))
        content = b""
    query = values.get("query", "").encode()
    # As in ClickHouse, the statement is the URL's query and the body, one behind the other.
    statement = read_statement(
        query.rstrip() + b"\n" + content if query and content else query or content
    )
    return Work(
        statement=statement,
        database=request.headers.get("x-clickhouse-database") or values.get("database", ""),
        settings=_settings(request.method, values),
        parameters={name[6:]: value for name, value in values.items() if name.startswith("param_")},
        default_format=request.headers.get("x-clickhouse-format")
        or values.get("default_format")
        or "TabSeparated",
        compressed=values.get("enable_http_compression", "0") in {"1", "true"},
    )


def _settings(method: str, values: Mapping[str, str]) -> dict[str, str]:
    settings = {
        name: value
        for name, value in values.items()
        if name not in _TRANSPORT and not name.startswith("param_")
    }
    # HTTP says that GET changes nothing; ClickHouse holds to it in the same way.
    if method in {"GET", "HEAD"} and settings.get("readonly", "0") == "0":
        settings["readonly"] = "2"
    return settings


def _multipart(content: bytes, kind: str) -> dict[str, str]:
    head = b"Content-Type: " + kind.encode("latin-1") + b"\r\n\r\n"
    message = BytesParser(policy=HTTP).parsebytes(head + content)
    values: dict[str, str] = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        if not isinstance(name, str) or part.get_filename() is not None:
            raise StoreError(
                48, "NOT_IMPLEMENTED", "External data tables are not offered by the embedded store"
            )
        payload = part.get_payload(decode=True)
        values[name] = payload.decode("utf-8", "replace") if isinstance(payload, bytes) else ""
    return values


def check_password(request: Request, password: str) -> None:
    """Compare the request's credentials, in constant time, with user ``default`` and ``password`` ("" asks for none).

    Raises
    ------
    StoreError
        They are missing or wrong (HTTP 403, as ClickHouse answers).
    """
    if not password:
        return
    user, given = _credentials(request)
    right = hmac.compare_digest(given.encode(), password.encode()) & hmac.compare_digest(
        user.encode(), b"default"
    )
    if not right:
        raise StoreError(
            516,
            "AUTHENTICATION_FAILED",
            f"{user or 'default'}: Authentication failed: password is incorrect, or there is no user with such name.",
        )


def _credentials(request: Request) -> tuple[str, str]:
    if "x-clickhouse-user" in request.headers or "x-clickhouse-key" in request.headers:
        return request.headers.get("x-clickhouse-user", "default"), request.headers.get(
            "x-clickhouse-key", ""
        )
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            user, _, given = base64.b64decode(token, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return "", ""
        return user, given
    return request.query_params.get("user", "default"), request.query_params.get("password", "")

"""Attributes of a request's span by the stable HTTP conventions, and its route."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.util.http import (
    OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS,
    OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST,
    OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE,
    SanitizeValue,
    get_custom_headers,
    normalise_request_header_name,
    normalise_response_header_name,
    sanitize_method,
)

from mobius_instrumentation.headers import Found

__all__ = ["HttpAttributes", "route_of"]

_FASTAPI: Final = "fastapi"  # where FastAPI keeps what it found about an included router's route


class HttpAttributes:
    """Writes the attributes of requests and answers that ``allowed`` lets out of the process."""

    def __init__(self, allowed: frozenset[str]) -> None:
        self._allowed = allowed
        self._more = not allowed.isdisjoint(
            ("url.path", "url.query", "user_agent.original", "client.address", "client.port")
        )
        self._methods: dict[str, str] = {}
        self._request_headers = get_custom_headers(
            OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST
        )
        self._response_headers = get_custom_headers(
            OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE
        )
        self._sanitize = SanitizeValue(
            get_custom_headers(OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS)
        )

    @property
    def keeps_messages(self) -> bool:
        """Whether texts of exceptions may leave the process."""
        return "exception.message" in self._allowed

    @property
    def keeps_stack_traces(self) -> bool:
        """Whether stack traces may leave the process."""
        return "exception.stacktrace" in self._allowed

    def method(self, scope: Mapping[str, Any]) -> str:
        """Return a request's method, ``_OTHER`` for an unknown one, "" where there is none."""
        written = scope.get("method", "")
        if not written:  # a WebSocket
            return ""
        known = self._methods.get(written)
        if known is None:
            known = sanitize_method(written) or ""
            if known == written:  # others are as many as clients can think of
                self._methods[written] = known
        return known

    def of_request(self, scope: Mapping[str, Any], method: str, found: Found) -> dict[str, Any]:
        """Return what is known when a request comes; ``method`` is one of the known ones or ``_OTHER``."""
        attributes: dict[str, Any] = {"url.scheme": scope.get("scheme", "http")}
        if method:
            attributes["http.request.method"] = method
        server = scope.get("server")
        if server:
            attributes["server.address"] = server[0]
            if server[1]:
                attributes["server.port"] = server[1]
        version = scope.get("http_version")
        if version:
            attributes["network.protocol.version"] = version
        if self._more:
            attributes.update(_optional(scope, found))
        if self._request_headers:
            attributes.update(self._captured(scope, self._request_headers, request=True))
        return attributes

    def of_answer(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Return the captured headers of an answer's start."""
        if not self._response_headers:
            return {}
        return self._captured(message, self._response_headers, request=False)

    def _captured(
        self, carrier: Mapping[str, Any], wanted: list[str], *, request: bool
    ) -> dict[str, Any]:
        headers: dict[str, list[str]] = {}
        for name, value in carrier.get("headers") or ():
            headers.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
        normal = normalise_request_header_name if request else normalise_response_header_name
        return dict(self._sanitize.sanitize_header_values(headers, wanted, normal))


def _optional(scope: Mapping[str, Any], found: Found) -> dict[str, Any]:
    """Return what the default allow-list removes: only looked up where a service allows some of it."""
    client = scope.get("client") or (None, None)
    query = scope.get("query_string") or b""
    values = {
        "url.path": scope.get("path"),
        "url.query": query.decode("latin-1"),
        "user_agent.original": found.get(b"user-agent", b"").decode("latin-1"),
        "client.address": client[0],
        "client.port": client[1],
    }
    return {name: value for name, value in values.items() if value}


def route_of(scope: Mapping[str, Any], root_path: str) -> str | None:
    """Return the template of the route that took the request, None where none did.

    Parameters
    ----------
    scope
        After the request: the router leaves in it what it found.
    root_path
        The scope's ``root_path`` before the request; what a router added to it is the prefix of a mount.
    """
    own = scope.get(_FASTAPI)
    route = own.get("effective_route_context") if isinstance(own, dict) else None
    path = getattr(route, "path_format", None)
    if not path:
        route = scope.get("route")
        path = getattr(route, "path_format", None) or getattr(route, "path", None)
    prefix = str(scope.get("root_path", ""))
    mounted = prefix[len(root_path) :] if prefix.startswith(root_path) else ""
    if not path:
        return mounted or None
    return path if path == mounted else f"{mounted}{path}"

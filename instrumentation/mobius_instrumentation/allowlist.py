"""Which attributes may leave the process, and what is cut out of their values. It fails closed.

A name that is not on the list is removed, whoever set it, and counted. The default list holds what the
analysis uses and no name whose values are users' data by nature: no client address, user agent, query
string, header, database statement, exception message or stack trace. ``url.path`` is absent as well,
because paths carry identifiers where routes do not; allow it only where paths are harmless.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from mobius_instrumentation.measures import MEASURES

__all__ = ["DEFAULT_ATTRIBUTES", "MAX_VALUE_CHARACTERS", "AttributePolicy"]

DEFAULT_ATTRIBUTES: Final = frozenset(
    {
        # resource
        "cloud.availability_zone",
        "cloud.provider",
        "cloud.region",
        "deployment.environment",
        "deployment.environment.name",
        "service.criticality",
        "service.instance.id",
        "service.name",
        "service.namespace",
        "service.version",
        "telemetry.sdk.language",
        "telemetry.sdk.name",
        "telemetry.sdk.version",
        # HTTP, stable names and the names before them
        "http.flavor",
        "http.method",
        "http.request.body.size",
        "http.request.method",
        "http.request.resend_count",
        "http.response.body.size",
        "http.response.status_code",
        "http.route",
        "http.scheme",
        "http.status_code",
        "network.protocol.name",
        "network.protocol.version",
        "network.transport",
        "server.address",
        "server.port",
        "url.scheme",
        "url.template",
        # synthetic traffic
        "mobius.test.run",
        "test.case.name",
        "test.suite.name",
        "user_agent.synthetic.type",
        # measures of requests and processes (docs/instrumentation.md); the names of client calls are made of kinds
        *MEASURES,
        # errors: the type says what failed; message and stack trace hold data
        "error.type",
        "exception.escaped",
        "exception.type",
        # databases and caches, without statements and keys
        "db.collection.name",
        "db.name",
        "db.namespace",
        "db.operation",
        "db.operation.batch.size",
        "db.operation.name",
        "db.query.summary",
        "db.response.returned_rows",
        "db.response.status_code",
        "db.sql.table",
        "db.system",
        "db.system.name",
        # remote calls and messages
        "messaging.batch.message_count",
        "messaging.consumer.group.name",
        "messaging.destination.name",
        "messaging.destination.partition.id",
        "messaging.operation.name",
        "messaging.operation.type",
        "messaging.system",
        "rpc.grpc.status_code",
        "rpc.method",
        "rpc.response.status_code",
        "rpc.service",
        "rpc.system",
        "rpc.system.name",
    }
)
"""Names that are kept without being asked for."""

MAX_VALUE_CHARACTERS: Final = 4096
"""Longer text is cut: one attribute must not fill the buffer."""

_WORD: Final = r"[^\s@/?&=:;,<>\"'()\[\]{}|]"
# Bounded (RFC 5321: 64 and 255 octets), so that no value can make the search take long.
_EMAIL: Final = re.compile(f"{_WORD}{{1,64}}@{_WORD}{{1,255}}")
_TOKEN: Final = re.compile(
    r"\beyJ[\w-]{4,}\.[\w.-]*"  # JSON web tokens
    r"|\b(?:bearer|basic)\s+[\w.~+/=-]+"  # credentials of an Authorization header
    r"|://[^\s/@:]{1,64}:[^\s/@]{0,255}@",  # user and password in an address
    re.IGNORECASE,
)
_ADDRESSES: Final = frozenset({"http.target", "http.url", "url.full", "url.path", "url.query"})


@dataclass(frozen=True, slots=True)
class AttributePolicy:
    """The allow-list of one service.

    Attributes
    ----------
    allowed
        Names that are kept. An event's ``exception.message`` here also keeps the description of a
        span's status, which repeats it.
    """

    allowed: frozenset[str] = DEFAULT_ATTRIBUTES

    @classmethod
    def with_extra(cls, names: Iterable[str]) -> AttributePolicy:
        """Return the default list and ``names`` besides."""
        return cls(DEFAULT_ATTRIBUTES | frozenset(names))

    @property
    def keeps_messages(self) -> bool:
        """Whether texts of exceptions may leave the process."""
        return "exception.message" in self.allowed

    def clean(self, name: str, value: str) -> str:
        """Value of the allowed attribute ``name`` without what must not leave the process.

        Query strings and fragments of addresses are dropped (``url.query`` becomes empty), e-mail
        addresses and credentials replaced, and text over :data:`MAX_VALUE_CHARACTERS` is cut.
        """
        if name in _ADDRESSES:
            value = "" if name == "url.query" else value.partition("?")[0].partition("#")[0]
        return clean_text(value)


def clean_text(text: str) -> str:
    """Return ``text`` with e-mail addresses and credentials replaced, cut at :data:`MAX_VALUE_CHARACTERS`."""
    text = text[:MAX_VALUE_CHARACTERS]
    if "?" in text and "://" in text:
        text = re.sub(r"(://[^\s?]*)\?\S*", r"\1", text)
    if _TOKEN.search(text):
        text = _TOKEN.sub(
            lambda found: "://" if found[0].startswith("://") else "[credential]", text
        )
    if "@" in text:
        text = _EMAIL.sub("[e-mail]", text)
    return text

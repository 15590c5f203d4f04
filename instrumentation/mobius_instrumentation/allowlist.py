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
from mobius_instrumentation.redaction import clean_identifier, clean_text, is_own_network
from mobius_instrumentation.subjects import SUBJECT

__all__ = ["DEFAULT_ATTRIBUTES", "LIST_APPLIED", "AttributePolicy"]

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
        # whom a request is for: a pseudonym, never an id (subjects.py)
        "enduser.pseudo.id",
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

LIST_APPLIED: Final = ("telemetry.distro.name", "mobius-instrumentation")
"""Attribute of each resource that says to a zone that the list of its service was applied."""

# A hash in hexadecimal digits, ours or another's; what else a service may call a pseudonym is cleaned as any text.
_PSEUDONYM: Final = re.compile(r"[0-9a-f]{32,128}")
_ADDRESSES: Final = frozenset({"http.target", "http.url", "url.full", "url.path", "url.query"})
# Versions like 1.2.3.4, hashes of commits, and random ids: of releases, processes and test runs, not of people.
_IDENTIFIERS: Final = frozenset(
    {
        "http.flavor",
        "mobius.test.run",
        "network.protocol.version",
        "service.instance.id",
        "service.version",
        "telemetry.sdk.version",
    }
)


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

        Query strings and fragments of addresses are dropped (``url.query`` becomes empty); the rest as
        :func:`clean_text` has it. Versions and ids keep what looks like an address or a token, and ``server.address`` an
        address of a private network; a hash as pseudonym of a person stays what it is.
        """
        if name in _ADDRESSES:
            value = "" if name == "url.query" else value.partition("?")[0].partition("#")[0]
        elif name == SUBJECT and _PSEUDONYM.fullmatch(value):
            return value
        elif name in _IDENTIFIERS:
            return clean_identifier(value)
        elif name == "server.address" and is_own_network(value):
            return value
        return clean_text(value)

"""The spans of the shop's past: drawn requests as encoded OTLP, grouped by service, release and time.

Every request has the storefront's server span. Of one trace in four the rest was kept as well, by
OpenTelemetry's consistent probability sampling: the trace ids decide, and the spans say so in their
tracestate (``ot=th:c``: the last 56 bits of the trace id are at least 0xc0..., so each stands for 4).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from mobius_infra.demo import shop
from mobius_infra.demo.history_draw import OLD_RELEASE, RELEASE, Bools, Call, Requests, TestRun
from mobius_infra.demo.latency_models import Floats, Ints
from mobius_infra.demo.span_templates import Octets, random_ids, span_template
from mobius_instrumentation.allowlist import LIST_APPLIED

Place = tuple[Floats, Floats]
"""Where a part begins and how long it takes, in ms from the request's start."""

__all__ = ["GENERATED", "SpanRows", "Traced", "encode_requests", "resource_of", "trace"]

GENERATED: Final = "mobius.demo.generated"
"""Resource attribute that labels what was generated."""

_SAMPLED_FROM: Final = 0xC0  # first of the last seven bytes of a kept trace's id
_TRACE_STATE: Final = "ot=th:c"
_NUMBERS: Final = frozenset({"shop.basket.lines"})


@dataclass(frozen=True, slots=True, eq=False)
class SpanRows:
    """Encoded spans of one service and release; ``start_ns`` is that of each span's request, in order."""

    service: str
    version: str
    start_ns: Ints
    rows: Octets


@dataclass(frozen=True, slots=True, eq=False)
class Traced:
    """Drawn requests with their ids; ``caller`` is the span id of a test's client."""

    requests: Requests
    trace: Octets
    span: Octets
    caller: Octets

    @property
    def kept(self) -> Bools:
        """Requests whose whole trace is kept."""
        kept: Bools = self.trace[:, 9] >= _SAMPLED_FROM
        return kept


def trace(requests: Requests, rng: np.random.Generator) -> Traced:
    """Give every request its ids."""
    count = requests.start_ns.size
    return Traced(
        requests, random_ids(rng, count, 16), random_ids(rng, count, 8), random_ids(rng, count, 8)
    )


def resource_of(service: str, version: str, region: str) -> dict[str, str]:
    """Resource of a generated service instance, as our package describes it."""
    return {
        **dict([LIST_APPLIED]),
        "service.name": service,
        "service.version": version,
        "service.instance.id": f"generated-{service}-{region}",
        "cloud.region": region,
        "deployment.environment.name": shop.ENVIRONMENT,
        GENERATED: "true",
    }


def encode_requests(
    traced: Traced, runs: list[TestRun], rng: np.random.Generator
) -> Iterator[SpanRows]:
    """Encode all spans of the requests, in groups that differ only in ids, times and small values."""
    requests = traced.requests
    encoder = _Encoder(traced, _run_names(requests, runs), rng)
    layout = _Layout.of(requests)
    for released, version in ((False, OLD_RELEASE), (True, RELEASE)):
        of_release = requests.released == released
        yield from encoder.outer(version, of_release, layout)
        kept = of_release & traced.kept
        if kept.any():
            yield from encoder.inner(version, kept, layout)


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """Where each part of an answer begins and how long it takes, in ms from the request's start."""

    storefront_ms: Floats
    client: Place
    catalog: Place
    sql: Place
    catalog_calls: list[Place]
    storefront_calls: list[Place]

    @classmethod
    def of(cls, requests: Requests) -> _Layout:
        """Lay the parts out as the live services do them: one after the other."""
        own, hop, work = requests.storefront_own_ms, requests.hop_ms, requests.catalog_own_ms
        client = (0.35 * own, requests.catalog_ms + hop)
        catalog_at = client[0] + 0.6 * hop
        sql = (catalog_at + 0.25 * work, 0.12 * work)
        return cls(
            storefront_ms=requests.storefront_ms,
            client=client,
            catalog=(catalog_at, requests.catalog_ms),
            sql=sql,
            catalog_calls=_in_turn(catalog_at + 0.6 * work, requests.catalog_calls),
            storefront_calls=_in_turn(client[0] + client[1] + 0.2 * own, requests.storefront_calls),
        )


def _in_turn(at: Floats, calls: list[Call]) -> list[Place]:
    places = []
    for call in calls:
        places.append((at, call.ms))
        at = at + call.ms
    return places


def _run_names(requests: Requests, runs: list[TestRun]) -> Octets | None:
    """Name of each request's run as bytes, shape (requests, length)."""
    if not requests.tests:
        return None
    names = np.array([run.run.encode() for run in runs])
    width = names.dtype.itemsize
    octets: Octets = names.view(np.uint8).reshape(len(runs), width)[requests.run]
    return octets


@dataclass(frozen=True, slots=True, eq=False)
class _Servers:
    """Server spans of one service: shape (requests, ...) throughout."""

    service: str
    method: str
    route: str
    status: Ints
    place: Place
    spans: Octets
    parents: Octets
    values: dict[str, Octets]
    sampled: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Clients:
    """Client spans of one service; ``spans`` None makes new ids."""

    service: str
    name: str
    attributes: dict[str, str]
    place: Place
    parents: Octets
    spans: Octets | None = None


class _Encoder:
    """Encodes the spans of one endpoint's requests."""

    def __init__(self, traced: Traced, run_names: Octets | None, rng: np.random.Generator) -> None:
        self._traced = traced
        self._requests = traced.requests
        self._endpoint = traced.requests.endpoint
        self._runs = run_names
        self._rng = rng

    def outer(self, version: str, chosen: Bools, layout: _Layout) -> Iterator[SpanRows]:
        """Server spans of the storefront."""
        servers = _Servers(
            shop.SERVICE_STOREFRONT,
            self._endpoint.method,
            self._endpoint.route,
            self._requests.status,
            (np.zeros(chosen.size), layout.storefront_ms),
            self._traced.span,
            self._traced.caller,
            _storefront_values(self._requests),
            sampled=False,
        )
        return self._servers(version, chosen, servers)

    def inner(self, version: str, kept: Bools, layout: _Layout) -> Iterator[SpanRows]:
        """All spans below the storefront's server span."""
        requests, endpoint = self._requests, self._endpoint
        storefront, catalog = shop.SERVICE_STOREFRONT, shop.SERVICE_CATALOG
        outer = self._traced.span
        caller, inner = (random_ids(self._rng, kept.size, 8) for _ in range(2))
        method = endpoint.catalog_method
        request = {"http.request.method": method, "server.address": catalog}
        yield self._clients(
            version, kept, _Clients(storefront, method, request, layout.client, outer, caller)
        )
        servers = _Servers(
            catalog,
            method,
            endpoint.catalog_route,
            requests.catalog_status,
            layout.catalog,
            inner,
            caller,
            _catalog_values(requests),
            sampled=True,
        )
        yield from self._servers(version, kept, servers)
        query = {"db.system.name": "sqlite", "db.operation.name": endpoint.sql}
        clients = [(~requests.hit, _Clients(catalog, endpoint.sql, query, layout.sql, inner))]
        for service, parents, calls, places in (
            (catalog, inner, requests.catalog_calls, layout.catalog_calls),
            (storefront, outer, requests.storefront_calls, layout.storefront_calls),
        ):
            for call, place in zip(calls, places, strict=True):
                peer = {"server.address": call.party.address, "peer.service": call.party.name}
                name = f"call {call.party.name}"
                clients.append((call.made, _Clients(service, name, peer, place, parents)))
        for made, group in clients:
            if (kept & made).any():
                yield self._clients(version, kept & made, group)

    def _servers(self, version: str, chosen: Bools, servers: _Servers) -> Iterator[SpanRows]:
        """One group a status, because the status shows in more than one place of a span."""
        columns = dict(servers.values)
        if self._runs is not None:
            columns["mobius.test.run"] = self._runs
        for code in np.unique(servers.status[chosen]).tolist():
            rows = np.flatnonzero(chosen & (servers.status == code))
            template = span_template(
                f"{servers.method} {servers.route}",
                Span.SPAN_KIND_SERVER,
                {
                    "http.request.method": servers.method,
                    "http.route": servers.route,
                    "url.scheme": "http",
                    "http.response.status_code": code,
                    **_synthetic(self._runs),
                    # Values of one byte look alike for integers; a flag must be one on the wire too.
                    **{name: 1 if name in _NUMBERS else False for name in servers.values},
                },
                varying=tuple(columns),
                parent=servers.sampled or self._requests.tests,
                trace_state=_TRACE_STATE if servers.sampled else "",
                failed=code >= 500,
            )
            filled = template.fill(
                rows.size,
                trace=self._traced.trace[rows],
                span=servers.spans[rows],
                parent=servers.parents[rows],
                **self._times(servers.place, rows),
                **{name: column[rows] for name, column in columns.items()},
            )
            yield SpanRows(servers.service, version, self._requests.start_ns[rows], filled)

    def _clients(self, version: str, chosen: Bools, clients: _Clients) -> SpanRows:
        rows = np.flatnonzero(chosen)
        template = span_template(
            clients.name,
            Span.SPAN_KIND_CLIENT,
            clients.attributes,
            parent=True,
            trace_state=_TRACE_STATE,
        )
        filled = template.fill(
            rows.size,
            trace=self._traced.trace[rows],
            span=random_ids(self._rng, rows.size, 8)
            if clients.spans is None
            else clients.spans[rows],
            parent=clients.parents[rows],
            **self._times(clients.place, rows),
        )
        return SpanRows(clients.service, version, self._requests.start_ns[rows], filled)

    def _times(self, place: Place, rows: Ints) -> dict[str, Octets]:
        start = self._requests.start_ns[rows] + (place[0][rows] * 1e6).astype(np.int64)
        end = start + (place[1][rows] * 1e6).astype(np.int64)
        return {
            name: value.astype("<u8").view(np.uint8).reshape(-1, 8)
            for name, value in (("start", start), ("end", end))
        }


def _synthetic(runs: Octets | None) -> dict[str, str]:
    """Attributes of a verified test's server span; the run's name is filled in afterwards."""
    if runs is None:
        return {}
    return {"user_agent.synthetic.type": "test", "mobius.test.run": "\x7f" * runs.shape[1]}


def _storefront_values(requests: Requests) -> dict[str, Octets]:
    """Attributes of one byte that the live storefront sets too."""
    match requests.endpoint.route:
        case "/checkout":
            return {"shop.basket.lines": requests.lines.astype(np.uint8)[:, None]}
        case "/recommendations":
            return {"shop.customer.returning": requests.returning.astype(np.uint8)[:, None]}
    return {}


def _catalog_values(requests: Requests) -> dict[str, Octets]:
    """Attributes of one byte that the live catalog sets too."""
    if requests.endpoint.catalog_route in {"/items/{item_id}", "/index"}:
        return {"shop.cache.hit": requests.hit.astype(np.uint8)[:, None]}
    return {}

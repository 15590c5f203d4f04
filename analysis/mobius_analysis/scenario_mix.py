"""Production's own traffic as a load profile: endpoints with their rates, and the course of the day. No user data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mobius_analysis.rollup import Window, query
from mobius_pipeline.errors import UsageError

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["Endpoint", "Mix", "load_mix", "parameters_of"]

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_LEAST_SHARE: Final = 0.0005
_PARAMETER: Final = re.compile(r"\{([A-Za-z_]\w*)(?::[^{}]*)?\}")
# What stands in a route but looks like somebody's: an id, an address, a token.
_PERSONAL: Final = re.compile(
    r"\d{4,}|^\d+$|@|%|^[0-9a-fA-F-]{16,}$|^(?=.*\d)[A-Za-z0-9_-]{20,}$|^[0-9a-fA-F]{8}-", re.ASCII
)

_RATES: Final = """
SELECT
    toString(r.method) AS method, toString(r.route) AS route,
    sum(r.weight) AS weight, sum(r.requests) AS requests,
    toUInt8(toHour(r.minute)) AS hour, uniqExact(r.minute) AS minutes
FROM latency_minute AS r
WHERE r.minute >= {since:DateTime('UTC')} AND r.minute < {until:DateTime('UTC')}
  AND r.source = 'real' AND r.vantage = 'server'
  AND r.service = {service:String} AND r.region = {region:String}
  AND ({environment:String} = '' OR r.environment = {environment:String})
GROUP BY method, route, hour
HAVING requests > 0
ORDER BY method, route, hour
"""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint: its template with ``{name}`` for parameters, and requests a second, mean over the window."""

    method: str
    route: str
    rate: float

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the route's parameters."""
        return parameters_of(self.route)


@dataclass(frozen=True, slots=True)
class Mix:
    """The traffic of one service in one region.

    ``hours`` has 24 factors of the mean rate, one an hour of the day (UTC); an hour without data has the factor
    None. ``left_out`` is the share of requests whose endpoints are too rare or no HTTP requests.
    """

    service: str
    region: str
    window: Window
    endpoints: tuple[Endpoint, ...]
    hours: tuple[float | None, ...]
    requests: int
    left_out: float

    @property
    def rate(self) -> float:
        """Requests a second of all endpoints together."""
        return sum(one.rate for one in self.endpoints)


def parameters_of(route: str) -> tuple[str, ...]:
    """Names of the parameters of a template."""
    return tuple(dict.fromkeys(_PARAMETER.findall(route)))


def load_mix(
    client: Client, window: Window, *, service: str, region: str, environment: str = ""
) -> Mix:
    """Load the mix of one service and region from the rollup.

    Raises
    ------
    UsageError
        Users did not use the service there in this time.
    DependencyError
        The store does not answer.
    TerminalError
        The store refused the query.
    """
    rows = query(
        client,
        _RATES,
        {
            "since": window.start,
            "until": window.end,
            "service": service,
            "region": region,
            "environment": environment,
        },
    )
    total = float(rows["weight"].sum()) if rows.height else 0.0
    if total <= 0:
        raise UsageError(
            f"no users' traffic of service {service!r} in {region} from {window.start:%d %b %H:%M} UTC on: "
            "take an earlier --since",
            field="--service",
        )
    seconds = (window.end - window.start).total_seconds()
    weights: dict[tuple[str, str], float] = {}
    for method, route, weight in rows.select("method", "route", "weight").iter_rows():
        key = (method.upper(), _template(route))
        weights[key] = weights.get(key, 0.0) + weight
    kept = {
        key: weight
        for key, weight in weights.items()
        if key[0] in _SAFE_METHODS and key[1].startswith("/") and weight / total >= _LEAST_SHARE
    }
    if not kept:
        raise UsageError(
            f"service {service!r} has no HTTP endpoints in {region}", field="--service"
        )
    return Mix(
        service=service,
        region=region,
        window=window,
        endpoints=tuple(
            Endpoint(method, route, weight / seconds)
            for (method, route), weight in sorted(kept.items(), key=lambda item: -item[1])
        ),
        hours=tuple(_hours(rows.select("hour", "weight").iter_rows(), window)),
        requests=int(rows["requests"].sum()),
        left_out=max(0.0, 1 - sum(kept.values()) / total),
    )


def _hours(rows: Iterator[tuple[int, float]], window: Window) -> Iterator[float | None]:
    first, end = window.minutes
    lengths = [0] * 24
    for minute in range(first, end):
        lengths[minute // 60 % 24] += 1
    weights = [0.0] * 24
    for hour, weight in rows:
        weights[hour] += weight
    mean = sum(weights) / max(sum(lengths), 1)
    for weight, length in zip(weights, lengths, strict=True):
        yield round(weight / length / mean, 3) if length and mean else None


def _template(route: str) -> str:
    """A template that holds nothing of a user: no query, no converter, and a placeholder for what looks like an id."""
    path = re.split(r"[?#]", route, maxsplit=1)[0]
    path = _PARAMETER.sub(r"{\1}", path)
    parts = [
        "{id}" if "{" not in part and _PERSONAL.search(part) else part for part in path.split("/")
    ]
    return "/".join(parts)

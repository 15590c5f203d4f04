"""Loads what the suite's score stands on: each endpoint's requests in bins of time, of users and of each test.

Everything is aggregated in ClickHouse, service by service, so what arrives grows with endpoints x bins and
not with minutes or requests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from mobius_analysis.correlate import Vantage
from mobius_analysis.rollup import ANSWERED, Only, Window, load_services, query
from mobius_analysis.verdicts import HEADLINE

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["UNNAMED", "Subject", "Track", "bin_length", "load_tracks", "pick_vantages"]

Subject = tuple[str, str, str, str]
"""Region, service, method, route."""

UNNAMED: Final = "(unnamed)"
"""The test of marked requests whose results nobody imported."""

_FINE: Final = timedelta(hours=36)
_FINE_MINUTES: Final = 5
_HOUR: Final = 60
_LEAST_ANSWERED: Final[Mapping[float, int]] = {0.5: 8, 0.95: 40}
"""Answered requests from which a bin's quantile says more about the endpoint than about chance."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Of a bin's merged histogram: the logarithm of a quantile, linear in the logarithm within its bucket.
_LEVEL: Final = """
    arrayFirstIndex(c -> c >= {q} * total, sums) AS at_{name},
    (keys[at_{name}] + ({q} * total - sums[at_{name}] + parts[at_{name}]) / parts[at_{name}]) / 32 * ln(2) AS log_{name}"""

_TRACKS: Final = """
SELECT region, service, method, route, vantage, test,
    groupArray(bin) AS minutes, groupArray(requests) AS requests, groupArray(answered) AS answered,
    groupArray(weight) AS weight, groupArray(failed) AS failed, groupArray(seconds) AS seconds,
    {arrays}
FROM (
    SELECT region, service, method, route, vantage, test, bin, requests, answered, weight, failed,
        mapKeys(histogram) AS keys, mapValues(histogram) AS parts, arrayCumSum(parts) AS sums,
        if(empty(sums), 0, sums[-1]) AS total,
        arraySum((k, w) -> w * exp2(k / 32), keys, parts) * {middle} AS seconds,
        {levels}
    FROM (
        SELECT toString(r.region) AS region, toString(r.service) AS service, toString(r.method) AS method,
            toString(r.route) AS route, toString(r.vantage) AS vantage, {test} AS test,
            toInt64(intDiv(toUnixTimestamp(r.minute), 60 * {{length:UInt32}})) * {{length:UInt32}} AS bin,
            sum(r.requests) AS requests, sum(r.weight) AS weight, sum(r.error_weight) AS failed,
            sumIf(r.requests, {answered}) AS answered,
            mapFilter((b, w) -> w > 1e-6, sumMapIf(r.buckets, {answered})) AS histogram
        FROM latency_minute AS r {join}
        WHERE r.service = {{service:String}} AND r.source = {{source:String}}
          AND r.minute >= {{since:DateTime('UTC')}} AND r.minute < {{until:DateTime('UTC')}}
          AND ({{region:String}} = '' OR r.region = {{region:String}})
          AND ({{route:String}} = '' OR r.route = {{route:String}})
          AND ({{method:String}} = '' OR r.method = {{method:String}})
          AND ({{environment:String}} = '' OR r.environment = {{environment:String}}
               OR (r.source = 'synthetic' AND r.environment = ''))
          AND (r.source != 'real' OR r.vantage = 'server')
        GROUP BY region, service, method, route, vantage, test, bin
        HAVING requests > 0
    )
    ORDER BY region, service, method, route, vantage, test, bin
)
GROUP BY region, service, method, route, vantage, test
ORDER BY region, service, method, route, vantage, test
"""
_RUNS: Final = (
    "LEFT JOIN (SELECT run, toString(any(test)) AS test FROM synthetic_runs GROUP BY run) AS runs"
    " ON toString(r.test_run) = runs.run"
)


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """One endpoint's requests over time, of users (``test`` is None) or of one test; a value a bin that had any.

    Attributes
    ----------
    minutes
        Begin of each bin, minutes since the epoch, ascending.
    requests, answered
        Measured requests, and those whose latency counts.
    weight, failed, seconds
        What the requests stand for, how much of that failed, and the time that the answered ones took together.
    logs
        Per headline quantile the natural logarithm of seconds; NaN where nothing was answered.
    """

    subject: Subject
    test: str | None
    vantage: Vantage
    minutes: Ints
    requests: Ints
    answered: Ints
    weight: Floats
    failed: Floats
    seconds: Floats
    logs: Mapping[float, Floats]

    def series(self, q: float) -> tuple[Ints, Floats]:
        """Bins with enough answered requests for quantile ``q``: their minutes and logarithms."""
        enough = (self.answered >= _LEAST_ANSWERED[q]) & np.isfinite(self.logs[q])
        return self.minutes[enough], self.logs[q][enough]


def bin_length(window: Window) -> int:
    """Minutes of a bin: 5 up to 36 hours, an hour beyond."""
    return _FINE_MINUTES if window.end - window.start <= _FINE else _HOUR


def load_tracks(client: Client, window: Window, only: Only) -> tuple[Track, ...]:
    """Load the tracks of a window: users' first, then those of tests, each sorted by subject and test.

    Raises
    ------
    DependencyError
        The store does not answer.
    TerminalError
        The store refused a query.
    """
    parameters = {"since": window.start, "until": window.end, "length": bin_length(window)}
    parameters |= asdict(only)
    services = load_services(client, window, only)
    return tuple(
        track
        for source in ("real", "synthetic")
        for service in services
        for track in _load(client, {**parameters, "service": service, "source": source})
    )


def _load(client: Client, parameters: dict[str, Any]) -> Iterator[Track]:
    real = parameters["source"] == "real"
    sql = _TRACKS.format(
        arrays=", ".join(f"groupArray(log_{_name(q)}) AS log_{_name(q)}" for q in HEADLINE),
        levels=",".join(_LEVEL.format(q=q, name=_name(q)) for q in HEADLINE),
        middle=2 * 2 ** (1 / 32) / (1 + 2 ** (1 / 32)),
        answered=ANSWERED,
        test="''" if real else "runs.test",
        join="" if real else _RUNS,
    )
    # Reads in the order of the table's key, so that few groups are open at a time.
    settings = " SETTINGS optimize_aggregation_in_order = 1"
    for row in query(client, sql + settings, parameters).iter_rows(named=True):
        yield Track(
            subject=(row["region"], row["service"], row["method"], row["route"]),
            test=None if real else row["test"] or UNNAMED,
            vantage=row["vantage"],
            minutes=np.array(row["minutes"], dtype=np.int64),
            requests=np.array(row["requests"], dtype=np.int64),
            answered=np.array(row["answered"], dtype=np.int64),
            weight=np.array(row["weight"], dtype=np.float64),
            failed=np.array(row["failed"], dtype=np.float64),
            seconds=np.array(row["seconds"], dtype=np.float64),
            logs={q: np.array(row[f"log_{_name(q)}"], dtype=np.float64) for q in HEADLINE},
        )


def _name(q: float) -> str:
    return f"p{round(q * 100)}"


def pick_vantages(tracks: tuple[Track, ...]) -> tuple[Track, ...]:
    """Keep one view of each test's endpoint: the server's where it saw as many bins as the client, else the client's."""
    best: dict[tuple[Subject, str | None], Track] = {}
    for track in tracks:
        key = track.subject, track.test
        known = best.get(key)
        if known is None or _rank(track) > _rank(known):
            best[key] = track
    return tuple(best.values())


def _rank(track: Track) -> tuple[int, bool]:
    return len(track.minutes), track.vantage == "server"

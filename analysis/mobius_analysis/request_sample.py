"""A sample of one endpoint's requests, from raw spans: what the rollup does not keep apart.

Instances, sizes, cache hits and span times stay in the zone: nothing of them is ever in the hub's export.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from mobius_analysis.histogram import bucket_of
from mobius_analysis.rollup import Only, Window, query

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["MOST_REQUESTS", "RequestSample", "load_sample", "of_endpoint", "size_class"]

MOST_REQUESTS: Final = 10_000
"""Requests a side that are read from raw spans; a hash of the trace id picks them."""

_MOST_TIME: Final = timedelta(hours=24)
_CLASSES: Final = ((1, "empty"), (1 << 10, "< 1 KiB"), (1 << 12, "1-4 KiB"), (1 << 14, "4-16 KiB"),
                   (1 << 16, "16-64 KiB"), (1 << 18, "64-256 KiB"), (1 << 20, "256 KiB-1 MiB"))  # fmt: skip

# Answered requests as the rollup counts them, at the server.
# Server spans that the results of a test name by trace id are the test's, marked or not, as in the rollup.
_SOURCE: Final = """
if(s.source = 'real' AND (s.trace_id, s.span_id) IN (
    SELECT j.trace_id, j.span_id FROM joined_spans AS j
    WHERE j.minute >= {since:DateTime('UTC')} AND j.minute < {until:DateTime('UTC')}
      AND j.service = {service:String} AND j.method = {method:String} AND j.route = {route:String}
    GROUP BY j.trace_id, j.span_id HAVING sum(j.sign) > 0
), 'synthetic', toString(s.source))
"""
_ENDPOINT: Final = """
    s.start >= {since:DateTime('UTC')} AND s.start < {until:DateTime('UTC')}
    AND s.kind IN ('Server', 'Consumer') AND s.source IN ('real', 'synthetic')
    AND s.service = {service:String} AND s.method = {method:String} AND s.route = {route:String}
    AND s.region = {region:String}
    AND ({environment:String} = '' OR s.environment = {environment:String}
         OR (s.source = 'synthetic' AND s.environment = ''))
    AND s.http_status < 500 AND (s.http_status >= 100 OR s.status_code != 'Error')
"""

_COUNT: Final = """
SELECT <source> AS side, count() AS requests FROM spans AS s
WHERE <endpoint> GROUP BY side
"""
_SAMPLE: Final = """
SELECT toUInt32(intDiv(toUnixTimestamp(s.start), 60)) AS minute, <source> AS side,
    lower(hex(s.trace_id)) AS trace_id, s.duration_ns AS duration_ns, s.weight AS weight,
    toString(s.instance) AS instance, toString(s.environment) AS environment,
    if(s.http_status >= 100, concat(toString(intDiv(s.http_status, 100)), 'xx'), 'ok') AS status_class,
    s.attributes['http.request.body.size'] AS request_size,
    s.attributes['http.response.body.size'] AS response_size
FROM spans AS s
WHERE <endpoint>
ORDER BY cityHash64(s.trace_id), s.span_id
LIMIT {most:UInt32} BY side
"""
# What the other spans of those traces say: whether caches answered, and how much rarer they were kept.
_TRACES: Final = """
SELECT lower(hex(t.trace_id)) AS trace_id, max(t.weight) AS heaviest,
    groupUniqArrayArray(mapValues(mapFilter((k, v) -> endsWith(k, 'cache.hit'), t.attributes))) AS hits
FROM spans AS t
WHERE t.start >= {since:DateTime('UTC')} AND t.start < {until:DateTime('UTC')}
  AND t.trace_id IN (
    SELECT s.trace_id FROM spans AS s WHERE <endpoint>
    ORDER BY cityHash64(s.trace_id), s.span_id LIMIT {most:UInt32} BY <source>)
GROUP BY trace_id
"""
_TRUE: Final = ("true", "1", "hit")


@dataclass(frozen=True, eq=False)
class RequestSample:
    """Sampled requests of both sides, a row each.

    Attributes
    ----------
    rows
        ``minute``, ``source`` (real, synthetic), ``trace_id``, ``duration_ns``, ``weight``, ``bucket``,
        and the dimensions ``instance``, ``environment``, ``status class``, ``request size``,
        ``response size``, ``cache``; an empty text is unknown.
    stored
        Requests in raw spans by source, of which ``rows`` are the sample.
    window
        What of the asked window was read: its last 24 hours at most.
    kept_from
        Least value of a trace id's last 56 bits for which the spans below the endpoint's were kept too;
        0 where all were.
    """

    rows: pl.DataFrame
    stored: dict[str, int]
    window: Window
    kept_from: int

    def side(self, source: str) -> pl.DataFrame:
        """The rows of one side."""
        return self.rows.filter(pl.col("source") == source)


def load_sample(
    client: Client, window: Window, subject: Only, most: int = MOST_REQUESTS
) -> RequestSample:
    """Load up to ``most`` requests a side from the raw spans of at most the last 24 hours of ``window``.

    Raises
    ------
    DependencyError
        The store does not answer.
    TerminalError
        The store refused the query.
    """
    window = Window(max(window.start, window.end - _MOST_TIME), window.end)
    parameters = {"since": window.start, "until": window.end, "most": most, **asdict(subject)}
    stored = {
        str(row[0]): int(row[1])
        for row in query(client, of_endpoint(_COUNT), parameters).iter_rows()
    }
    rows = query(client, of_endpoint(_SAMPLE), parameters).rename({"side": "source"})
    traces = query(client, of_endpoint(_TRACES), parameters)
    joined = rows.join(traces, on="trace_id", how="left", maintain_order="left")
    hits = pl.col("hits").list
    named = joined.with_columns(
        pl.Series("bucket", bucket_of(np.maximum(joined["duration_ns"].to_numpy(), 1) / 1e9)),
        pl.col("request_size")
        .map_elements(size_class, return_dtype=pl.String)
        .alias("request size"),
        pl.col("response_size")
        .map_elements(size_class, return_dtype=pl.String)
        .alias("response size"),
        pl.col("status_class").alias("status class"),
        pl.when(hits.len().fill_null(0) == 0)
        .then(pl.lit(""))
        .when(hits.eval(pl.element().is_in(_TRUE)).list.all())
        .then(pl.lit("hit"))
        .otherwise(pl.lit("miss"))
        .alias("cache"),
    )
    return RequestSample(named, stored, window, _kept_from(named))


def of_endpoint(sql: str) -> str:
    """Put in the condition for ``<endpoint>``: answered requests of one endpoint, spans named ``s``.

    And for ``<source>`` the side that they are on, real or synthetic. The parameters are ``since``, ``until`` and those of :class:`mobius_analysis.rollup.Only`.
    """
    return sql.replace("<endpoint>", _ENDPOINT).replace("<source>", _SOURCE)


def _kept_from(rows: pl.DataFrame) -> int:
    """Threshold of consistent sampling under which the rest of a trace was left out (OpenTelemetry's ``ot=th:``)."""
    rarer = rows.filter(pl.col("heaviest") > pl.col("weight") * 1.001)
    if rarer.is_empty():
        return 0
    return int((1 - 1 / float(rarer["heaviest"].median())) * 2**56)  # type: ignore[arg-type]  # numbers


def size_class(text: str) -> str:
    """Class of a body size in bytes; empty where it is unknown.

    Examples
    --------
    >>> size_class("2048"), size_class("0"), size_class("")
    ('1-4 KiB', 'empty', '')
    """
    try:
        size = int(text)
    except ValueError:
        return ""
    if size < 0:
        return ""
    return next((name for limit, name in _CLASSES if size < limit), ">= 1 MiB")

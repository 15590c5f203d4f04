"""The traffic of a large zone as rows of the rollup: who asks what how often, drawn with a fixed seed.

Endpoints are popular by Zipf's law, regions are of unequal size, every region has its day and night, and
tests run a few minutes every few hours in some of the cells.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

__all__ = ["DAY", "MINUTES", "PER_SERVICE", "Traffic", "day_of_service"]

DAY: Final = datetime(2026, 3, 2, tzinfo=UTC)
"""First day of the rollup."""
MINUTES: Final = 1440
_FULL: Final = 2000  # endpoints of the popularity table that every size takes a regular sample of
PER_SERVICE: Final = 50
"""Endpoints of a service."""
_FAILING: Final = 0.002
_TEST_EVERY: Final = 240  # minutes from the start of a run to the start of the next one
_TEST_MINUTES: Final = 5
_TEST_RATE: Final = 60.0  # requests a minute of a run, in each cell
_BUCKETS: Final = 1024  # more than there are between a microsecond and an hour


@dataclass(frozen=True, slots=True)
class Traffic:
    """How large the zone is.

    Attributes
    ----------
    endpoints, regions
        Endpoints, each used in each region.
    days
        Days that the rollup holds.
    requests_per_second
        Users' requests at full size, all endpoints and regions together, on average over a day; a zone
        of fewer endpoints has those of its endpoints, each as popular as at full size.
    exponent
        Of Zipf's law over the endpoints, and half of it over the regions.
    tested
        Share of the cells that tests exercise.
    """

    endpoints: int = _FULL
    regions: int = 10
    days: int = 7
    requests_per_second: float = 1000.0
    exponent: float = 1.0
    tested: float = 0.6
    seed: int = 1

    @property
    def services(self) -> int:
        """Services, of up to 50 endpoints each."""
        return -(-self.endpoints // PER_SERVICE)

    @property
    def region_names(self) -> tuple[str, ...]:
        """Names of the regions, the largest first."""
        return tuple(f"eu-{number:02}" for number in range(self.regions))

    def rates(self) -> NDArray[np.float64]:
        """Users' requests a minute, shape (endpoints, regions); a regular sample of the full ranking."""
        ranks = (np.arange(self.endpoints) + 0.5) * _FULL / self.endpoints + 0.5
        whole = np.sum(1 / np.arange(1, _FULL + 1) ** self.exponent)
        regions = 1 / np.arange(1, self.regions + 1) ** (self.exponent / 2)
        rates = np.outer(ranks**-self.exponent / whole, regions / regions.sum())
        rates *= self.requests_per_second * 60
        # A service has popular endpoints and others.
        mixed: NDArray[np.float64] = np.random.default_rng(self.seed).permutation(rates)
        return mixed

    def document(self) -> dict[str, Any]:
        """Return the model as a benchmark prints it."""
        return {
            "endpoints": self.endpoints,
            "regions": self.regions,
            "days": self.days,
            "production_requests_per_second": round(float(self.rates().sum()) / 60, 3),
            "zipf_exponent": self.exponent,
            "share_of_cells_tested": self.tested,
            "test_minutes_a_day": MINUTES // _TEST_EVERY * _TEST_MINUTES,
        }


def day_of_service(traffic: Traffic, service: int) -> Iterator[pl.DataFrame]:
    """Draw the first day of one service, an endpoint at a time: rows as ``insert_rollup`` takes them."""
    rates = traffic.rates()
    for endpoint in range(service * PER_SERVICE, min((service + 1) * PER_SERVICE, len(rates))):
        yield pl.concat(_endpoint(traffic, service, endpoint, rates[endpoint]))


def _endpoint(
    traffic: Traffic, service: int, endpoint: int, rates: NDArray[np.float64]
) -> Iterator[pl.DataFrame]:
    """Rows of one endpoint in all regions: answered and failed users' requests, and both views of the tests."""
    rng = np.random.default_rng((traffic.seed, endpoint))
    minutes, regions = np.arange(MINUTES), np.arange(traffic.regions)
    day = 1 + 0.6 * np.sin(2 * np.pi * (minutes / MINUTES - regions[:, None] / traffic.regions))
    load = 0.1 * rng.standard_normal((traffic.regions, MINUTES // 30)).repeat(30, axis=1)
    median, sigma = np.exp(rng.normal(np.log(0.06), 0.7)), rng.uniform(0.3, 0.8)
    centre = np.log(median) + load
    names = {
        "service": f"service-{service:03}",
        "route": f"/api/{endpoint:04}/{{id}}",
        "method": "POST" if endpoint % 4 == 0 else "GET",
        "version": "1.4.2",
        "environment": "production",
    }
    users = rng.poisson(rates[:, None] * day)
    answered, failing = names | {"status_class": "2xx"}, names | {"status_class": "5xx"}
    yield _rows(traffic, rng, users, (centre, sigma), answered | {"source": "real"})
    failed = rng.binomial(users, _FAILING)
    yield _rows(traffic, rng, failed, (centre, sigma), failing | {"source": "real"})
    running = (minutes - 7 * endpoint) % _TEST_EVERY < _TEST_MINUTES
    tested = rng.random(traffic.regions) < traffic.tested
    tests = rng.poisson(_TEST_RATE, (traffic.regions, MINUTES)) * running * tested[:, None]
    # Some tests tell the truth and some do not.
    lie = rng.choice([0.0, 0.0, -0.25, 0.2])
    for vantage, network in (("server", 0.0), ("client", 0.1)):
        run = {"source": "synthetic", "vantage": vantage, "test_run": "nightly"}
        yield _rows(traffic, rng, tests, (centre + lie + network, sigma), answered | run)


def _rows(
    traffic: Traffic,
    rng: np.random.Generator,
    counts: NDArray[np.int64],
    latency: tuple[NDArray[np.float64], float],
    names: dict[str, str],
) -> pl.DataFrame:
    """Draw the requests of each region and minute, shape (regions, minutes), and count them by bucket.

    ``latency`` holds the mean log seconds, of the same shape, and the deviation.
    """
    centre, sigma = latency
    where = np.repeat(np.arange(counts.size), counts.ravel())
    logs = centre.ravel()[where] + sigma * rng.standard_normal(len(where))
    bucket = np.ceil(logs / np.log(2) * 32).astype(np.int64) - 1
    keys, weights = np.unique(where * _BUCKETS + bucket + _BUCKETS // 2, return_counts=True)
    cells, begin = np.unique(keys // _BUCKETS, return_index=True)
    offsets = np.append(begin, len(keys)).astype(np.int32)
    requests = counts.ravel()[cells]
    failed = int(names["status_class"] == "5xx")

    def lists(values: NDArray[Any]) -> pl.Series:
        made = pl.from_arrow(pa.ListArray.from_arrays(pa.array(offsets), pa.array(values)))
        if not isinstance(made, pl.Series):
            raise TypeError("an Arrow array is a series")
        return made

    region = pl.Series(traffic.region_names)
    frame = pl.DataFrame(
        {
            "minute": int(DAY.timestamp()) // 60 + cells % MINUTES,
            "requests": requests,
            "buckets": lists(keys % _BUCKETS - _BUCKETS // 2),
            "weights": lists(weights.astype(np.float64)),
            "region": region.gather(cells // MINUTES),
        }
    )
    constants = {"vantage": "server", "test_run": "", **names}
    return frame.with_columns(
        *(pl.lit(value).alias(name) for name, value in constants.items()),
        errors=pl.col("requests") * failed,
        weight=pl.col("requests").cast(pl.Float64),
        weight_squared=pl.col("requests").cast(pl.Float64),
        error_weight=pl.col("requests").cast(pl.Float64) * failed,
    )

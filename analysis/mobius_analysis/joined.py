"""Where the time of joined requests goes: network, queue, service, what the service calls. Pure, frame to splits.

Intervals are 95 %. Shares and means are ratios of sums, with their linearisation residuals summed by minute; quantiles
invert the weighted ECDF at Woodruff's levels. Minutes are the clusters (long-run variance by equal-weighted cosines, see
:mod:`mobius_analysis.clusters`) from 20 minutes on; between 4 and 20 the wider of that and independent requests counts;
below, requests are taken as independent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import stdtrit

from mobius_analysis.clusters import margin_of_sum
from mobius_analysis.intervals import CONFIDENCE, Bounds, order_statistic_levels
from mobius_analysis.rollup import CELL

__all__ = ["JOINED_SCHEMA", "PARTS", "Part", "Split", "network_note", "split", "split_document"]

PARTS: Final = ("network", "queue", "self", "downstream")
"""What a request's time is made of. Without a measured queue, waiting before the server's span is in the network's part."""

JOINED_SCHEMA: Final[Mapping[str, pl.DataType]] = {
    "minute": pl.Int64(),
    "region": pl.String(),
    "service": pl.String(),
    "method": pl.String(),
    "route": pl.String(),
    "status": pl.Int64(),
    "entries": pl.Int64(),
    "weight": pl.Float64(),
    "client_ms": pl.Float64(),
    "network_ms": pl.Float64(),
    "queue_ms": pl.Float64(),
    "self_ms": pl.Float64(),
    "downstream_ms": pl.Float64(),
}
"""Columns of a frame of joined requests: the fields of ``JoinedRequest``."""

_LEVELS: Final = (0.5, 0.95)
_FEW_MINUTES: Final = 20
_LEAST_MINUTES: Final = 4
# Of fewer requests a mean's distribution is too far from normal for an interval.
_LEAST_REQUESTS: Final = 30


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the time of one endpoint's requests; milliseconds, ``share`` of the client's time."""

    mean: Bounds
    quantiles: Mapping[float, Bounds]
    share: Bounds | None

    def document(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "mean_ms": self.mean.document(),
            **{f"p{level * 100:.0f}_ms": b.document() for level, b in self.quantiles.items()},
            "share": None if self.share is None else self.share.document(),
        }


@dataclass(frozen=True, slots=True)
class Split:
    """The time of one endpoint's joined requests, by part; ``subject`` is None for all endpoints together.

    Attributes
    ----------
    joined, answered
        Joined requests; those of them that were answered, whose time is split.
    minutes
        Minutes that these lie in.
    client
        The client's whole time; None where nothing was answered.
    parts
        By name of ``PARTS``; a part that nobody measured is left out.
    outlasted
        Answered requests whose server spans lasted longer than the client's time (work after the answer): their
        network part is negative.
    """

    subject: tuple[str, str, str, str] | None
    joined: int
    answered: int
    minutes: int
    client: Part | None
    parts: Mapping[str, Part]
    outlasted: int


def split(frame: pl.DataFrame) -> tuple[Split, ...]:
    """Split the time of joined requests per endpoint and region.

    Parameters
    ----------
    frame
        One row a joined request, columns of ``JOINED_SCHEMA``.

    Returns
    -------
    tuple of Split
        All endpoints together first, then each, sorted by service, route, method and region; empty for no rows.
    """
    if frame.is_empty():
        return ()
    groups = frame.sort("service", "route", "method", "region").partition_by(
        CELL, as_dict=True, maintain_order=True
    )
    found = (
        _split((str(r), str(s), str(m), str(o)), rows) for (r, s, m, o), rows in groups.items()
    )
    return (_split(None, frame), *found)


def _split(subject: tuple[str, str, str, str] | None, rows: pl.DataFrame) -> Split:
    answered = rows.filter(pl.col("client_ms").is_not_null()).sort("minute")
    client = _part(answered, "client_ms")
    parts = {name: _part(answered, f"{name}_ms") for name in PARTS}
    return Split(
        subject=subject,
        joined=rows.height,
        answered=answered.height,
        minutes=answered["minute"].n_unique(),
        client=client,
        parts={name: part for name, part in parts.items() if part is not None},
        outlasted=answered.filter(pl.col("network_ms") < 0).height,
    )


def _part(answered: pl.DataFrame, column: str) -> Part | None:
    rows = answered.filter(pl.col(column).is_not_null())
    if rows.is_empty():
        return None
    minutes = rows["minute"].to_numpy()
    weights = rows["weight"].to_numpy()
    values = rows[column].to_numpy()
    client = rows["client_ms"].to_numpy()
    return Part(
        mean=_ratio(minutes, weights, values, np.ones(len(values))) or Bounds(float(values[0])),
        quantiles={level: _quantile(minutes, weights, values, level) for level in _LEVELS},
        share=_ratio(minutes, weights, values, client),
    )


def _ratio(
    minutes: NDArray[np.int64],
    weights: NDArray[np.float64],
    values: NDArray[np.float64],
    bases: NDArray[np.float64],
) -> Bounds | None:
    """Ratio of the weighted sums of ``values`` and ``bases``; None where the bases sum to 0."""
    base = float(weights @ bases)
    if base <= 0:
        return None
    share = float(weights @ values) / base
    if len(values) < _LEAST_REQUESTS:
        return Bounds(share)
    margin = _margin(minutes, weights * (values - share * bases)) / base
    return Bounds(share, share - margin, share + margin)


def _quantile(
    minutes: NDArray[np.int64], weights: NDArray[np.float64], values: NDArray[np.float64], q: float
) -> Bounds:
    order = np.argsort(values, kind="stable")
    values, weights, minutes = values[order], weights[order], minutes[order]
    levels = np.cumsum(weights) / weights.sum()
    value = float(np.quantile(values, q)) if np.all(weights == 1) else _at(values, levels, q)
    effective = int(weights.sum() ** 2 / np.square(weights).sum())
    exact = order_statistic_levels(effective, q, CONFIDENCE)
    if exact is None:
        return Bounds(value)
    low, high = exact
    T = len(np.unique(minutes))
    if T >= _LEAST_MINUTES:
        margin = _margin(minutes, weights * ((values <= value) - q)) / weights.sum()
        wide = q - margin, q + margin
        few = T < _FEW_MINUTES
        low, high = (min(low, wide[0]), max(high, wide[1])) if few else wide
    if low <= 0 or high > 1:
        return Bounds(value)
    return Bounds(
        value, min(value, _at(values, levels, low)), max(value, _at(values, levels, high))
    )


def _at(values: NDArray[np.float64], levels: NDArray[np.float64], level: float) -> float:
    """Least value at which the weighted ECDF reaches ``level``."""
    index = int(np.searchsorted(levels, level - 1e-9))
    return float(values[min(index, len(values) - 1)])


def _margin(minutes: NDArray[np.int64], residuals: NDArray[np.float64]) -> float:
    """Half the 95 % interval of the sum of ``residuals``, which sum to 0 or nearly."""
    n = len(residuals)
    independent = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * float(
        np.sqrt(np.square(residuals - residuals.mean()).sum() * n / (n - 1))
    )
    _, index = np.unique(minutes, return_inverse=True)
    sums: NDArray[np.float64] = np.bincount(index, weights=residuals).astype(np.float64)
    T = len(sums)
    if T < _LEAST_MINUTES:
        return independent
    clustered = margin_of_sum(sums, CONFIDENCE)
    return max(independent, clustered) if T < _FEW_MINUTES else clustered


def split_document(splits: Sequence[Split]) -> dict[str, Any]:
    """Return the JSON form: ``overall`` (null without joined requests) and ``endpoints``; milliseconds."""
    documents = [_document(one) for one in splits]
    return {
        "overall": next(
            (d for d, one in zip(documents, splits, strict=True) if one.subject is None), None
        ),
        "endpoints": [
            d for d, one in zip(documents, splits, strict=True) if one.subject is not None
        ],
    }


def _document(one: Split) -> dict[str, Any]:
    names = ("region", "service", "method", "route")
    return {
        **(dict(zip(names, one.subject, strict=True)) if one.subject else {}),
        "joined": one.joined,
        "answered": one.answered,
        "minutes": one.minutes,
        "outlasted": one.outlasted,
        "client": None if one.client is None else one.client.document(),
        **{name: one.parts[name].document() if name in one.parts else None for name in PARTS},
    }


def network_note(share: Bounds | None) -> str:
    """Say what part of the client's time the network has, to follow a word on the vantage; nothing where unknown."""
    if share is None:
        return ""
    text = f" ({share.value:.0%} of it by requests joined by trace"
    if share.low is not None and share.high is not None:
        text += f", {share.low:.0%} to {share.high:.0%}"
    return text + ")"

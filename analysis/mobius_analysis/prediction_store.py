"""Predictions kept in the zone, and how those of earlier gates fared once production was known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from mobius_analysis.correlate import Vantage
from mobius_analysis.gate import GateCell
from mobius_analysis.pair_history import TestRun
from mobius_analysis.pairs import Pair
from mobius_analysis.rollup import query

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["save_predictions", "score_stored"]

_COLUMNS: Final = (
    "predicted_at", "run", "test", "release", "region", "service", "method", "route", "vantage",
    "quantile", "value_ms", "low_ms", "high_ms", "budget_ms", "verdict", "pairs", "unseen",
)  # fmt: skip

# Of a run that was judged repeatedly the first prediction counts.
_STORED: Final = """
SELECT p.run AS run, toString(p.vantage) AS vantage, p.quantile AS quantile,
    toString(p.region) AS region, toString(p.service) AS service,
    toString(p.method) AS method, toString(p.route) AS route,
    argMin(p.low_ms, p.predicted_at) AS low_ms, argMin(p.high_ms, p.predicted_at) AS high_ms
FROM predictions AS p
WHERE p.test = {test:String} AND p.unseen AND p.low_ms IS NOT NULL AND p.high_ms IS NOT NULL
GROUP BY run, vantage, quantile, region, service, method, route
"""


def save_predictions(
    client: Client, cells: Iterable[GateCell], runs: Sequence[TestRun], now: datetime
) -> int:
    """Save the predictions made of ``runs`` (the newest of which names them); returns how many."""
    newest = runs[-1]
    rows = [
        (
            now,
            newest.run,
            newest.test,
            newest.release,
            *cell.subject,
            cell.vantage,
            cell.q,
            cell.prediction.bounds.value * 1e3,
            _ms(cell.prediction.bounds.low),
            _ms(cell.prediction.bounds.high),
            _ms(cell.budget.seconds),
            cell.decision.verdict,
            cell.pairs,
            cell.actual is None,
        )
        for cell in cells
        if cell.prediction is not None
    ]
    if rows:
        client.insert("predictions", rows, column_names=_COLUMNS)
    return len(rows)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3


def score_stored(
    client: Client, test: str, pairs: Mapping[Vantage, Sequence[Pair]]
) -> dict[float, tuple[int, int]]:
    """Count, by quantile, the stored predictions whose interval held what production then showed, and all scored.

    Only predictions that were made before production met the release count.
    """
    actual = {
        (vantage, pair.run, pair.subject): pair.production.quantiles
        for vantage, many in pairs.items()
        for pair in many
    }
    scores: dict[float, tuple[int, int]] = {}
    for row in query(client, _STORED, {"test": test}).iter_rows(named=True):
        subject = (row["region"], row["service"], row["method"], row["route"])
        shown = actual.get((row["vantage"], row["run"], subject), {}).get(row["quantile"])
        if shown is not None:
            hit = row["low_ms"] <= shown.value * 1e3 <= row["high_ms"]
            inside, total = scores.get(row["quantile"], (0, 0))
            scores[row["quantile"]] = inside + hit, total + 1
    return scores

"""What the search for patterns finds in the DeLag data, against the labels that it does not see."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mobius_analysis.patterns import find_patterns, slower_than
from mobius_pipeline.errors import UsageError

__all__ = ["run_delag"]

_NAME: Final = "trainticket_6scenarios.parquet"


def run_delag(path: Path | None = None) -> list[dict[str, Any]]:
    """Return one document a scenario: patterns, and their precision and recall.

    Steps
    -----
    1. The even requests without an anomaly are the test, which does not have the anomalies.
    2. Every other of the odd ones, as they come, is production: patterns are found there.
    3. The rest says how good they are: of all requests that match any pattern how many carry a label
       (precision), of all labelled ones how many match (recall), and per label that of its best pattern.

    Raises
    ------
    UsageError
        The data set is not there.
    """
    path = path or _folder() / _NAME
    try:
        frame = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UsageError(f"cannot read the requests ({error})", file=str(path)) from error
    return [
        {"scenario": int(scenario), **_scenario(rows)}
        for (scenario,), rows in frame.partition_by(
            "scenario", as_dict=True, maintain_order=True
        ).items()
    ]


def _folder() -> Path:
    """In the wheel, or in the repository."""
    package = Path(__file__).resolve().parent
    packed = package / "delag"
    return packed if packed.is_dir() else package.parents[2] / "tests/data/delag"


def _scenario(rows: pl.DataFrame) -> dict[str, Any]:
    test = rows.filter((pl.col("seq") % 2 == 0) & (pl.col("anomaly") == 0))  # 1
    production = rows.filter(pl.col("seq") % 4 == 1)  # 2
    kept = rows.filter(pl.col("seq") % 4 == 3)  # 3
    slow = slower_than(production["Latency"].to_numpy(), test["Latency"].to_numpy())
    both = pl.concat([production, test])
    patterns = find_patterns(
        _components(both), np.concatenate([slow, np.zeros(test.height, np.bool_)])
    )
    labels = kept["anomaly"].to_numpy()
    matched = [pattern.matches(_components(kept)) for pattern in patterns]
    union = np.any(matched, axis=0) if matched else np.zeros(len(labels), np.bool_)
    return {
        "production_requests": production.height,
        "test_requests": test.height,
        "slow_requests": int(slow.sum()),
        "judged_requests": kept.height,
        **_judged(union, labels > 0),
        "labels": {
            str(label): max(
                (_judged(found, labels == label) for found in matched),
                key=lambda one: one["f1"] or 0.0,
                default=_judged(union, labels == label),
            )
            for label in (1, 2)
        },
        "patterns": [pattern.document() for pattern in patterns],
    }


def _components(rows: pl.DataFrame) -> dict[str, NDArray[np.float64]]:
    return {
        name: rows[name].to_numpy().astype(np.float64)
        for name in rows.columns
        if name.startswith("ts-")
    }


def _judged(found: NDArray[np.bool_], true: NDArray[np.bool_]) -> dict[str, float | None]:
    hits = int((found & true).sum())
    precision = hits / int(found.sum()) if found.any() else None
    recall = hits / int(true.sum()) if true.any() else None
    f1 = 2 * hits / int(found.sum() + true.sum()) if (found | true).any() else None
    return {
        name: None if value is None else round(value, 4)
        for name, value in (("precision", precision), ("recall", recall), ("f1", f1))
    }

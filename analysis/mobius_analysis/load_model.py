"""How the tests of an endpoint sent their requests, and how much of the tail a closed loop may have hidden."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from mobius_analysis.rollup import Only, Window, query

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["load_runs", "loads_document"]

_MOST_RUNS: Final = 200
_RUNS: Final = """
SELECT r.run AS run, toString(r.test) AS test, toString(r.tool) AS tool, toString(r.service) AS service,
    toUnixTimestamp64Milli(r.start) AS start, toUnixTimestamp64Milli(r.end) AS end,
    toString(r.load_model) AS model, r.summary AS summary
FROM synthetic_runs AS r FINAL
WHERE r.start < {until:DateTime('UTC')} AND r.end >= {since:DateTime('UTC')}
  AND ({region:String} = '' OR r.region = {region:String})
  AND ({environment:String} = '' OR r.environment IN ({environment:String}, ''))
ORDER BY r.start DESC, r.run
LIMIT {most:UInt16}
"""


def load_runs(client: Client, window: Window, subject: Only) -> list[dict[str, Any]]:
    """Load the imported runs of ``window`` that exercised the endpoint, the last first, at most 200.

    Raises
    ------
    DependencyError
        The store does not answer.
    TerminalError
        The store refused the query.
    """
    rows = query(
        client,
        _RUNS,
        {
            "since": window.start,
            "until": window.end,
            "region": subject.region,
            "environment": subject.environment,
            "most": _MOST_RUNS,
        },
    )
    runs = ({**row, "summary": json.loads(row["summary"])} for row in rows.iter_rows(named=True))
    return [run for run in runs if _exercises(run, subject)]


def _exercises(run: dict[str, Any], subject: Only) -> bool:
    return any(
        endpoint.get("route") == subject.route
        and (endpoint.get("method") or "") == subject.method
        and (endpoint.get("service") or run["service"]) in ("", subject.service)
        for endpoint in run["summary"].get("endpoints", [])
    )


def loads_document(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Say how many runs were open and closed loops, and the greatest correction of a closed one's tail.

    ``understated`` holds p95 and p99 with HdrHistogram's correction over those without, of the whole run
    (all its endpoints), where that is known; None where no closed run has it.
    """
    models = [run["model"] for run in runs]
    factors = [found for run in runs if (found := _understated(run)) is not None]
    worst = (
        {name: max(factor[name] for factor in factors) for name in ("p95", "p99")}
        if factors
        else None
    )
    return {
        "runs": len(runs),
        **{
            f"{name}_runs": models.count(name)
            for name in ("open", "closed", "corrected", "unknown")
        },
        "understated": worst,
        "text": _text(models, worst),
    }


def _understated(run: dict[str, Any]) -> dict[str, float] | None:
    omission = (run["summary"].get("load") or {}).get("omission")
    if not omission or not omission["p95_ms"] or not omission["p99_ms"]:
        return None
    return {
        name: round(omission[f"corrected_{name}_ms"] / omission[f"{name}_ms"], 4)
        for name in ("p95", "p99")
    }


def _text(models: Sequence[str], worst: dict[str, float] | None) -> str | None:
    if not models:
        return None
    closed, total = models.count("closed"), len(models)
    if not closed:
        unknown = models.count("unknown")
        return (
            f"{unknown} of {total} runs do not say whether they waited for answers: their tail may be understated."
            if unknown
            else "All runs sent their requests by the clock, or were corrected by their tool."
        )
    known = (
        "by how much is not known"
        if worst is None
        else f"p95 by up to x{worst['p95']:.2f}, p99 by up to x{worst['p99']:.2f} by HdrHistogram's correction"
    )
    return f"{closed} of {total} runs waited for each answer, which hides queueing: their tail may be understated, {known}."

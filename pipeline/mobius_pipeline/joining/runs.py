"""Which runs of tests there are to join, and which must not be."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["TestRun", "find_run", "is_refused", "pending_runs", "refuse", "runs_between"]

# Spans more than two days old are not expected any more; `join --run` still finds them.
_PENDING_HOURS: Final = 48

_RUNS: Final = """
SELECT run, any(test), min(r.start), max(r.end), sum(r.requests), max(r.run IN (
    SELECT run FROM join_refusals FINAL WHERE refused))
FROM synthetic_runs AS r FINAL
WHERE {where}
GROUP BY run
ORDER BY min(r.start), run
"""


@dataclass(frozen=True, slots=True)
class TestRun:
    """A run of a test: its name, when it was, how many requests it made, and whether it must not be joined."""

    run: str
    test: str
    start: datetime
    end: datetime
    requests: int
    refused: bool


def find_run(client: Client, run: str) -> TestRun | None:
    """Return the run of that name; None where none was imported to its end."""
    found = _runs(client, "run = {run:String}", {"run": run})
    return found[0] if found else None


def runs_between(client: Client, since: datetime, until: datetime) -> list[TestRun]:
    """Return the runs that lie at least partly between two moments, the earliest first."""
    where = "r.end >= {since:DateTime64(6, 'UTC')} AND r.start < {until:DateTime64(6, 'UTC')}"
    return _runs(client, where, {"since": since, "until": until})


def pending_runs(client: Client) -> list[TestRun]:
    """Return the runs whose spans may still arrive: those that ended, or were imported, within two days."""
    where = f"greatest(r.end, r.imported_at) >= now64(3) - INTERVAL {_PENDING_HOURS} HOUR"
    return [run for run in _runs(client, where, {}) if not run.refused]


def is_refused(client: Client, run: str) -> bool:
    """Whether somebody said that this run's spans must stay where they are."""
    return bool(
        client.query(
            "SELECT 1 FROM join_refusals FINAL WHERE run = {run:String} AND refused",
            parameters={"run": run},
        ).result_rows
    )


def refuse(client: Client, run: str, *, refused: bool = True) -> None:
    """Say that a run's spans must stay where they are, or (``refused`` False) that they need not any more."""
    client.insert("join_refusals", [[run, refused]], ["run", "refused"])


def _runs(client: Client, where: str, parameters: dict[str, object]) -> list[TestRun]:
    rows = client.query(_RUNS.format(where=where), parameters=parameters).result_rows
    return [
        TestRun(str(run), str(test), start, end, int(requests), bool(refused))
        for run, test, start, end, requests, refused in rows
    ]

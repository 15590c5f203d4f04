"""Cells of too few people: who sees aggregates alone is not shown them.

People are counted as for the export to the hub: distinct pseudonyms in hours that know any, requests in the others. Where a
window has hours of both kinds, the larger of the two counts. A window has at most as many people as the hours that it
touches, and never more than requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from mobius_analysis.cells import CorrelationResult
from mobius_analysis.correlate import Cell

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["CellKey", "Shown", "hide_small", "is_small", "load_people"]

CellKey = tuple[str, str, str, str]

_SUBJECT: Final = "toString(region), toString(service), toString(method), toString(route)"
_HOURS: Final = """hour >= toStartOfHour({since:DateTime('UTC')}) AND hour < {until:DateTime('UTC')}
  AND source = 'real' AND vantage = 'server' AND ({environment:String} = '' OR environment = {environment:String})"""
_PEOPLE: Final = f"""
SELECT {_SUBJECT}, max(people) FROM (
    SELECT region, service, method, route, uniqMerge(subjects) AS people
    FROM latency_subjects
    WHERE {_HOURS}
    GROUP BY region, service, method, route
    UNION ALL
    SELECT region, service, method, route, toUInt64(sum(requests)) AS people
    FROM (SELECT *, toStartOfHour(minute) AS hour FROM latency_minute)
    WHERE {_HOURS} AND minute >= {{since:DateTime('UTC')}} AND minute < {{until:DateTime('UTC')}}
      AND (region, service, method, route, hour) NOT IN (
        SELECT region, service, method, route, hour FROM latency_subjects WHERE {_HOURS})
    GROUP BY region, service, method, route
)
GROUP BY region, service, method, route
"""  # noqa: S608 - texts of this file


@dataclass(frozen=True, slots=True)
class Shown:
    """What of one zone a viewer is shown, and how many of its cells have too few people for them."""

    result: CorrelationResult
    hidden: int = 0

    @property
    def subjects(self) -> frozenset[CellKey]:
        """Region, service, method and route of all that is shown."""
        return frozenset(cell.subject for cell in self.result.cells)


def load_people(client: Client, result: CorrelationResult, environment: str) -> dict[CellKey, int]:
    """Count the people of each subject in a result's window; ``environment`` "" is all of them."""
    edges = {"since": result.window.start, "until": result.window.end, "environment": environment}
    return {
        (region, service, method, route): int(people)
        for region, service, method, route, people in client.query(
            _PEOPLE, parameters=edges
        ).result_rows
    }


def is_small(people: int, least: int) -> bool:
    """Whether there are people, and fewer than ``least``."""
    return 0 < people < least


def hide_small(result: CorrelationResult, people: Mapping[CellKey, int], least: int) -> Shown:
    """Leave out what fewer than ``least`` people, and more than none, are behind; the coverage goes without it too."""
    small = {
        cell.subject
        for cell in (*result.cells, *result.unmatched)
        if is_small(_count(cell, people), least)
    }
    kept, whole = (
        tuple(cell for cell in cells if cell.subject not in small)
        for cells in (result.cells, result.unmatched)
    )
    return Shown(replace(result, cells=kept, unmatched=whole), len(small))


def _count(cell: Cell, people: Mapping[CellKey, int]) -> int:
    requests = cell.production.requests
    return min(people.get(cell.subject, requests), requests)

"""Sample files of test tools, read as an import reads them, and what is true of them by another way of reading."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mobius_pipeline.errors import UsageError
from mobius_pipeline.imports.content import open_sources
from mobius_pipeline.imports.formats.given import Given
from mobius_pipeline.imports.formats.model import Request
from mobius_pipeline.imports.synthetic_read import Read, read_again, read_run
from mobius_pipeline.imports.synthetic_result import iso_us
from mobius_pipeline.imports.tally import Tally

DATA = Path(__file__).parents[1] / "data" / "synthetic"


@dataclass(frozen=True, slots=True)
class Result:
    """What an import has read of a run, and its requests as they would be stored."""

    read: Read
    requests: list[Request]

    @property
    def tally(self) -> Tally:
        return self.read.tally

    @property
    def warnings(self) -> str:
        return "\n".join(self.read.facts.warnings)

    def counts(self) -> dict[tuple[str, str], tuple[int, int]]:
        return self.read.names()

    def statuses(self) -> Counter[str]:
        return Counter(str(r.status) for r in self.requests)

    def span(self) -> tuple[str, str]:
        """First start and last end."""
        begin = min(r.start_us for r in self.requests)
        return iso_us(begin), iso_us(max(r.end_us for r in self.requests))


def read_files(*paths: Path | str, wanted: str | None = None, **given: Any) -> Result:
    """Read a run as its import does, and once more for what would be stored."""
    with open_sources(paths) as sources:
        read = read_run(sources, wanted, Given(**given))
        return Result(read, [] if read.reader is None else list(read_again(read)))


def refused(*paths: Path | str, wanted: str | None = None, **given: Any) -> UsageError:
    """Return the error with which a run is refused."""
    with pytest.raises(UsageError) as caught:
        read_files(*paths, wanted=wanted, **given)
    return caught.value


def expected(tool: str, folder: str, name: str) -> dict[str, Any]:
    runs = json.loads((DATA / tool / "expected.json").read_text())["runs"]
    (run,) = [run for run in runs if run["folder"] == folder]
    found: dict[str, Any] = run["files"][name]
    return found


def epoch_us(text: str) -> int:
    """Microseconds since 1970 of a time of expected.json."""
    moment = datetime.fromisoformat(text)
    return round((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1e6)


def type_7(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def check_percentiles(
    result: Result, answered: Mapping[tuple[str, str], Iterable[float]], rel: float = 1e-6
) -> None:
    """Percentiles by name are those of ``answered`` (ms), which was read in another way."""
    assert answered.keys() == result.tally.lines.keys()
    for key, found in answered.items():
        values = list(found)
        shares = (0.5, 0.95, 0.99)
        wanted = [type_7(values, share) for share in shares] if values else [None] * 3
        figures = result.tally.lines[key].latencies.quantiles(shares)
        assert figures == (pytest.approx(wanted, rel=rel) if values else wanted), key

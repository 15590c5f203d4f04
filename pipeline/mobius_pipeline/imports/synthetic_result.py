"""What an import of a test's results answers, as the object and as the JSON document."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from mobius_pipeline.imports.formats.model import LoadModel, Percentiles
from mobius_pipeline.imports.omission import Omission
from mobius_pipeline.imports.routes import Reason

__all__ = ["EndpointResult", "Load", "SyntheticImport", "Unmatched", "iso_us"]


@dataclass(frozen=True, slots=True)
class EndpointResult:
    """One endpoint of a run. ``name`` is the tool's name, None when several names are this endpoint.

    ``requests`` is None where a tool gives percentiles without their count. ``levels_ms`` holds every percentile
    that a tool reports, by share, where it reports nothing else; what it does not report is None.
    """

    method: str
    route: str
    name: str | None
    service: str | None
    requests: int | None
    failed: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    levels_ms: dict[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Unmatched:
    """A name that no production template fits; its requests are imported under ``route``.

    ``fix`` is the command that gives it an endpoint: the closest one, where one is close.
    """

    method: str
    name: str
    route: str
    requests: int
    reason: Reason
    closest: str | None
    fix: str | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """How the run sent its requests, by what evidence, and what a closed loop hid of the tail where that is known."""

    model: LoadModel
    evidence: str
    omission: Omission | None


@dataclass(frozen=True, slots=True)
class SyntheticImport:
    """A run as it was imported (or was before, see ``already_imported``). Times are microseconds since 1970.

    ``percentiles`` says whose latency the percentiles are: of answered requests (any HTTP status), of
    all requests, or the tool's own figures. ``statuses`` and ``errors`` count requests by HTTP status ("0" is no
    answer) and by what the tool said of a failure.
    """

    run: str
    test: str
    tool: str
    format: str
    zone: str
    region: str
    service: str | None
    release: str | None
    environment: str | None
    requests: int
    failed: int
    start_us: int
    end_us: int
    percentiles: Percentiles
    endpoints: tuple[EndpointResult, ...]
    unmatched: tuple[Unmatched, ...]
    already_imported: bool
    digest: str
    warnings: tuple[str, ...]
    statuses: dict[str, int]
    errors: dict[str, int]
    load: Load

    def document(self) -> dict[str, Any]:
        """Return the JSON document of the command."""
        document = asdict(self)
        document["start"] = iso_us(document.pop("start_us"))
        document["end"] = iso_us(document.pop("end_us"))
        return document


def iso_us(microseconds: int) -> str:
    """Write microseconds since 1970 as ISO 8601 in UTC, always with six digits."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")

"""The whole policy of ``zones.toml`` as one checked model.

Everything but the map itself is optional::

    [zones.eu]
    regions = ["eu-west-1", "eu-central-1"]
    kafka = ["kafka.eu.example:9093"]
    clickhouse = "https://store.eu.example:8443"
    least_subjects = 11  # of a cell that who sees aggregates alone is shown
    reason_for_rows = true  # a read of single rows asks for a reason
    backups = ["s3://backups-eu/rum"]
    attributes = ["shop.tier"]  # stored besides the package's own list, of other sources

    [zones.eu.retention]  # days; left out: kept for ever
    spans = 30
    synthetic_results = 90
    joined_spans = 30
    latency_minute = 730

    [zones.eu.to_hub]  # what may leave the zone
    tables = ["latency_minute"]
    columns = ["minute", "region", "service", "method", "route"]
    least_subjects = 50

    [groups.sre - eu]
    spans = ["eu"]
    aggregates = ["hub"]

    [viewers]  # local users; others bring their groups with their login
    ana = ["sre-eu"]
"""

from __future__ import annotations

import re
import tomllib
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    model_validator,
)

from mobius_instrumentation.zones import ZonesError, load_zones
from mobius_pipeline.errors import UsageError
from mobius_pipeline.residency.tables import CROSSING_COLUMNS

__all__ = [
    "HUB",
    "Group",
    "HubPolicy",
    "Policy",
    "PolicyError",
    "Problem",
    "Retention",
    "ToHub",
    "ZonePolicy",
    "read_policy",
    "toml_key",
]

HUB: Final = "hub"
"""What groups call the hub by."""

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_ELSEWHERE: Final = frozenset({"instrumentation"})  # tables of zones.toml that others read
_WORDS: Final = {
    "extra_forbidden": "unknown key",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "string_type": "must be a string",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "missing": "is missing",
}

Days = Annotated[StrictInt, Field(ge=1, le=36_525)]
Subjects = Annotated[StrictInt, Field(ge=2, le=1_000_000)]
# What may stand in SQL between backticks, in a terminal, and in a token's claim.
Name = Annotated[StrictStr, Field(pattern=r"^[\w.:@/+-][\w .:@/+-]{0,126}[\w.:@/+-]?$")]
Names = tuple[Name, ...]


class Problem(BaseModel):
    """What is wrong, and the key where."""

    model_config = ConfigDict(frozen=True)

    key: str
    problem: str


class PolicyError(UsageError):
    """The policy is wrong. ``problems`` are all of them, the text is the first."""

    def __init__(self, file: str, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        more = len(problems) - 1
        rest = f" (and {more} more: see `mobius-rum residency check`)" if more else ""
        super().__init__(problems[0].problem + rest, file=file, field=problems[0].key)


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Retention(_Table):
    """Days that rows of a zone's tables are kept; None for ever."""

    spans: Days | None = None
    synthetic_results: Days | None = None
    joined_spans: Days | None = None
    quarantine: Days | None = None
    dead_letters: Days | None = None
    latency_minute: Days | None = None
    correlations: Days | None = None
    findings: Days | None = None
    predictions: Days | None = None

    def days(self) -> dict[str, int | None]:
        """Days by table, in the order above."""
        return {name: getattr(self, name) for name in type(self).model_fields}


class ToHub(_Table):
    """What of one zone may cross to the hub."""

    tables: Names = ("latency_minute",)
    columns: Names = CROSSING_COLUMNS
    least_subjects: Subjects = 50


class ZonePolicy(_Table):
    """One zone: its map, how small a cell may be, how long rows stay, what may leave."""

    regions: tuple[StrictStr, ...]
    kafka: tuple[StrictStr, ...]
    clickhouse: StrictStr
    database: StrictStr
    least_subjects: Subjects = 11
    reason_for_rows: StrictBool = False
    backups: tuple[StrictStr, ...] = ()
    attributes: Names = ()
    retention: Retention = Retention()
    to_hub: ToHub = ToHub()


class HubPolicy(_Table):
    """Where the hub's store is."""

    clickhouse: StrictStr
    database: StrictStr = "rum_hub"


class Group(_Table):
    """Zones that a group's members see: single rows and aggregates, or aggregates alone."""

    spans: Names = ()
    aggregates: Names = ()


class Policy(_Table):
    """All of ``zones.toml`` that is about residency."""

    zones: dict[StrictStr, ZonePolicy]
    hub: HubPolicy | None = None
    groups: dict[Name, Group] = {}
    viewers: dict[Name, Names] = {}

    @model_validator(mode="before")
    @classmethod
    def _name_databases(cls, document: Any) -> Any:
        """Give each zone the database of its name where the file gives none, as the map does."""
        zones = {
            name: {"database": f"rum_{name}", **table} for name, table in document["zones"].items()
        }
        return {**document, "zones": zones}

    @property
    def places(self) -> tuple[str, ...]:
        """Everything that a group may be let into: the zones, and the hub where there is one."""
        return (*self.zones, *([HUB] if self.hub else []))


def read_policy(path: str | PathLike[str]) -> Policy:
    """Read the policy, and check each key by itself; what contradicts is for :func:`contradictions`.

    Raises
    ------
    PolicyError
        The file cannot be read or holds unknown keys or wrong values; names each with its key.
    """
    file = str(path)
    try:
        load_zones(path)
        document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except ZonesError as error:
        raise PolicyError(file, (Problem(key=error.key, problem=error.problem),)) from error
    tables = {key: value for key, value in document.items() if key not in _ELSEWHERE}
    try:
        return Policy.model_validate(tables)
    except ValidationError as error:
        found = tuple(_problem(each) for each in error.errors(include_url=False))
        raise PolicyError(file, found) from None


def toml_key(*parts: str | int) -> str:
    """Write a key as it stands in the file; parts that are no bare keys are quoted."""
    words = [str(part) for part in parts]
    return ".".join(word if _BARE_KEY.fullmatch(word) else f'"{word}"'[:100] for word in words)


def _problem(error: Any) -> Problem:
    location = [part for part in error["loc"] if part != "[key]"]
    # The message is ours or about a bound; the value itself is not repeated, it may be a secret.
    words = _WORDS.get(error["type"], error["msg"])
    if error["type"] == "string_pattern_mismatch":
        words = "must be 1 to 128 letters, digits, spaces and . : @ / + - _"
    return Problem(key=toml_key(*location), problem=words)

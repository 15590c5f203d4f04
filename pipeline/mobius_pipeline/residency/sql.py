"""One zone's policy as ClickHouse statements, for a store that many people reach by themselves.

Roles are dropped and made again, so that whoever is not in the file any more has lost them. Names in the
statements come from the checked policy, which allows no quote and no backtick.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mobius_pipeline.residency.policy import Policy, ZonePolicy
from mobius_pipeline.residency.tables import AGGREGATE_TABLES, REGION_TABLES, ROW_TABLES

__all__ = ["policy_statements"]

_LEVELS: Final = ("aggregates", "spans")
# Bounds and not only values: a query may set what a profile says, and 0 would mean no limit.
_PROFILE: Final = (
    "readonly = 2 CONST",
    "max_execution_time = 20 MIN 1 MAX 20",
    "max_result_rows = 500000 MIN 1 MAX 500000",
    "result_overflow_mode = 'throw' CONST",
    "max_memory_usage = 4000000000 MIN 1 MAX 4000000000",
)
_QUOTA: Final = "queries = 5000, result_rows = 50000000, execution_time = 1800"


def policy_statements(policy: Policy, zone: str) -> tuple[str, ...]:
    """Return the statements for the store of ``zone``, in their order.

    1. Roles of the two levels.
    2. What each may read: ``aggregates`` no table of rows.
    3. Rows of the zone's own regions only.
    4. Read-only, with limits of a query; limits of an hour.
    5. A role for each group that sees the zone.
    """
    return tuple(_statements(policy, zone, policy.zones[zone]))


def _statements(policy: Policy, name: str, zone: ZonePolicy) -> Iterator[str]:
    role = {level: f"`{zone.database}_{level}`" for level in _LEVELS}
    both = ", ".join(role.values())
    for level in _LEVELS:  # 1
        yield f"DROP ROLE IF EXISTS {role[level]}"
        yield f"CREATE ROLE {role[level]}"
    for level in _LEVELS:  # 2
        for table in (*AGGREGATE_TABLES, *(ROW_TABLES if level == "spans" else ())):
            yield f"GRANT SELECT ON `{zone.database}`.`{table}` TO {role[level]}"
    regions = ", ".join(_text(region) for region in zone.regions)
    for table in REGION_TABLES:  # 3
        on = f"ON `{zone.database}`.`{table}`"
        # A restrictive policy only takes away; without a permissive one nothing might be left.
        yield f"CREATE ROW POLICY OR REPLACE `{zone.database}_rows` {on} USING 1 AS PERMISSIVE TO {both}"
        yield (
            f"CREATE ROW POLICY OR REPLACE `{zone.database}_regions` {on} "
            f"USING region IN ({regions}) AS RESTRICTIVE TO {both}"
        )
    yield (  # 4
        f"CREATE SETTINGS PROFILE OR REPLACE `{zone.database}_viewers` SETTINGS {', '.join(_PROFILE)} TO {both}"
    )
    yield (
        f"CREATE QUOTA OR REPLACE `{zone.database}_viewers` KEYED BY user_name "
        f"FOR INTERVAL 1 hour MAX {_QUOTA} TO {both}"
    )
    for group, sees in policy.groups.items():  # 5
        level = "spans" if name in sees.spans else "aggregates" if name in sees.aggregates else ""
        if level:
            yield f"CREATE ROLE IF NOT EXISTS `{group}`"
            yield f"GRANT {role[level]} TO `{group}`"


def _text(value: str) -> str:
    """Write a string for SQL; regions are whatever their cloud calls them."""
    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{quoted}'"

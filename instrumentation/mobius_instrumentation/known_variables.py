"""Refuses misspelt ``MOBIUS_*`` variables: one that nobody reads would leave an option as it was, in silence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Final

from mobius_instrumentation.errors import ConfigurationError
from mobius_instrumentation.options import OPTIONS
from mobius_instrumentation.zones import Zones

__all__ = ["refuse_unknown_variables"]

_OPTION_VARIABLES: Final = frozenset(
    variable
    for option in OPTIONS.values()
    for variable in option.variables
    if variable.startswith("MOBIUS_")
)
# Of other parts of the product: they may stand in the environment of a machine or of a test that runs both.
_ELSEWHERE: Final = re.compile(
    r"MOBIUS_(?:COLLECTOR_HOST|DATA|DURATION|ENDPOINT|FAILPOINT|PROFILE|SCALE|STORE_PASSWORD|USERS|ZONE|ZONE_REGION|KAFKA_BROKER"
    r"|OIDC_\w+|VIEWER(?:_\w+)?|TEST_\w+)"
    # What Kubernetes sets for each service of a namespace whose name begins with "mobius".
    r"|MOBIUS_(?:\w+_)?(?:SERVICE_(?:HOST|PORT(?:_\w+)?)|PORT(?:_\d+_\w+)?)"
)
_FAMILIES: Final = ("KAFKA", "CLICKHOUSE")


def refuse_unknown_variables(environ: Mapping[str, str], zones: Zones) -> None:
    """Raise for the first variable with our prefix that no part of the product reads.

    Variables of zones (``MOBIUS_EU_KAFKA_...``) are left to their own tables, if the map has the zone.

    Raises
    ------
    ConfigurationError
        Names the variable and the closest known one; repeats no value, which may be a secret.
    """
    names = [*(zone.name for zone in zones), zones.hub.name if zones.hub else "hub"]
    prefixes = tuple(f"MOBIUS_{name.upper()}_{family}_" for name in names for family in _FAMILIES)
    for variable in sorted(environ):
        if not variable.startswith("MOBIUS_") or variable in _OPTION_VARIABLES:
            continue
        if variable.startswith(prefixes) or _ELSEWHERE.fullmatch(variable):
            continue
        near = get_close_matches(variable, [*_OPTION_VARIABLES, *prefixes], n=1, cutoff=0.0)[0]
        problem = f"unknown variable; the closest known one is {near}"
        if found := re.fullmatch(r"MOBIUS_(\w+?)_(?:KAFKA|CLICKHOUSE)_\w+", variable):
            problem = (
                f"{zones.file} has no zone {found[1].lower()!r}; the closest known one is {near}..."
            )
        raise ConfigurationError(variable, problem)

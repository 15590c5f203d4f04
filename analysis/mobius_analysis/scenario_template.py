"""What the k6 and the Locust scenario have in common: the values of a mix, put into a template."""

from __future__ import annotations

import json
from collections.abc import Mapping

from mobius_analysis.scenario_mix import Mix

__all__ = ["common_values", "filled"]


def common_values(mix: Mix, test: str) -> dict[str, str]:
    """Values that both tools write alike; ``test`` is the name the results will bear."""
    parameters = sorted({name for one in mix.endpoints for name in one.parameters})
    return {
        "SERVICE": _text(mix.service),
        "REGION": _text(mix.region),
        "SINCE": f"{mix.window.start:%Y-%m-%d %H:%M}",
        "UNTIL": f"{mix.window.end:%Y-%m-%d %H:%M} UTC",
        "RATE": f"{mix.rate:.3g}",
        "REQUESTS": f"{mix.requests:,}",
        "TEST": json.dumps(test),
        "PARAMETERS": ", ".join(f'{json.dumps(name)}: ["1"]' for name in parameters),
    }


def filled(template: str, values: Mapping[str, str]) -> str:
    """Put each value where the template has its name between @ signs."""
    for name, value in values.items():
        template = template.replace(f"@{name}@", value)
    return template


def _text(name: str) -> str:
    """A name for the file's own description."""
    return "".join(c if c.isalnum() or c in " ._-" else "_" for c in name)

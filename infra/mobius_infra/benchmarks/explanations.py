"""Explanations on real data with injected faults: DeLag's labels, and Online Boutique before and after.

Limit: the labels, which the analysis does not see.
"""

from __future__ import annotations

from typing import Any

from mobius_infra.benchmarks._boutique import run_boutique
from mobius_infra.benchmarks._delag import run_delag

__all__ = ["run"]


def run() -> dict[str, Any]:
    """Explain both data sets, and compare with what was injected."""
    return {
        "what": "explaining patterns against the labels (DeLag), verdicts and explanations of injected faults",
        "delag": run_delag(),
        "online_boutique": run_boutique(),
    }

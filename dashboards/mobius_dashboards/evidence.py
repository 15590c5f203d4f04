"""A finding's evidence in sentences. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mobius_dashboards import formatters

__all__ = ["movement_sentence"]


def movement_sentence(evidence: Mapping[str, Any]) -> str:
    """Return in one line how far users and tests moved with a release; empty where there was none."""
    if not isinstance(evidence.get("release"), Mapping):
        return ""
    quantile = (evidence.get("quantiles") or ["p95"])[0]
    parts = []
    for title, side in (("users", "production"), ("tests", "tests")):
        movement = evidence.get(side) or {}
        ratio = (movement.get("ratio") or {}).get(quantile)
        before = (movement.get("before") or {}).get(f"{quantile}_ms") or {}
        after = (movement.get("after") or {}).get(f"{quantile}_ms") or {}
        if not ratio or not before or not after:
            parts.append(f"{title}: too few requests")
            continue
        values = f"{formatters.duration_ms(before.get('value'))} → {formatters.duration_ms(after.get('value'))}"
        parts.append(f"{title} {quantile} {values}, × {formatters.ratio_interval(ratio)}")
    return "; ".join(parts)

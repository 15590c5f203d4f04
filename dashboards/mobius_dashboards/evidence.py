"""A finding's evidence in sentences. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mobius_dashboards import formatters

__all__ = ["evidence_sentences"]


def evidence_sentences(evidence: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a finding rests on, in words; evidence of an unknown form gives none."""
    return tuple(_sentences(evidence))


def _sentences(evidence: Mapping[str, Any]) -> Iterator[str]:
    release = evidence.get("release")
    if isinstance(release, Mapping):
        before = release.get("previous") or "what ran before"
        yield f"Release {release.get('version')} after {before}, first seen {release.get('first_seen')}."
        quantile = (evidence.get("quantiles") or ["p95"])[0]
        for title, side in (("Users", "production"), ("Tests", "tests")):
            if text := _movement(evidence.get(side), quantile):
                yield f"{title}: {text}."
        if (lead := evidence.get("lead_minutes")) is not None:
            yield f"The tests knew {formatters.age(lead * 60)} earlier."
    if (spans := evidence.get("spans")) is not None:
        yield f"{formatters.count(spans)} spans between {evidence.get('first')} and {evidence.get('last')}: {evidence.get('reason')}."


def _movement(movement: Mapping[str, Any] | None, quantile: str) -> str:
    if not movement:
        return ""
    before = (movement.get("before") or {}).get(f"{quantile}_ms")
    after = (movement.get("after") or {}).get(f"{quantile}_ms")
    ratio = (movement.get("ratio") or {}).get(quantile)
    if not before or not after:
        return f"no {quantile} on both sides of the release"
    text = f"{quantile} from {formatters.interval_ms(before)} to {formatters.interval_ms(after)}"
    return f"{text}, ratio {formatters.ratio_interval(ratio)}" if ratio else text

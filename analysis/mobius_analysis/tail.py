"""The verdict on p99, which stands beside the endpoint's own and never decides it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from mobius_analysis.ratio import MARGIN, Ratio
from mobius_analysis.verdicts import Verdict, discoveries

__all__ = ["judge_tails"]

_P99: Final = 0.99


def judge_tails(
    ratios: Sequence[Mapping[float, Ratio]], margin: float = MARGIN
) -> list[Verdict | None]:
    """Judge p99 of every cell; None where a side has too few requests for an interval of it.

    The p99 of all cells are a family of their own for the correction of claims, so that asking for them
    makes no verdict on p50 and p95 stricter.
    """
    known = {i: one[_P99] for i, one in enumerate(ratios) if _P99 in one and one[_P99].known}
    kept = dict(
        zip(known, discoveries([one.p_beyond(margin) for one in known.values()]), strict=True)
    )
    return [
        _judge(known[i], margin, kept=kept[i]) if i in known else None for i in range(len(ratios))
    ]


def _judge(ratio: Ratio, margin: float, *, kept: bool) -> Verdict:
    if kept and ratio.above(margin):
        return "optimistic"
    if kept and ratio.below(margin):
        return "pessimistic"
    return "representative" if ratio.equivalent(margin) else "inconclusive"

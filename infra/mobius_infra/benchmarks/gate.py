"""How good the gate's predictions are: histories with a known truth, every run predicted from the others.

Peers in the same run: the raw percentile of the test, and that percentile times the median ratio of the
medians. ``excess_loss_us`` is the mean pinball loss over production's requests beyond that of production's own
quantile, the least there is. Each prediction is fitted anew on a history in which its run never happened
(``run``), in which its release never happened (``release``), or of earlier releases only (``future``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from mobius_analysis.intervals import wilson
from mobius_analysis.pairs import Pair
from mobius_analysis.testing_histories import SCENARIOS, LeftOut, left_out, simulate
from mobius_analysis.verdicts import name_of
from mobius_infra.benchmarks._gate_demo import demo_pairs

__all__ = ["run"]

_QUANTILES: Final = (0.5, 0.95)
_WAYS: Final[Mapping[str, Mapping[str, bool]]] = {
    "run": {},
    "release": {"whole_release": True},
    "future": {"future": True},
}


def run(repetitions: int = 3, seed: int = 1) -> dict[str, Any]:
    """Simulate every scenario ``repetitions`` times, and the demo's history once."""
    found: dict[tuple[str, float, str], list[LeftOut]] = {}
    for number, scenario in enumerate(SCENARIOS):
        for repetition in range(repetitions):
            rng = np.random.default_rng([seed, number, repetition])
            _add(found, scenario.name, simulate(scenario, rng).pairs, _WAYS)
    # The demo has two releases: one predicted from the other says little, runs say something.
    _add(found, "demo", demo_pairs(seed), {"run": {}})
    simulated = [
        one
        for (name, q, way), many in found.items()
        if name != "demo" and q == 0.95 and way == "run"
        for one in many
    ]
    return {
        "scenarios": {
            name: {
                name_of(q): {
                    way: _figures(found[name, q, way]) for way in _WAYS if (name, q, way) in found
                }
                for q in _QUANTILES
            }
            for name in dict.fromkeys(name for name, _, _ in found)
        },
        "all_simulated_p95_by_run": _figures(simulated),
    }


def _add(
    found: dict[tuple[str, float, str], list[LeftOut]],
    name: str,
    pairs: Sequence[Pair],
    ways: Mapping[str, Mapping[str, bool]],
) -> None:
    one_run_a_release = len({p.run for p in pairs}) == len({p.release for p in pairs})
    for q in _QUANTILES:
        for way, options in ways.items():
            if way == "release" and one_run_a_release:
                continue
            made = found.setdefault((name, q, way), [])
            made.extend(left_out(pairs, q, **options))


def _figures(many: Iterable[LeftOut]) -> dict[str, Any]:
    rows = list(many)
    coverage = wilson(sum(one.inside for one in rows), len(rows))

    def excess(way: str) -> float:
        return round(float(np.mean([getattr(one, way) - one.oracle for one in rows])) * 1e6, 1)

    return {
        "predictions": len(rows),
        "coverage": None if coverage is None else coverage.document(digits=3),
        "median_width_factor": round(float(np.exp(np.median([one.width for one in rows]))), 3),
        "excess_loss_us": {
            "ours": excess("ours"),
            "median_scaling": excess("median_scaling"),
            "raw": excess("raw"),
        },
    }

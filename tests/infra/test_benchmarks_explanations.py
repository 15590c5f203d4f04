"""What is said of injected faults does not get worse than what docs/real-data.md says."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobius_infra.benchmarks._boutique import run_boutique
from mobius_infra.benchmarks._delag import run_delag
from mobius_pipeline.errors import UsageError


def test_delag_patterns_against_the_labels() -> None:
    scenarios = run_delag()
    assert [one["scenario"] for one in scenarios] == [0, 10, 60, 139, 200, 279]
    assert all(one["precision"] > 0.9 and one["recall"] > 0.85 for one in scenarios)
    assert all(one["patterns"] for one in scenarios)


def test_a_data_set_that_is_away_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.parquet"):
        run_delag(tmp_path / "none.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"no parquet")
    with pytest.raises(UsageError, match="cannot read"):
        run_delag(tmp_path / "bad.parquet")


@pytest.mark.soak
def test_both_faults_of_the_boutique_show_at_the_frontend() -> None:
    contention, returned = run_boutique()
    verdicts = [
        {(one["service"], one["route"]): one for one in fault["endpoints"]}[
            "frontend", "hipstershop.Frontend/Recv."
        ]
        for fault in (contention, returned)
    ]
    assert verdicts[0]["verdict"] == "optimistic"
    assert verdicts[1]["verdict"] == "pessimistic"  # an answer that returns at once is fast
    assert verdicts[0]["why"]["p50"]["holding"]

"""What leaves a zone: which cells, which totals, and nothing else of the rows that came in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobius_analysis.hub_export import export_cells
from mobius_analysis.thin_tails import merge_thin_tails

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
KEYS = ("service", "route")


def cells(requests: list[list[int]], *, ratio: int = 0) -> pl.DataFrame:
    """Rows by minute and version; ``ratio``: requests of each subject, 0 where subjects are unknown."""
    rows = [
        {
            "service": "shop", "route": "/pay", "minute": BEGIN + timedelta(minutes=m), "region": "eu-1",
            "version": f"v{v}", "requests": n, "errors": 1, "buckets": [1, 2, 3, 4],
            "weights": [1.0, n - 3.0, 1.0, 1.0], "max_ms": 9_999.0, "exemplar": "deadbeef",
            **({"subjects": n // ratio} if ratio else {}),
        }
        for m, row in enumerate(requests)
        for v, n in enumerate(row)
    ]  # fmt: skip
    return pl.DataFrame(rows)


def test_small_cells_stay_and_so_do_the_totals_that_would_give_them_away() -> None:
    found = export_cells(cells([[500, 500], [500, 7]]), keys=KEYS)
    assert found.cells.select("requests", "version").rows() == [
        (500, "v0"),
        (500, "v1"),
        (500, "v0"),
    ]
    assert found.counted_by == "requests"
    told = found.totals.filter(pl.col("region").is_null()).rows(named=True)
    sums = {(row["minute"], row["version"]): row["requests"] for row in told}
    sums = {place: told for place, told in sums.items() if None in place}
    assert sums == {(BEGIN, None): 1_000, (None, "v0"): 1_000}
    assert (found.account.small_cells, found.account.cells) == (1, 4)


def test_many_small_cells_keep_each_other_company_and_their_total_is_told() -> None:
    found = export_cells(cells([[500, 30, 30], [500, 30, 30]]), keys=KEYS)
    everything = found.totals.filter(
        pl.all_horizontal(pl.col("minute", "region", "version").is_null())
    )
    assert everything["requests"].to_list() == [1_120]
    assert found.cells["requests"].to_list() == [500, 500]


def test_only_what_may_leave_is_in_the_frames() -> None:
    found = export_cells(cells([[500, 500]], ratio=2), keys=KEYS)
    assert found.counted_by == "subjects"
    assert found.cells.columns == [
        *KEYS, "minute", "region", "version", "requests", "errors", "buckets", "weights",
    ]  # fmt: skip
    assert found.totals.columns == [*KEYS, "minute", "region", "version", "requests"]


def test_few_subjects_with_many_requests_are_small_and_their_ratio_counts() -> None:
    # 40 subjects made 4,000 requests each time: a sum of the hidden two is 80 subjects at the most.
    found = export_cells(cells([[9_000, 4_000, 4_000]], ratio=100), keys=KEYS)
    assert found.cells["requests"].to_list() == [9_000]
    assert 17_000 in found.totals["requests"].to_list()  # 8,000 is more than 49 subjects make
    few = export_cells(cells([[9_000, 2_000, 2_000]], ratio=100), keys=KEYS)
    assert set(few.totals["requests"]) == {9_000}  # 4,000 is not


def test_empty_and_wrong_frames() -> None:
    none = export_cells(cells([[500]]).clear(), keys=KEYS)
    assert none.cells.is_empty()
    assert none.totals.is_empty()
    with pytest.raises(ValueError, match="twice"):
        export_cells(pl.concat([cells([[5]])] * 2), keys=KEYS)
    with pytest.raises(ValueError, match="may not cross"):
        export_cells(cells([[5]]), keys=("exemplar",))
    with pytest.raises(ValueError, match="holds null"):
        export_cells(cells([[5]]).with_columns(version=pl.lit(None, pl.String)), keys=KEYS)


def test_thin_ends_of_histograms_are_merged_and_the_middle_stays() -> None:
    found = export_cells(cells([[500]]), keys=KEYS)
    assert found.cells["buckets"].to_list() == [[2]]
    assert found.cells["weights"].to_list() == [[500.0]]


@given(
    st.dictionaries(st.integers(-200, 200), st.integers(1, 30), min_size=1, max_size=40),
    st.integers(1, 60),
)
def test_merging_keeps_the_total_and_leaves_no_thin_end(
    histogram: dict[int, int], least: int
) -> None:
    index = sorted(histogram)
    weight = np.array([histogram[each] for each in index], float)
    merged, weights = merge_thin_tails(index, weight, least)
    assert weights.sum() == weight.sum()
    assert set(merged.tolist()) <= set(index)
    assert list(merged) == sorted(set(merged.tolist()))
    if len(merged) > 1:
        assert min(weights[0], weights[-1]) >= least
        inside = slice(1, -1)
        assert weights[inside].tolist() == [histogram[each] for each in merged[inside].tolist()]

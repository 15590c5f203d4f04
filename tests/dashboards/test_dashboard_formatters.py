from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobius_dashboards import formatters as f


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (0, "0 ms"),
        (0.0005, "500 ns"),
        (0.0421, "42.1 µs"),
        (1, "1.00 ms"),
        (4.236, "4.24 ms"),
        (184.4, "184 ms"),
        (999.6, "1.00 s"),
        (1840, "1.84 s"),
        (61_000, "1.02 min"),
    ],
)
def test_durations_have_three_digits_and_a_unit(ms: float | None, text: str) -> None:
    assert f.duration_ms(ms) == text


@given(st.floats(min_value=1e-6, max_value=1e7))
def test_no_duration_is_written_in_exponents_or_without_a_unit(ms: float) -> None:
    number, unit = f.duration_ms(ms).split(" ")
    assert "e" not in number
    assert unit in {"ns", "µs", "ms", "s", "min"}


def test_an_interval_has_one_unit() -> None:
    assert f.interval_ms({"value": 137.1, "low": 134.2, "high": 139.3}) == "137 ms (134 to 139)"
    assert (
        f.interval_ms({"value": 1500.0, "low": 900.0, "high": 2100.0}) == "1.50 s (0.900 to 2.10)"
    )


def test_what_is_not_known_is_a_dash_and_never_a_number() -> None:
    assert f.interval_ms(None) == f.ratio(None) == f.ratio_interval(None) == f.percent(None) == "–"
    assert f.interval_ms({"value": 3.0, "low": None, "high": None}) == "3.00 ms"
    assert f.ratio_interval({"value": 1.5, "low": None, "high": None}) == "1.50"


def test_shares_are_never_rounded_to_all_or_nothing() -> None:
    assert f.percent(0.99996) == "> 99.9 %"
    assert f.percent(0.00001) == "< 0.1 %"
    assert f.percent(1) == "100 %"
    assert f.percent(0.7995) == "80 %"


def test_ages_and_windows() -> None:
    assert [f.age(s) for s in (-3, 42, 300, 7200, 200_000)] == [
        "0 s",
        "42 s",
        "5 min",
        "2 h",
        "2 d",
    ]
    end = datetime(2026, 11, 23, 18, 5, tzinfo=UTC)
    assert f.window(end.replace(hour=17), end) == "1 h to 2026-11-23 18:05 UTC"
    assert f.window(end.replace(day=16), end) == "7 d to 2026-11-23 18:05 UTC"
    assert f.window(end.replace(hour=16, minute=35), end) == "90 min to 2026-11-23 18:05 UTC"

"""The gate's decision, its budgets and its texts, without a store."""

from __future__ import annotations

from dataclasses import replace
from math import exp, sqrt
from pathlib import Path

import pytest

from mobius_analysis.gate import Decision, Limit, decide, overall
from mobius_analysis.gate_budgets import (
    Budget,
    budget_for,
    parse_budget,
    parse_share,
    read_budgets,
)
from mobius_analysis.intervals import Bounds
from mobius_analysis.prediction import Prediction
from mobius_pipeline.errors import UsageError


def predicted(value: float, *, test: float = 0.1, history: float = 0.1) -> Prediction:
    reach = sqrt(test**2 + history**2)
    bounds = Bounds(value, value * exp(-reach), value * exp(reach))
    return Prediction(bounds, 1.2, (test, test), history, floor=history * 0.9, own=8)


def verdict(prediction: Prediction | None, seconds: float, answered: int = 1000) -> Decision:
    return decide(prediction, Limit(seconds, "budget"), q=0.95, answered=answered)


def test_the_interval_decides_not_the_value() -> None:
    one = predicted(0.2)
    low, high = one.bounds.low, one.bounds.high
    assert low is not None
    assert high is not None
    assert verdict(one, high * 1.001).verdict == "pass"
    assert verdict(one, high * 0.999).verdict == "cannot_tell"
    assert verdict(one, low * 1.001).verdict == "cannot_tell"
    assert verdict(one, low * 0.999).verdict == "fail"


@pytest.mark.parametrize("budget", [0.2 * 1.13, 0.2 / 1.13])
def test_the_number_of_requests_asked_for_is_what_settles_it(budget: float) -> None:
    one = predicted(0.2, test=0.3, history=0.05)
    asked = verdict(one, budget)
    assert (asked.verdict, asked.remedy) == ("cannot_tell", "requests")
    assert asked.requests is not None

    def after(more: float) -> str:
        shrunk = 0.3 * sqrt(1000 / (1000 + more))
        return verdict(predicted(0.2, test=shrunk, history=0.05), budget).verdict

    assert after(asked.requests) == ("pass" if budget > 0.2 else "fail")
    assert after(asked.requests * 0.85) == "cannot_tell"


def test_where_requests_cannot_help_history_may_and_at_the_budget_nothing_does() -> None:
    wide = replace(predicted(0.2, test=0.02, history=0.4), floor=0.1)
    asked = verdict(wide, 0.2 * exp(0.2))
    assert (asked.remedy, asked.requests) == ("history", None)
    assert asked.releases is not None
    assert asked.releases >= 1
    assert verdict(predicted(0.2), 0.2).remedy == "budget"


def test_too_few_requests_say_how_many_are_missing_whatever_the_budget() -> None:
    found = verdict(predicted(0.001), 99.0, answered=20)
    assert (found.verdict, found.remedy, found.requests) == ("cannot_tell", "requests", 52)
    assert verdict(None, 99.0).remedy == "history"
    bare = replace(predicted(0.001), bounds=Bounds(0.001), test=None)
    assert verdict(bare, 99.0).verdict == "cannot_tell"
    lacking = decide(predicted(0.001), Limit(99.0, ""), q=0.95, answered=999, lacking="one release")
    assert (lacking.verdict, lacking.reason) == ("cannot_tell", "one release")
    unknown = decide(predicted(0.001), Limit(None, ""), q=0.95, answered=999)
    assert unknown.remedy == "baseline"


def test_the_error_of_a_measured_limit_counts() -> None:
    one = predicted(0.2)
    sure = Limit(0.24, "now", Bounds(0.2, 0.199, 0.201))
    unsure = Limit(0.24, "now", Bounds(0.2, 0.15, 0.26))
    assert decide(one, sure, q=0.95, answered=1000).verdict == "pass"
    assert decide(one, unsure, q=0.95, answered=1000).verdict == "cannot_tell"


def test_one_failure_fails_and_nothing_is_no_pass() -> None:
    good, bad, open_ = (Decision(v, "") for v in ("pass", "fail", "cannot_tell"))
    assert overall([good, bad, open_]) == "fail"
    assert overall([good, open_]) == "cannot_tell"
    assert overall([good, good]) == "pass"
    assert overall([]) == "cannot_tell"


def test_the_first_budget_that_matches_counts(tmp_path: Path) -> None:
    file = tmp_path / "budgets.toml"
    file.write_text(
        '[[budget]]\nroute = "/items/{item_id}"\nmethod = "GET"\np95 = "90 ms"\np99="0.5s"\n'
        '[[budget]]\nregion = "eu-*"\np95 = "200ms"\n'
    )
    budgets = read_budgets(file)
    item = ("eu-west-1", "shop", "GET", "/items/{item_id}")
    assert budget_for(budgets, item, 0.95) == Budget(
        0.95, 0.09, method="GET", route="/items/{item_id}"
    )
    other = budget_for(budgets, ("eu-west-1", "shop", "POST", "/items"), 0.95)
    assert other is not None
    assert other.pattern == "eu-*"
    assert budget_for(budgets, ("us-east-1", "shop", "POST", "/items"), 0.95) is None
    assert Budget(0.5, 1.0, route="/a[b]").matches(("r", "s", "m", "/a[b]"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "at least one"),
        ("x = 1", "at least one"),
        ("[[budget]]\np95 = 200", "p95"),
        ('[[budget]]\np95 = "200"', "200ms"),
        ('[[budget]]\np95 = "0ms"', "above 0"),
        ('[[budget]]\np94 = "1s"', "p94"),
        ('[[budget]]\nroute = "/"', "no p50"),
        ('[[budget]]\nroute = ""\np95 = "1s"', "route"),
        ("[[budget", "no TOML"),
        ("\xff", "no TOML"),
    ],
)
def test_a_wrong_file_is_named_with_its_field(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "budgets.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=problem) as error:
        read_budgets(file)
    assert error.value.file == str(file)


def test_options() -> None:
    assert parse_budget("P95 = 1.5s") == (0.95, 1.5)
    assert parse_budget("p99=900us")[1] == pytest.approx(0.0009)
    assert parse_share("2.5 %", field="--x") == 0.025
    for text in ("p95", "p95=", "p95=-1ms", "p95=1m", "95=1s"):
        with pytest.raises(UsageError):
            parse_budget(text)
    for text in ("10", "-1%", "9999%", "%"):
        with pytest.raises(UsageError):
            parse_share(text, field="--x")

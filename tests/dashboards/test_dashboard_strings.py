from __future__ import annotations

from typing import Any

import pytest

from mobius_dashboards import markup, strings
from mobius_dashboards.const import VERDICTS


def cell(
    verdict: str, p95: float | None = 1.0, requests: int = 1000, spread: float = 1.05
) -> dict[str, Any]:
    interval = None if p95 is None else {"value": p95, "low": p95 / spread, "high": p95 * spread}
    return {
        "verdict": verdict,
        "region": "eu-west-1",
        "production": {"requests": requests},
        "synthetic": {"requests": 0 if verdict == "untested" else 900},
        "ratio": {"p50": interval, "p95": interval, "p99": interval},
        "vantage": "server",
        "needs": {"text": "about 500 more synthetic requests"}
        if verdict == "inconclusive"
        else None,
        "note": None,
    }


@pytest.mark.parametrize(
    ("verdicts", "text"),
    [
        ([], "No requests in this window"),
        (
            ["optimistic", "pessimistic", *["representative"] * 11],
            "2 of 13 endpoint-regions: tests do not represent users",
        ),
        (["representative"] * 3, "Tests represent users in all 3 endpoint-regions"),
        (["representative"], "Tests represent users in the one endpoint-region"),
        (
            ["representative", "untested"],
            "Tests represent users in 1 of 2 endpoint-regions; the rest is not known",
        ),
        (["untested"] * 2, "No tests in this window: nothing speaks for any of 2 endpoint-regions"),
        (["inconclusive", "untested"], "None of 2 endpoint-regions can be judged yet"),
    ],
)
def test_the_headline_answers_the_question(verdicts: list[str], text: str) -> None:
    assert strings.headline([cell(verdict) for verdict in verdicts]) == text


def test_what_is_untrue_stands_first_and_there_what_misleads_most() -> None:
    cells = [
        cell("representative"),
        cell("pessimistic", 0.5),
        cell("optimistic", 1.2, requests=10),
        cell("optimistic", 1.5, requests=5000),
        cell("untested", None),
    ]
    ranked = sorted(cells, key=strings.rank)
    assert [c["verdict"] for c in ranked] == [
        "optimistic", "optimistic", "pessimistic", "untested", "representative",
    ]  # fmt: skip
    assert ranked[0]["production"]["requests"] == 5000


@pytest.mark.parametrize("verdict", VERDICTS)
def test_every_verdict_is_explained_and_has_a_remedy(verdict: str) -> None:
    found = cell(
        verdict, {"optimistic": 1.5, "pessimistic": 0.5, "untested": None}.get(verdict, 1.0)
    )
    assert strings.endpoint_headline(found)
    assert strings.why(found)
    assert strings.remedy(found).strip(".")
    assert VERDICTS[verdict].word in markup.chip(verdict)


def test_the_reason_names_the_quantile_that_decided() -> None:
    found = cell("optimistic", 1.05)
    found["ratio"]["p50"] = {"value": 1.4, "low": 1.3, "high": 1.5}
    assert strings.endpoint_headline(found) == "Users wait 1.40 × as long as the tests say (p50)"
    assert "1.40 (1.30 to 1.50)" in strings.why(found)[0]


def test_an_inconclusive_verdict_says_what_is_needed() -> None:
    assert "about 500 more synthetic requests" in " ".join(strings.why(cell("inconclusive")))


def test_texts_of_data_are_escaped() -> None:
    evil = '"><script>alert(1)</script>'
    for html in (
        markup.endpoint(evil, evil),
        markup.chip(evil),
        markup.anchor(evil, "x", css=evil),
        markup.source_mark(evil),
        markup.with_code(f"`{evil}`"),
        markup.notice(evil, kind=evil),
        markup.exact({"value": evil}, evil),
        markup.table([(evil, "num")], [["x"]], label=evil),
    ):
        assert "<script" not in html


def test_the_small_plot_stays_inside_its_box() -> None:
    domain = markup.ratio_domain([{"value": 40.0, "low": 20.0, "high": 80.0}])
    assert domain == 4.0
    html = markup.interval_bar({"value": 40.0, "low": 0.001, "high": 80.0}, "optimistic", domain)
    assert "left:0.00%;width:100.00%" in html

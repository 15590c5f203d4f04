"""Sentences of the dashboard, made from numbers. Pure; what they return is text, not HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mobius_dashboards import formatters
from mobius_dashboards.const import MARGIN, UNTRUE, VERDICTS
from mobius_dashboards.state import State
from mobius_dashboards.viewer import ForbiddenError, Viewer
from mobius_pipeline.errors import DependencyError, MobiusError, TerminalError, UsageError

__all__ = [
    "endpoint_headline",
    "errors_word",
    "failure",
    "headline",
    "hidden",
    "least_people",
    "no_requests",
    "no_zone",
    "rank",
    "remedy",
    "stretch",
    "title",
    "verdict_counts",
    "why",
]

Cell = Mapping[str, Any]
_HEADLINE: Final = ("p95", "p50")  # the tail first: it is what people complain about


def title(state: State) -> str:
    """Name of a page in the browser's tab."""
    if state.page == "endpoint" and state.route:
        return f"{state.method} {state.route}".strip()
    if state.page == "trace":
        return f"Trace {state.trace[:8]}".strip()
    if state.page == "residency":
        return "Residency"
    return "Overview"


def failure(error: MobiusError) -> str:
    """Say in a few words what kind of thing went wrong."""
    if isinstance(error, ForbiddenError):
        return "This is not yours to see."
    if isinstance(error, DependencyError):
        return "A store is away, so this page has no data."
    if isinstance(error, UsageError):
        return "The dashboard's settings are wrong."
    if isinstance(error, TerminalError):
        return "The store refused what this page asked for."
    return "This page cannot be shown."


def least_people(viewer: Viewer) -> str:
    """Say which zones show this viewer cells of enough people only; empty for none."""
    return " and ".join(
        f"zone {zone} shows you cells of at least {viewer.least_people(zone)} people"
        for zone in viewer.zones
        if not viewer.sees(zone, "spans")
    )


def hidden(viewer: Viewer, cells: int) -> str:
    """Say how many cells a viewer is not shown, and why."""
    what = "endpoint-region has" if cells == 1 else "endpoint-regions have"
    return f"{formatters.count(cells)} {what} too few people to be shown: {least_people(viewer)}."


def verdict_counts(cells: Sequence[Cell]) -> dict[str, int]:
    """Count cells per verdict, in the order of urgency."""
    counted = Counter(str(cell["verdict"]) for cell in cells)
    return {name: counted[name] for name in VERDICTS if counted[name]}


def headline(cells: Sequence[Cell]) -> str:
    """Return the one sentence that answers whether tests tell the truth."""
    counted = verdict_counts(cells)
    total = len(cells)
    where = "endpoint-region" if total == 1 else "endpoint-regions"
    untrue = sum(counted.get(name, 0) for name in UNTRUE)
    settled = counted.get("representative", 0)
    if not total:
        return "No requests in this window"
    if untrue:
        return f"{untrue} of {total} {where}: tests do not represent users"
    if settled == total:
        return f"Tests represent users in {'it' if total == 1 else f'all {total} {where}'}".replace(
            "in it", "in the one endpoint-region"
        )
    if settled:
        return f"Tests represent users in {settled} of {total} {where}; the rest is not known"
    if counted.get("untested", 0) == total:
        return f"No tests in this window: nothing speaks for any of {total} {where}"
    return f"None of {total} {where} can be judged yet"


def rank(cell: Cell) -> tuple[float, ...]:
    """Sort key: what is untrue first, there what misleads about most requests."""
    verdict = VERDICTS.get(str(cell["verdict"]))
    requests = float(cell["production"]["requests"] or 0)
    value = ((cell["ratio"] or {}).get("p95") or {}).get("value") or 1.0
    distance = max(value, 1 / value) - 1 if value > 0 else 0.0
    order = float(verdict.rank) if verdict else 9.0
    return (order, -(distance if cell["verdict"] in UNTRUE else 1.0) * requests)


def remedy(cell: Cell) -> str:
    """Say what would make this endpoint's test true, or its verdict known."""
    needs = cell.get("needs") or {}
    match cell["verdict"]:
        case "inconclusive":
            return str(needs.get("text") or "more requests on both sides")
        case "untested":
            return "add a test that requests it"
        case "unvisited":
            return "nothing: no user requests it"
        case "optimistic":
            return "make the test as hard as real use"
        case "pessimistic":
            return "make the test as light as real use"
        case _:
            return "nothing"


def endpoint_headline(cell: Cell) -> str:
    """Return the sentence at the head of an endpoint's page."""
    verdict = str(cell["verdict"])
    if verdict in UNTRUE:
        name = _deciding(cell)
        value = cell["ratio"][name]["value"]
        if verdict == "optimistic":
            return f"Users wait {formatters.ratio(value)} as long as the tests say ({name})"
        return f"Users wait {formatters.ratio(value)} as long as the tests say ({name}): the tests are too harsh"
    return {
        "representative": "The tests tell the truth about what users get",
        "untested": "Users request this, no test does",
        "unvisited": "A test requests this, no user does",
    }.get(verdict, "The data cannot tell yet whether the tests are true")


def _deciding(cell: Cell) -> str:
    """Return the quantile whose interval lies wholly beyond the margin, on the side of the verdict."""
    for name in _HEADLINE:
        interval = (cell["ratio"] or {}).get(name) or {}
        low, high = interval.get("low"), interval.get("high")
        if low is None or high is None:
            continue
        if cell["verdict"] == "optimistic" and low > MARGIN:
            return name
        if cell["verdict"] == "pessimistic" and high < 1 / MARGIN:
            return name
    return _HEADLINE[0]


def why(cell: Cell) -> list[str]:
    """Explain a verdict in plain words, with the numbers it rests on."""
    verdict = str(cell["verdict"])
    production, synthetic = cell["production"], cell["synthetic"]
    lines: list[str] = []
    if verdict in UNTRUE:
        name = _deciding(cell)
        side = "above 1.1" if verdict == "optimistic" else "below 1/1.1 (0.909)"
        lines.append(
            f"{name} of production is {formatters.ratio_interval(cell['ratio'][name])} times that of the tests. "
            f"The whole 95 % interval lies {side}, so neither chance nor the margin of 10 % explains it."
        )
    elif verdict == "representative":
        both = " and ".join(
            f"{name} {formatters.ratio_interval(cell['ratio'][name])}" for name in ("p50", "p95")
        )
        lines.append(
            f"Production over tests is {both}. The 90 % intervals of both stay within ± 10 %: "
            "two one-sided tests, so the agreement is shown and not just assumed."
        )
    elif verdict == "inconclusive":
        lines.append(
            "The intervals of the ratio neither stay within ± 10 % nor leave it: with these data, both are possible."
        )
        lines.append(f"What would settle it: {remedy(cell)}.")
    elif verdict == "untested":
        lines.append(
            f"Users sent {formatters.count(production['requests'])} requests here in this window and no test sent any. "
            "Add the endpoint to a test, and bring its results in with `mobius-rum import synthetic`."
        )
    else:
        lines.append(
            f"Tests sent {formatters.count(synthetic['requests'])} requests here in this window and no user sent any."
        )
    if verdict not in ("untested", "unvisited"):
        at = (
            "Both sides were measured at the server."
            if cell.get("vantage") == "server"
            else "The tests were measured at the client and production at the server."
        )
        lines.append(
            f"{formatters.count(production['requests'])} production requests stand against "
            f"{formatters.count(synthetic['requests'])} test requests. {at}"
        )
    matched = cell.get("match")
    if (note := cell.get("note")) and (verdict not in UNTRUE or matched):
        lines.append(f"Note: {note}.")
    return lines


def errors_word(errors: Mapping[str, Any]) -> str:
    """Say how users' share of failures stands to the tests'."""
    return {
        "more": "users meet more",
        "less": "users meet less",
        "alike": "alike",
        "unclear": "cannot tell",
    }.get(str(errors["verdict"]), formatters.NOTHING)


def stretch(minutes: int) -> str:
    """Say how long a bin of a chart is."""
    if minutes % 60 == 0:
        hours = minutes // 60
        return "one hour" if hours == 1 else f"{hours} hours"
    return "one minute" if minutes == 1 else f"{minutes} minutes"


def no_requests(what: str, zones: Sequence[str]) -> str:
    """Say what to do about a page that found nothing. The text has `code` in backticks."""
    named = " and ".join(zones)
    return (
        f"No {what} in zone {named} in this window. Choose a longer window on the left; or, if the zone is new, "
        "fill it: `mobius-rum up` starts the demo, `mobius-rum import spans FILE --region REGION` brings your own."
    )


def no_zone(viewer: str) -> str:
    """Say why a viewer finds every page empty. The text has `code` in backticks."""
    return (
        f"None of {viewer}'s groups in `zones.toml` names a zone. Whoever runs this dashboard sees the reason with "
        f"`mobius-rum residency explain --viewer NAME`, and the groups under `[viewers]` or in your login."
    )

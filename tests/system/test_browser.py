"""The dashboard in a real browser: what an analyst clicks through, with the numbers of the command line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, Page, expect

from mobius_instrumentation.zones import Zone
from mobius_pipeline.options import format_time
from mobius_pipeline.store import Purpose, connect
from tests.conftest import ZoneFactory
from tests.dashboard_server import PATIENCE_MS, free_port, open_browser, serve_dashboard, settle
from tests.dashboards.sample_rows import fill

pytestmark = [pytest.mark.system, pytest.mark.browser, pytest.mark.store]

MINUTES = 60
expect.set_options(timeout=PATIENCE_MS)


@dataclass(frozen=True)
class Served:
    url: str
    config: Path
    zone: Zone
    since: str
    until: str

    def address(self, **params: str) -> str:
        return f"{self.url}/?{urlencode({'since': self.since, 'until': self.until, **params})}"

    def correlate(self) -> dict[tuple[str, str, str], dict[str, Any]]:
        """Return the cells of `correlate --json` by region, method and route."""
        command = [
            sys.executable, "-m", "mobius_infra.cli", "correlate", "--json",
            "--config", str(self.config), "--since", self.since, "--until", self.until,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode in {0, 1}, done.stderr
        cells = json.loads(done.stdout)["cells"]
        return {(cell["region"], cell["method"], cell["route"]): cell for cell in cells}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@pytest.fixture
def served(zone_factory: ZoneFactory, zones_file_factory: Callable[..., Path]) -> Iterator[Served]:
    """A zone with an hour of the sample shop, and a dashboard over it."""
    zone = zone_factory("eu", ("eu-west-1", "eu-central-1"), topics=False)
    since = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=MINUTES + 10)
    client = connect(zone, Purpose.INGEST)
    fill(client, zone.regions, since, MINUTES)
    client.close()
    config = zones_file_factory(zone)
    with serve_dashboard(config, free_port(), "--viewer", "ana") as url:
        until = since + timedelta(minutes=MINUTES)
        yield Served(url, config, zone, format_time(since), format_time(until))


def open_page(page: Page, address: str) -> None:
    page.goto(address, timeout=PATIENCE_MS)
    page.wait_for_selector(".mr-head", timeout=PATIENCE_MS)
    settle(page)


# The table of what is not representative, and the folded one of what is.
VERDICTS = ".mr-table[aria-label*='by region'] tbody tr"


def rows_of(page: Page) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Return what the verdict tables say, by region, method and route."""
    for fold in page.locator("details.mr-fold:not([open]) > summary").all():
        fold.click()
    found = {}
    for row in page.locator(VERDICTS).all():
        cells = row.locator("td")
        method = row.locator(".mr-method").inner_text()
        route = row.locator(".mr-route").inner_text()
        region = cells.nth(1).inner_text().split("\n")[0]
        exact = [each.get_attribute("data-exact") for each in row.locator("[data-exact]").all()]
        verdict = row.locator(".mr-chip").inner_text().split()[-1]
        found[region, method, route] = {"verdict": verdict, "exact": exact, "row": row}
    return found


def exact(interval: dict[str, Any]) -> str:
    return " ".join(str(interval[key]) for key in ("value", "low", "high"))


def test_an_analyst_goes_from_the_verdicts_to_a_waterfall(served: Served, browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(PATIENCE_MS)
    hosts: set[str] = set()
    failures: list[str] = []
    page.on("request", lambda request: hosts.add(request.url.split("/")[2].split(":")[0]))
    page.on("pageerror", lambda error: failures.append(str(error)))
    cells = served.correlate()
    assert len(cells) == 8

    # The overview: every cell with the verdict and the numbers of the command line.
    open_page(page, served.address())
    shown = rows_of(page)
    assert set(shown) == set(cells)
    for key, cell in cells.items():
        wanted = [exact(cell["ratio"][name]) for name in ("p95", "p50") if cell["ratio"][name]]
        assert (shown[key]["verdict"], shown[key]["exact"]) == (cell["verdict"], wanted), key
    untrue = sum(cell["verdict"] in {"optimistic", "pessimistic"} for cell in cells.values())
    expect(page.locator(".mr-head")).to_have_text(
        f"{untrue} of 8 endpoint-regions: tests do not represent users"
    )
    expect(page.locator(".mr-viewer").first).to_contain_text("ana")

    # Another region, another window: both stand in the address and survive a reload.
    page.get_by_role("combobox", name="Region").click()
    page.get_by_role("option", name="eu-central-1").click()
    page.wait_for_url(re.compile("region=eu-central-1"))
    expect(page.locator(VERDICTS)).to_have_count(4)
    page.get_by_role("radio", name="6 h").or_(page.get_by_role("button", name="6 h")).click()
    page.wait_for_url(re.compile("since=6h"))
    expect(page.locator(".mr-sub").first).to_contain_text("6 h to")
    page.reload()
    page.wait_for_selector(".mr-head")
    settle(page)
    assert {region for region, _, _ in rows_of(page)} == {"eu-central-1"}

    # One endpoint, by a click on its row.
    open_page(page, served.address(region="eu-central-1"))
    rows_of(page)["eu-central-1", "GET", "/search"]["row"].locator("a").click()
    page.wait_for_url(re.compile("page=endpoint"))
    expect(page.locator(".mr-head")).to_contain_text("as long as the tests say")
    settle(page)
    cell = cells["eu-central-1", "GET", "/search"]
    numbers = page.get_by_label("Latency with 95 % intervals").locator("tbody tr")
    for i, name in enumerate(("p50", "p95", "p99")):
        shown_row = [
            each.get_attribute("data-exact")
            for each in numbers.nth(i).locator("[data-exact]").all()
        ]
        sides = [cell[side][f"{name}_ms"] for side in ("production", "synthetic")]
        assert shown_row == [exact(interval) for interval in (*sides, cell["ratio"][name])], name
    expect(page.locator("[data-testid=stVegaLiteChart] :is(canvas, svg)")).to_have_count(6)

    # A waterfall, by a click on an example.
    page.locator("a.mr-trace").first.click()
    page.wait_for_url(re.compile("page=trace"))
    expect(page.locator(".mr-head")).to_contain_text("GET /search took")
    expect(page.locator(".mr-wf details")).to_have_count(2)
    page.locator(".mr-wf summary").nth(1).click()
    expect(page.locator(".mr-wf details[open]")).to_contain_text("db.system.name")
    page.locator(".mr-crumbs a").nth(1).click()
    expect(page.locator(".mr-head")).to_contain_text("as long as the tests say")

    assert failures == []
    assert hosts == {"127.0.0.1"}  # no statistics, no fonts, no icons from anywhere else
    page.close()

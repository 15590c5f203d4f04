"""The dashboard's login in a real browser, against a real provider process on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from mobius_instrumentation.zones import Zone
from mobius_pipeline.migrate import migrate
from mobius_pipeline.store import Purpose, connect
from tests.dashboard_server import (
    PATIENCE_MS,
    answering,
    free_port,
    open_browser,
    serve_dashboard,
    settle,
)
from tests.dashboards.sample_rows import Story, fill

pytestmark = [pytest.mark.system, pytest.mark.browser, pytest.mark.store]
expect.set_options(timeout=PATIENCE_MS)

SECRET = "the-client-secret-nobody-may-read"
CANARY = "/canary/{id}"


@dataclass(frozen=True)
class Provider:
    """A login provider; whoever logs in with it brings the claims that were given to their name."""

    url: str

    def give(self, name: str, **claims: Any) -> None:
        request = urllib.request.Request(
            f"{self.url}/users/{name}",
            data=json.dumps(claims).encode(),
            headers={"Content-Type": "application/json"},
            method="PUT",
        )
        urllib.request.urlopen(request).close()


@dataclass(frozen=True)
class Site:
    url: str
    provider: Provider
    log: Path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "oidc_provider_mock", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    answering(f"{url}/.well-known/openid-configuration", process)
    yield Provider(url)
    process.terminate()
    process.wait(timeout=30)


@pytest.fixture(scope="module")
def site(
    store_server: str, provider: Provider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A zone with a few requests, and a dashboard over it where people log in."""
    name = f"eu_{uuid4().hex[:8]}"
    zone = Zone(name, ("eu-west-1",), ("127.0.0.1:9",), store_server, f"rum_{name}")
    migrate(zone)
    client = connect(zone, Purpose.INGEST)
    since = datetime.now(UTC) - timedelta(minutes=30)
    fill(client, zone.regions, since, 10, stories=[Story("GET", CANARY, 40, 60)])
    folder = tmp_path_factory.mktemp("login")
    config = folder / "zones.toml"
    config.write_text(
        f'[zones.{name}]\nregions = ["eu-west-1"]\nkafka = ["127.0.0.1:9"]\nclickhouse = "{store_server}"\n'
        f'[groups.eu-cells]\naggregates = ["{name}"]\n[viewers]\nlocal = ["eu-cells"]\n',
        encoding="utf-8",
    )
    log = folder / "dashboard.log"
    with serve_dashboard(
        config,
        free_port(),
        log=log,
        MOBIUS_OIDC_ISSUER=provider.url,
        MOBIUS_OIDC_CLIENT_ID="rum",
        MOBIUS_OIDC_CLIENT_SECRET=SECRET,
    ) as url:
        yield Site(url, provider, log)
    client.command(f"DROP DATABASE {zone.database} SYNC")
    client.close()


def logged_in(context: BrowserContext, site: Site, name: str) -> Page:
    """Log in with the provider as ``name``; returns the page that comes back."""
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(site.url)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(f"{site.provider.url}/**")
    page.locator("input[name=sub]").fill(name)
    page.get_by_role("button", name="Authorize").click()
    page.wait_for_url(f"{site.url}/**")
    page.wait_for_selector(".mr-head, .mr-notice")
    settle(page)
    return page


def test_who_logs_in_sees_what_their_groups_see_for_as_long_as_they_may(
    site: Site, browser: Browser
) -> None:
    # 1. Nobody sees anything without a login, whatever the address says.
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{site.url}/?page=endpoint&route={CANARY}")
    expect(page.get_by_text("Log in to see this dashboard.")).to_be_visible()
    settle(page)
    assert page.get_by_role("combobox").count() == 0
    assert "canary" not in page.locator("body").inner_text()
    page.close()

    # 2. A member of a group of zones.toml sees its zone, as that group's level has it.
    site.provider.give("ana", email="ana@example.org", groups=["eu-cells", "elsewhere"])
    page = logged_in(context, site, "ana")
    expect(page.locator(".mr-table").first).to_contain_text(CANARY)
    expect(page.locator(".mr-viewer").first).to_contain_text("ana@example.org sees aggregates of")
    cookies = {cookie["name"]: cookie for cookie in context.cookies()}
    assert cookies["_streamlit_user"].get("httpOnly")

    # 3. The group is revoked at the provider: gone with the next login, which logging out asks for.
    site.provider.give("ana", email="ana@example.org", groups=["elsewhere"])
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url(f"{site.provider.url}/**")
    context.clear_cookies()
    page.close()
    page = logged_in(context, site, "ana")
    expect(page.get_by_text("You see no zone.")).to_be_visible()
    assert "canary" not in page.locator("body").inner_text()
    context.close()

    # 4. A name of [viewers] that a login brings gives nothing.
    context = browser.new_context()
    site.provider.give("mallory", email="local", groups=[])
    expect(logged_in(context, site, "mallory").get_by_text("You see no zone.")).to_be_visible()
    context.close()


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        # Refused before there is a cookie; what ours would say is in test_dashboard_identity.py.
        ({"aud": "another-application"}, "Log in to see this dashboard."),
        ({"iat": 1_700_000_000}, "Your login has expired."),
        ({"groups": {"eu-cells": True}}, "no list of names"),
    ],
)
def test_a_login_that_is_not_for_us_or_not_for_now_shows_nothing(
    site: Site, browser: Browser, claims: dict[str, Any], words: str
) -> None:
    context = browser.new_context()
    site.provider.give("bo", **{"groups": ["eu-cells"], **claims})
    page = logged_in(context, site, "bo")
    expect(page.get_by_text(words)).to_be_visible()
    assert page.get_by_role("combobox").count() == 0
    assert "canary" not in page.locator("body").inner_text()
    context.close()


def test_a_page_left_open_is_emptied_when_the_login_ends(site: Site, browser: Browser) -> None:
    context = browser.new_context()
    site.provider.give("cy", groups=["eu-cells"], exp=int(time.time()) + 15)
    page = logged_in(context, site, "cy")
    expect(page.locator(".mr-table").first).to_contain_text(CANARY)
    expect(page.get_by_text("Your login has expired.")).to_be_visible()
    settle(page)
    expect(page.locator(".mr-table")).to_have_count(0)
    assert "canary" not in page.locator("body").inner_text()
    # Neither does another page with the same cookie show anything.
    other = context.new_page()
    other.goto(site.url)
    expect(other.get_by_text("Your login has expired.")).to_be_visible()
    context.close()
    assert SECRET not in site.log.read_text()

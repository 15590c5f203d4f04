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
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, WebSocket, expect

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
from tests.faulty_proxy import faulty_proxy

pytestmark = [pytest.mark.system, pytest.mark.browser, pytest.mark.store]
expect.set_options(timeout=PATIENCE_MS)

SECRET = "the-client-secret-nobody-may-read"
CANARY = "/canary/{id}"
FOREIGN_ROUTE = "/of-another-zone/{id}"
FOREIGN = "release-of-another-zone"


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
    """A dashboard of two zones, where people log in. ``asked`` is what the store of ``foreign`` was asked."""

    url: str
    provider: Provider
    log: Path
    foreign: Zone
    trace: str
    asked: list[bytes]


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
    """Zone eu with a group that sees its aggregates, zone us that nobody sees."""
    mark = uuid4().hex[:8]
    folder = tmp_path_factory.mktemp("login")
    asked: list[bytes] = []
    with faulty_proxy(store_server, asked.append) as watched:
        eu = Zone(f"eu_{mark}", ("eu-west-1",), ("127.0.0.1:9",), store_server, f"rum_eu_{mark}")
        us = Zone(f"us_{mark}", ("us-east-1",), ("127.0.0.1:9",), watched, f"rum_us_{mark}")
        _fill(eu, CANARY, "1.0")
        trace = _fill(us, FOREIGN_ROUTE, FOREIGN)
        config = folder / "zones.toml"
        tables = (
            f'[zones.{zone.name}]\nregions = ["{zone.regions[0]}"]\nkafka = ["127.0.0.1:9"]\n'
            f'clickhouse = "{zone.clickhouse}"\n'
            for zone in (eu, us)
        )
        groups = f'[groups.eu-cells]\naggregates = ["{eu.name}"]\n[viewers]\nlocal = ["eu-cells"]\n'
        config.write_text("".join((*tables, groups)), encoding="utf-8")
        log = folder / "dashboard.log"
        with serve_dashboard(
            config,
            free_port(),
            log=log,
            MOBIUS_OIDC_ISSUER=provider.url,
            MOBIUS_OIDC_CLIENT_ID="rum",
            MOBIUS_OIDC_CLIENT_SECRET=SECRET,
        ) as url:
            asked.clear()
            yield Site(url, provider, log, us, trace, asked)
    client = connect(eu, Purpose.MIGRATE, database="default")
    for zone in (eu, us):
        client.command(f"DROP DATABASE {zone.database} SYNC")
    client.close()


def _fill(zone: Zone, route: str, release: str) -> str:
    migrate(zone)
    since = datetime.now(UTC) - timedelta(minutes=30)
    client = connect(zone, Purpose.INGEST)
    stories = [Story("GET", route, 40, 60)]
    traces = fill(client, zone.regions, since, 10, stories=stories, release=release)
    client.close()
    return traces[0]


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


def test_no_address_shows_another_zone_to_who_has_logged_in(site: Site, browser: Browser) -> None:
    context = browser.new_context()
    site.provider.give("di", groups=["eu-cells"])
    page = logged_in(context, site, "di")
    expect(page.locator(".mr-table").first).to_contain_text(CANARY)
    received: list[bytes] = []

    def listen(socket: WebSocket) -> None:
        socket.on(
            "framereceived",
            lambda frame: received.append(frame if isinstance(frame, bytes) else frame.encode()),
        )

    page.on("websocket", listen)
    page.goto(site.url)
    expect(page.locator(".mr-table").first).to_contain_text(CANARY)
    assert CANARY.encode() in b"".join(received)  # so it would be found
    for address in (
        {"zone": site.foreign.name},
        {"region": "us-east-1"},
        {"page": "endpoint", "route": FOREIGN_ROUTE},
        {"page": "endpoint", "route": FOREIGN_ROUTE, "zone": site.foreign.name},
        {"page": "trace", "trace": site.trace},
        {"page": "trace", "trace": site.trace, "zone": site.foreign.name},
    ):
        received.clear()
        page.goto(f"{site.url}/?{urlencode(address)}")
        page.wait_for_selector(".mr-head, .mr-notice")
        settle(page)
        data = b"\n".join(received) + page.content().encode()
        assert b"mr-viewer" in b"".join(received)
        for secret in (FOREIGN, "SELECT shop", "us-east-1", FOREIGN_ROUTE, site.trace):
            if secret not in address.values():
                assert secret.encode() not in data, (address, secret)
    assert site.asked == []
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

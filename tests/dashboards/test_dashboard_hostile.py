"""Whoever may not see a zone gets nothing of it, whatever the address says, and the zone's store is not even asked."""

from __future__ import annotations

import os
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import streamlit as st
from clickhouse_connect.driver.client import Client
from streamlit.testing.v1 import AppTest

from mobius_analysis.findings import Finding, save_findings
from mobius_dashboards.clients import client_for
from mobius_dashboards.viewer import Viewer
from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import TerminalError
from mobius_pipeline.migrate import migrate
from mobius_pipeline.options import format_time
from mobius_pipeline.residency.tables import ROW_TABLES
from mobius_pipeline.store import Purpose, connect
from tests.dashboards.page import APP, whole
from tests.dashboards.sample_rows import Story, fill
from tests.faulty_proxy import Failure, faulty_proxy

pytestmark = pytest.mark.store

MINUTES = 20
POLICY = """
[groups.both]
spans = ["{eu}", "{us}"]
[groups.eu-rows]
spans = ["{eu}"]
[groups.eu-cells]
aggregates = ["{eu}"]
[groups.hub-only]
aggregates = ["hub"]
[groups.us-cells]
spans = ["{eu}"]
aggregates = ["{us}"]
[hub]
clickhouse = "http://127.0.0.1:9"
[viewers]
admin = ["both"]
rows = ["eu-rows"]
cells = ["eu-cells"]
hubber = ["hub-only"]
mixed = ["us-cells"]
"""
# Who may see nothing of zone us at all; the last is in no group.
STRANGERS = ("rows", "cells", "hubber", "stranger")
# The name of a span that only a waterfall shows.
ROW = "SELECT shop"
READ = re.compile(rb"(?:FROM|JOIN)\s+`?(\w+)")


@dataclass
class Guarded:
    """A zone, what its store was asked, and what may never be seen of it."""

    zone: Zone
    region: str
    route: str
    trace: str
    asked: list[bytes] = field(default_factory=list)

    @property
    def canary(self) -> str:
        """Stands in the zone's release, service, finding and attributes, and in no address."""
        return f"canary-{self.region}"

    def seen_in(self, text: str, address: dict[str, str]) -> list[str]:
        """What of the zone is in a page, but for what the page was asked for and repeats."""
        secrets = (self.canary, self.region, self.route, self.trace, self.trace[:8], ROW)
        return [each for each in secrets if each in text and each not in " ".join(address.values())]

    @property
    def rows_read(self) -> set[str]:
        """Tables of single requests that its store was asked for."""
        return {each.decode() for text in self.asked for each in READ.findall(text)} & {*ROW_TABLES}


@dataclass(frozen=True)
class World:
    eu: Guarded
    us: Guarded
    window: dict[str, str]


@pytest.fixture(scope="module")
def world(store_server: str) -> Iterator[World]:
    """Two zones with rows, each behind a proxy that writes down what its store is asked."""
    mark = uuid4().hex[:8]
    since = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=MINUTES + 5)
    with ExitStack() as open_until_the_end:
        zones = []
        for i, (name, region) in enumerate((("eu", "eu-west-1"), ("us", "us-east-1"))):
            asked: list[bytes] = []
            url = open_until_the_end.enter_context(faulty_proxy(store_server, _listen(asked)))
            zone = Zone(f"{name}_{mark}", (region,), ("127.0.0.1:9",), url, f"rum_{name}_{mark}")
            zones.append(_filled(zone, i, since, asked))
        until = since + timedelta(minutes=MINUTES)
        yield World(zones[0], zones[1], {"since": format_time(since), "until": format_time(until)})
        client = connect(zones[0].zone, Purpose.MIGRATE, database="default")
        for each in zones:
            client.command(f"DROP DATABASE {each.zone.database} SYNC")
        client.close()
        st.cache_data.clear()


def _listen(asked: list[bytes]) -> Callable[[bytes], Failure | None]:
    def plan(request: bytes) -> None:
        asked.append(request)

    return plan


def _filled(zone: Zone, seed: int, since: datetime, asked: list[bytes]) -> Guarded:
    migrate(zone)
    region = zone.regions[0]
    story = Story("GET", f"/of-{seed}/{{id}}", 40, 60)
    client = connect(zone, Purpose.INGEST)
    traces = fill(
        client,
        zone.regions,
        since,
        MINUTES,
        stories=[story],
        release=f"canary-{region}-release",
        seed=seed,
    )
    finding = Finding(
        "blind_spot", region, f"canary-{region}-service", "GET", story.route, "critical", since,
        f"canary-{region} got slower", {"why": f"canary-{region}"}, anchor="1",
    )  # fmt: skip
    save_findings(client, [finding], datetime.now(UTC))
    _fill_books(client, since, f"canary-{region}")
    client.close()
    return Guarded(zone, region, story.route, traces[0], asked)


def _fill_books(client: Client, at: datetime, canary: str) -> None:
    """What the residency page shows of a zone."""
    client.insert(
        "quarantine",
        [["region is not of this zone", canary, "shop", 1, "", 0, 0, "", at]],
        ["reason", "region", "service", "spans", "topic", "partition", "offset", "payload", "at"],
    )
    client.insert(
        "removed_attributes",
        [[at.replace(minute=0), "", canary, 1, 1]],
        ["hour", "region", "service", "spans", "attributes"],
    )
    client.insert("audit_log", [[at, uuid4(), canary, "trace"]], ["at", "id", "viewer", "action"])


@pytest.fixture
def looking(
    world: World, zones_file_factory: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], None]:
    """Make somebody the viewer of a dashboard of both zones."""
    file = zones_file_factory(world.eu.zone, world.us.zone)
    policy = POLICY.format(eu=world.eu.zone.name, us=world.us.zone.name)
    file.write_text(file.read_text(encoding="utf-8") + policy, encoding="utf-8")
    monkeypatch.setenv("MOBIUS_CONFIG", str(file))
    for name in [name for name in os.environ if name.startswith("MOBIUS_VIEWER")]:
        monkeypatch.delenv(name)
    return lambda name: monkeypatch.setenv("MOBIUS_VIEWER", name)


def page(**params: str) -> AppTest:
    app = AppTest.from_file(APP, default_timeout=60)
    for name, value in params.items():
        app.query_params[name] = value
    return app.run()


def addresses(zone: Guarded, window: dict[str, str]) -> list[dict[str, str]]:
    """Addresses of every page that mean the zone, by each thing that can name it."""
    name, route = zone.zone.name, zone.route
    found = [
        {},
        {"zone": name},
        {"region": zone.region},
        {"service": "storefront", "environment": "production"},
        {"page": "endpoint", "route": route},
        {"page": "endpoint", "route": route, "zone": name},
        {"page": "endpoint", "method": "GET", "route": route, "region": zone.region},
        {"page": "trace", "trace": zone.trace},
        {"page": "trace", "trace": zone.trace, "zone": name},
        {"page": "trace", "trace": zone.trace, "region": zone.region, "at": window["since"]},
        {"page": "residency"},
        {"page": "residency", "zone": name},
        {"page": "residency", "region": zone.region},
    ]
    return [{**each, **window} for each in found]


def fill_caches(zone: Guarded, world: World, looking: Callable[[str], None]) -> None:
    """Let somebody look who may: whatever a cache can hold for others, it holds."""
    looking("admin")
    for which in (
        {},
        {"page": "endpoint", "route": zone.route},
        {"page": "trace", "trace": zone.trace},
        {"page": "residency"},
    ):
        page(**which, **world.window)
    settled()
    zone.asked.clear()


def settled() -> None:
    """Wait for the questions that a page asked beside itself."""
    for thread in threading.enumerate():
        if thread.name.startswith("lag-"):
            thread.join(30)


def test_a_viewer_of_both_zones_sees_what_others_may_not(
    world: World, looking: Callable[[str], None]
) -> None:
    """What follows would prove nothing if these pages did not show it all to whoever may see it."""
    zone = world.us
    looking("admin")
    seen: dict[str, str] = defaultdict(str)
    for address in addresses(zone, world.window):
        seen[address.get("page", "overview")] += whole(page(**address))
    settled()
    assert set(zone.seen_in(seen["overview"], {})) == {zone.canary, zone.region, zone.route}
    assert f"{zone.canary} got slower" in seen["overview"]
    assert f"{zone.canary}-release" in seen["endpoint"]
    assert f"{zone.canary}-release" in seen["trace"]
    assert zone.trace[:8] in seen["trace"]
    assert (
        seen["residency"].count(f">{zone.canary}<") >= 3 * 3
    )  # region, service and viewer; three addresses
    assert ROW in seen["trace"]
    assert {"spans", "dead_letters", "quarantine"} <= zone.rows_read


def test_nothing_of_a_foreign_zone_appears_and_its_store_is_not_asked(
    world: World, looking: Callable[[str], None]
) -> None:
    zone = world.us
    fill_caches(zone, world, looking)
    for name in STRANGERS:
        looking(name)
        for address in addresses(zone, world.window):
            assert zone.seen_in(whole(page(**address)), address) == [], (name, address)
        settled()
        assert zone.asked == [], name


def test_a_viewer_of_aggregates_gets_no_row_and_no_table_of_rows_is_read(
    world: World, looking: Callable[[str], None]
) -> None:
    zone = world.us
    fill_caches(zone, world, looking)
    looking("mixed")
    shown = ""
    for address in addresses(zone, world.window):
        text = whole(page(**address))
        assert set(zone.seen_in(text, address)) <= {zone.canary, zone.region, zone.route}
        shown += text
    settled()
    assert zone.canary in shown
    assert zone.asked
    assert zone.rows_read == set()


def test_a_session_keeps_nothing_for_another_viewer(
    world: World, looking: Callable[[str], None]
) -> None:
    looking("admin")
    address = {"page": "endpoint", "route": world.us.route, **world.window}
    app = page(**address)
    assert world.us.canary in whole(app)
    app.session_state["left"] = world.us.canary
    world.us.asked.clear()
    looking("rows")
    app.run()
    assert world.us.seen_in(whole(app), address) == []
    assert "left" not in app.session_state
    settled()
    assert world.us.asked == []


def test_what_the_file_takes_away_is_gone_at_the_next_look(
    world: World, looking: Callable[[str], None]
) -> None:
    looking("admin")
    file = Path(os.environ["MOBIUS_CONFIG"])
    app = page(**world.window)
    assert world.us.canary in whole(app)
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace('admin = ["both"]', 'admin = ["eu-rows"]'), encoding="utf-8")
    shown = whole(app.run())
    assert world.us.seen_in(shown, {}) == []
    assert world.eu.canary in shown


def test_a_policy_that_contradicts_itself_shows_nothing(
    world: World, looking: Callable[[str], None]
) -> None:
    looking("admin")
    file = Path(os.environ["MOBIUS_CONFIG"])
    app = page(**world.window)
    with file.open("a", encoding="utf-8") as text:
        text.write('[groups.wrong]\nspans = ["mars"]\n')
    shown = whole(app.run())
    assert "groups.wrong.spans" in shown
    assert "no zone &#x27;mars&#x27;" in shown
    for zone in (world.eu, world.us):
        assert zone.seen_in(shown, {}) == []


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, "MOBIUS_OIDC_CLIENT_ID: is missing"),
        ({"CLIENT_ID": "rum"}, "Log in to see this dashboard."),
        ({"CLIENT_ID": "rum", "CLIENTID": "rum"}, "unknown variable"),
    ],
)
def test_where_a_login_is_asked_for_no_local_user_sees_anything(
    world: World,
    looking: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    words: str,
) -> None:
    looking("admin")
    app = page(**world.window)
    assert world.us.canary in whole(app)
    monkeypatch.setenv("MOBIUS_OIDC_ISSUER", "https://login.example")
    for name, value in variables.items():
        monkeypatch.setenv(f"MOBIUS_OIDC_{name}", value)
    for shown in (whole(app.run()), whole(page(**world.window))):
        assert words in shown
        for zone in (world.eu, world.us):
            assert zone.seen_in(shown, {}) == []
            assert zone.zone.name not in shown


def test_a_viewers_client_only_reads_and_not_without_end(world: World) -> None:
    zone = world.eu.zone
    viewer = Viewer("ana", ((zone.name, "spans"),))
    for sql in ("TRUNCATE TABLE spans", "SELECT number FROM numbers(600000)"):
        with pytest.raises(TerminalError), client_for(viewer, zone) as client:
            client.query(sql)
    with client_for(viewer, zone) as client:
        assert client.query("SELECT count() > 0 FROM spans").result_rows == [(True,)]

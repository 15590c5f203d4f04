from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobius_instrumentation.zones import ZonesError, load_zones, parse_zones

TEXT = """
[hub]
clickhouse = "http://127.0.0.1:8130"

[zones.eu]
regions = ["eu-west-1", "eu-central-1"]
kafka = ["127.0.0.1:9092", "127.0.0.1:9093"]
clickhouse = "http://127.0.0.1:8131"

[zones.us]
regions = ["us-east-1"]
kafka = ["127.0.0.1:9094"]
clickhouse = "https://store.example:8443"
database = "spans_us"
"""


def zone(**changes: Any) -> dict[str, Any]:
    table = {"regions": ["r1"], "kafka": ["h:1"], "clickhouse": "http://h:2"}
    return {key: value for key, value in {**table, **changes}.items() if value is not None}


def test_reads_a_file(tmp_path: Path) -> None:
    file = tmp_path / "zones.toml"
    file.write_text(TEXT)
    zones = load_zones(file)
    assert [z.name for z in zones] == ["eu", "us"]
    assert zones.regions == ("eu-west-1", "eu-central-1", "us-east-1")
    eu, us = zones
    assert eu.kafka == ("127.0.0.1:9092", "127.0.0.1:9093")
    assert (eu.database, us.database) == ("rum_eu", "spans_us")
    assert (eu.spans_topic, eu.dead_letters_topic) == ("rum.spans.eu", "rum.dead-letters.eu")
    assert zones.hub is not None
    assert (zones.hub.database, zones.hub.clickhouse) == ("rum_hub", "http://127.0.0.1:8130")
    assert zones.zone_of("eu-central-1") is eu
    assert zones.zone_of("us-east-1") is us


def test_keys_of_the_policy_change_nothing_in_the_map() -> None:
    policy = {
        "least_subjects": 20,
        "reason_for_rows": True,
        "backups": ["s3://backups/eu"],
        "attributes": ["shop.tier"],
        "retention": {"spans": 30},
        "to_hub": {"tables": []},
    }
    others = {"groups": {"sre": {"spans": ["eu"]}}, "viewers": {"ana": ["sre"]}}
    plain = parse_zones({"zones": {"eu": zone()}})
    assert parse_zones({"zones": {"eu": zone(**policy)}, **others}) == plain


def test_an_unknown_region_is_in_no_zone() -> None:
    zones = parse_zones({"zones": {"eu": zone(regions=["eu-west-1"])}})
    for region in ("", "eu", "eu-west-10", "EU-WEST-1", "eu-west-1 "):
        assert zones.zone_of(region) is None


def test_one_region_has_one_zone() -> None:
    with pytest.raises(ZonesError, match=r"'r1' belongs to zone 'eu' already") as caught:
        parse_zones({"zones": {"eu": zone(), "us": zone(regions=["r2", "r1"])}}, "map.toml")
    assert (caught.value.file, caught.value.key) == ("map.toml", "zones.us.regions")


@pytest.mark.parametrize(
    ("document", "key"),
    [
        ({}, "zones"),
        ({"zones": {}}, "zones"),
        ({"zones": 3}, "zones"),
        ({"zones": {"EU": zone()}}, "zones.EU"),
        ({"zones": {"e-u": zone()}}, "zones.e-u"),
        ({"zones": {"eu": 1}}, "zones.eu"),
        ({"zones": {"eu": zone(password="x")}}, "zones.eu.password"),
        ({"zones": {"eu": zone(regions=None)}}, "zones.eu.regions"),
        ({"zones": {"eu": zone(regions=[])}}, "zones.eu.regions"),
        ({"zones": {"eu": zone(regions="r1")}}, "zones.eu.regions"),
        ({"zones": {"eu": zone(kafka=[1])}}, "zones.eu.kafka"),
        ({"zones": {"eu": zone(kafka=None)}}, "zones.eu.kafka"),
        ({"zones": {"eu": zone(kafka=["h"])}}, "zones.eu.kafka"),
        ({"zones": {"eu": zone(kafka=["h:1", "kafka://h:1"])}}, "zones.eu.kafka"),
        ({"zones": {"eu": zone(clickhouse="h:2")}}, "zones.eu.clickhouse"),
        ({"zones": {"eu": zone(kafka=["h:0"])}}, "zones.eu.kafka"),
        ({"zones": {"eu": zone(kafka=["h:65536"])}}, "zones.eu.kafka"),
        ({"zones": {"eu": zone(kafka=["[:::]:1"])}}, "zones.eu.kafka"),
        ({"zones": {"eu": zone(clickhouse="http://user:secret@h:2")}}, "zones.eu.clickhouse"),
        ({"zones": {"eu": zone(clickhouse="http://h:2\n")}}, "zones.eu.clickhouse"),
        ({"zones": {"eu": zone(clickhouse="http://h:x")}}, "zones.eu.clickhouse"),
        ({"zones": {"eu": zone(clickhouse="http://h:99999")}}, "zones.eu.clickhouse"),
        ({"zones": {"eu": zone(clickhouse="http://:8123")}}, "zones.eu.clickhouse"),
        ({"zones": {"eu": zone(clickhouse="http://[1]:8123")}}, "zones.eu.clickhouse"),
        ({"zones": {"eu": zone(clickhouse="http://h?a=1")}}, "zones.eu.clickhouse"),
        ({"zones": {"eu": zone(database="rum_eu; DROP")}}, "zones.eu.database"),
        ({"zones": {"eu": zone()}, "hub": {"clickhouse": 1}}, "hub.clickhouse"),
        ({"zones": {"eu": zone()}, "hub": []}, "hub"),
    ],
)
def test_a_wrong_map_names_the_key(document: dict[str, Any], key: str) -> None:
    with pytest.raises(ZonesError) as caught:
        parse_zones(document, "map.toml")
    assert caught.value.key == key
    assert str(caught.value).startswith(f"map.toml: {key}: ")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read"),
        (b"[zones", "is not TOML"),
        (b"\xff\xfe\x00", "is not UTF-8"),
        (b"a = " + b"9" * 5_000, "is not TOML"),
        (b"a = " + b"[" * 5_000 + b"]" * 5_000, "is not TOML"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    tmp_path: Path, content: bytes | None, says: str
) -> None:
    file = tmp_path / "zones.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ZonesError, match=says) as caught:
        load_zones(file)
    assert caught.value.file == str(file)


def test_an_error_is_short_whatever_the_map_holds() -> None:
    with pytest.raises(ZonesError) as caught:
        parse_zones({"zones": {"eu": zone(**{"k" * 100_000: 1})}}, "map.toml")
    assert len(str(caught.value)) < 1_000


def test_addresses_of_every_form_are_taken() -> None:
    addresses = ["h:1", "127.0.0.1:65535", "[::1]:9092", "kafka-0.kafka.svc:9092"]
    stores = ["http://h", "https://store.example:8443", "http://[::1]:8123", "http://[fe80::1]"]
    for store in stores:
        (found,) = parse_zones({"zones": {"eu": zone(kafka=addresses, clickhouse=store)}})
        assert (found.kafka, found.clickhouse) == (tuple(addresses), store)


@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9_]{0,5}", fullmatch=True),
        st.lists(st.sampled_from([f"r{i}" for i in range(8)]), min_size=1, max_size=4, unique=True),
        min_size=1,
        max_size=4,
    )
)
def test_whatever_the_map_a_region_is_in_at_most_one_zone(regions: dict[str, list[str]]) -> None:
    document = {"zones": {name: zone(regions=own) for name, own in regions.items()}}
    every = [region for own in regions.values() for region in own]
    if len(every) != len(set(every)):
        with pytest.raises(ZonesError):
            parse_zones(document)
        return
    zones = parse_zones(document)
    for name, own in regions.items():
        for region in own:
            found = zones.zone_of(region)
            assert found is not None
            assert found.name == name

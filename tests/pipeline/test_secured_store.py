"""A store over TLS: what works, and what is said where it does not."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mobius_instrumentation.zones import Zone
from mobius_pipeline.errors import DependencyError, UsageError
from mobius_pipeline.kafka_client import ensure_topics
from mobius_pipeline.migrate import migrate
from mobius_pipeline.store import Purpose, _pools, connect
from tests.certificates import Authority, Signed
from tests.conftest import start_store, stop_process
from tests.pipeline.otlp import make_message, make_resource, make_span, publish
from tests.pipeline.test_worker import drain, rows

pytestmark = [pytest.mark.store, pytest.mark.kafka]

PASSWORD = f"pw-{os.urandom(8).hex()}"
Set = Callable[..., None]


@dataclass(frozen=True, slots=True)
class SecuredStores:
    """Stores by what their certificates are: good, expired, elsewhere (another host's), mutual (wants ours)."""

    urls: dict[str, str]
    authority: Authority
    other: Authority
    client: Signed
    key_password: str


@pytest.fixture(scope="module")
def stores() -> Iterator[SecuredStores]:
    folder = Path(tempfile.mkdtemp(prefix="mobius-secured-"))
    authority = Authority(folder)
    key_password = os.urandom(8).hex()
    certificates = {
        "good": authority.sign("good"),
        "expired": authority.sign("expired", days=-1),
        "elsewhere": authority.sign("elsewhere", host="DNS:store.example"),
        "mutual": authority.sign("mutual"),
    }
    urls, processes = {}, []
    for name, signed in certificates.items():
        options = ["--tls-cert", str(signed.cert), "--tls-key", str(signed.key)]
        if name == "mutual":
            options += ["--tls-client-ca", str(authority.cert)]
        environment = {"MOBIUS_STORE_PASSWORD": PASSWORD}
        process, urls[name] = start_store(folder / name, *options, environment=environment)
        processes.append(process)
    client = authority.sign("client", key_password=key_password)
    yield SecuredStores(urls, authority, Authority(folder / "other"), client, key_password)
    for _, pool in _pools.values():
        # Over TLS a server waits for its clients' goodbye before it ends.
        pool.clear()
    for process in processes:
        stop_process(process)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def zone(stores: SecuredStores, broker: str) -> Zone:
    name = f"eu_{os.urandom(4).hex()}"
    return Zone(name, ("eu-west-1",), (broker,), stores.urls["good"], f"rum_{name}")


@pytest.fixture
def give(zone: Zone, monkeypatch: pytest.MonkeyPatch) -> Set:
    def give(**values: object) -> None:
        for name, value in {"PASSWORD": PASSWORD, **values}.items():
            monkeypatch.setenv(f"MOBIUS_{zone.name.upper()}_CLICKHOUSE_{name}", str(value))

    return give


def refusal(zone: Zone) -> str:
    with pytest.raises(DependencyError) as refused:
        connect(zone, Purpose.ANALYSIS, database="default")
    return str(refused.value)


def test_migrations_and_worker_over_tls(zone: Zone, stores: SecuredStores, give: Set) -> None:
    give(CA_FILE=stores.authority.cert)
    migrate(zone)
    ensure_topics(zone)
    ids = [os.urandom(8) for _ in range(30)]
    publish(
        zone,
        [(0, make_message(make_resource([make_span(span_id=each)]))) for each in ids],
    )
    drain(zone)
    assert Counter(row[0] for row in rows(zone, "SELECT span_id FROM spans")) == Counter(ids)


def test_a_store_that_wants_our_certificate(zone: Zone, stores: SecuredStores, give: Set) -> None:
    zone = replace(zone, clickhouse=stores.urls["mutual"])
    give(CA_FILE=stores.authority.cert)
    assert "CLICKHOUSE_CERT_FILE" in refusal(zone)
    give(
        CA_FILE=stores.authority.cert,
        CERT_FILE=stores.client.cert,
        KEY_FILE=stores.client.key,
        KEY_PASSWORD=stores.key_password,
    )
    connect(zone, Purpose.ANALYSIS, database="default").close()


@pytest.mark.parametrize(
    ("which", "said"),
    [
        ("expired", "certificate has expired): the server's certificate has expired"),
        ("elsewhere", "certificate is another host's"),
    ],
)
def test_a_certificate_that_is_no_good(
    zone: Zone, stores: SecuredStores, give: Set, which: str, said: str
) -> None:
    give(CA_FILE=stores.authority.cert)
    assert said in refusal(replace(zone, clickhouse=stores.urls[which]))


def test_another_name_for_the_same_store(zone: Zone, stores: SecuredStores, give: Set) -> None:
    give(CA_FILE=stores.authority.cert, SERVER_NAME="store.example")
    elsewhere = replace(zone, clickhouse=stores.urls["elsewhere"])
    connect(elsewhere, Purpose.ANALYSIS, database="default").close()
    assert "certificate is another host's" in refusal(zone)


def test_an_authority_that_did_not_sign(zone: Zone, stores: SecuredStores, give: Set) -> None:
    variable = f"MOBIUS_{zone.name.upper()}_CLICKHOUSE_CA_FILE"
    assert f"name the right one in {variable}" in refusal(zone)
    give(CA_FILE=stores.other.cert)
    assert f"name the right one in {variable}" in refusal(zone)


def test_a_wrong_password(zone: Zone, stores: SecuredStores, give: Set) -> None:
    give(CA_FILE=stores.authority.cert, PASSWORD="another")
    assert f"MOBIUS_{zone.name.upper()}_CLICKHOUSE_PASSWORD" in refusal(zone)


def test_tls_to_a_port_without_it_and_the_other_way_round(
    zone: Zone, stores: SecuredStores, give: Set, store_server: str
) -> None:
    give()
    assert "is it a port of TLS?" in refusal(
        replace(zone, clickhouse=store_server.replace("http:", "https:"))
    )
    clear = replace(zone, clickhouse=stores.urls["good"].replace("https:", "http:"))
    assert clear.clickhouse in refusal(clear)


def test_a_renewed_certificate_is_read(
    zone: Zone, stores: SecuredStores, give: Set, tmp_path: Path
) -> None:
    file = tmp_path / "ca.pem"
    shutil.copy(stores.other.cert, file)
    give(CA_FILE=file)
    refusal(zone)
    shutil.copy(stores.authority.cert, file)
    connect(zone, Purpose.ANALYSIS, database="default").close()


def test_variables_that_cannot_be_used_are_named(
    zone: Zone, stores: SecuredStores, give: Set, tmp_path: Path
) -> None:
    def problem(which: Zone = zone) -> str:
        with pytest.raises(UsageError) as wrong:
            connect(which, Purpose.ANALYSIS, database="default")
        return str(wrong.value)

    empty = tmp_path / "empty.pem"
    empty.write_text("nothing\n")
    give(CA_FILE=empty)
    assert "CLICKHOUSE_CA_FILE: holds no certificate" in problem()
    give(CA_FILE=tmp_path / "missing.pem")
    assert "CLICKHOUSE_CA_FILE: the file cannot be read" in problem()
    give(CA_FILE=stores.authority.cert, KEY_FILE=stores.client.key)
    assert "has no effect without" in problem()
    give(CERT_FILE=stores.client.cert, KEY_PASSWORD="wrong")
    assert "KEY_PASSWORD is wrong" in problem()
    clear = replace(zone, clickhouse="http://127.0.0.1:1")
    assert "give an address with https://" in problem(clear)
    assert PASSWORD not in problem(clear)

"""A real Apache Kafka with ports for TLS, for passwords, and with certificates that are no good; for tests."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ScramMechanism, UserScramCredentialUpsertion

from mobius_infra.kafka_broker import KafkaBroker, Listener, free_ports
from mobius_instrumentation.zones import Zone
from tests.certificates import Authority, Signed

__all__ = ["USER", "SecuredKafka", "kafka_variables", "secured_broker"]

USER: Final = "rum"
_PLAIN: Final = "org.apache.kafka.common.security.plain.PlainLoginModule"
_SCRAM: Final = "org.apache.kafka.common.security.scram.ScramLoginModule"


@dataclass(frozen=True, slots=True)
class SecuredKafka:
    """The broker; ``password`` is the user's, ``client`` the certificate that the port TLS asks for."""

    broker: KafkaBroker
    ports: dict[str, str]
    authority: Authority
    other: Authority
    client: Signed
    key_password: str
    password: str

    def zone(self, zone: Zone, port: str) -> Zone:
        """The zone, reached over another port: TLS, SASL, CLEAR, EXPIRED or ELSEWHERE."""
        return replace(zone, kafka=(self.ports[port],))


def kafka_variables(
    zone: Zone, monkeypatch: pytest.MonkeyPatch, values: Mapping[str, object]
) -> dict[str, str]:
    """Set the zone's Kafka variables; returns them."""
    named = {f"MOBIUS_{zone.name.upper()}_KAFKA_{name}": str(v) for name, v in values.items()}
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    return named


def _tls(signed: Signed) -> dict[str, str]:
    return {"ssl.keystore.type": "PEM", "ssl.keystore.location": str(signed.both)}


@contextmanager
def secured_broker() -> Iterator[SecuredKafka]:
    """Start it in a folder of its own; raises KafkaMissingError where it cannot be started."""
    folder = Path(tempfile.mkdtemp(prefix="mobius-secured-"))
    try:
        authority = Authority(folder / "ca")
        good = authority.sign("broker")
        password, key_password = f"pw-{uuid4().hex}", f"key-{uuid4().hex}"
        sasl = {
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            "plain.sasl.jaas.config": f'{_PLAIN} required user_{USER}="{password}";',
            "scram-sha-256.sasl.jaas.config": f"{_SCRAM} required;",
            "scram-sha-512.sasl.jaas.config": f"{_SCRAM} required;",
        }
        trust = {
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(authority.cert),
            "ssl.client.auth": "required",
        }
        expired = authority.sign("expired", days=-1)
        elsewhere = authority.sign("elsewhere", host="DNS:elsewhere.example")
        kinds: dict[str, tuple[str, dict[str, str]]] = {
            "TLS": ("SSL", _tls(good) | trust),
            "SASL": ("SASL_SSL", _tls(good) | sasl),
            "CLEAR": ("SASL_PLAINTEXT", sasl),
            "EXPIRED": ("SASL_SSL", _tls(expired) | sasl),
            "ELSEWHERE": ("SASL_SSL", _tls(elsewhere) | sasl),
        }
        ports = free_ports(*[0] * len(kinds))
        listeners = [
            Listener(name, protocol, port, settings=settings)
            for port, (name, (protocol, settings)) in zip(ports, kinds.items(), strict=True)
        ]
        with KafkaBroker(folder / "kafka", listeners=listeners) as broker:
            _add_scram_user(broker, password)
            yield SecuredKafka(
                broker,
                {each.name: each.address for each in listeners},
                authority,
                Authority(folder / "other"),
                authority.sign("client", key_password=key_password),
                key_password,
                password,
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _add_scram_user(broker: KafkaBroker, password: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=broker.address)
    for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
        problems = admin.alter_user_scram_credentials(
            [UserScramCredentialUpsertion(USER, mechanism, password.encode())]
        )
        assert not any(problems.values()), problems
    admin.close()

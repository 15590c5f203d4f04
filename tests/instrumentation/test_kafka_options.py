"""The variables of a zone's Kafka: what is refused, by which name, and what the documentation says of them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from kafka.errors import InvalidReceiveError, KafkaConnectionError

from mobius_instrumentation import ConfigurationError, instrument
from mobius_instrumentation.kafka_options import KAFKA_VARIABLES, kafka_settings
from mobius_instrumentation.kafka_probe import connection_remedy
from mobius_instrumentation.zone_variables import Secret, VariableError, variables_table
from mobius_instrumentation.zones import Zone

DOCS = Path(__file__).parents[2] / "docs" / "operations.md"
ZONE = Zone("eu", ("eu-west-1",), ("127.0.0.1:9092",), "http://127.0.0.1:8123", "rum_eu")
AWAY = Zone("eu", ("eu-west-1",), ("kafka.example:9092",), "http://127.0.0.1:8123", "rum_eu")
SASL = {"SASL_MECHANISM": "PLAIN", "SASL_USERNAME": "rum", "SASL_PASSWORD": "secret"}


def settings(zone: Zone = ZONE, /, **values: str) -> dict[str, object]:
    return kafka_settings(zone, {f"MOBIUS_EU_KAFKA_{name}": v for name, v in values.items()})


def test_nothing_set_is_no_tls_and_no_password() -> None:
    assert settings() == {
        "bootstrap_servers": ["127.0.0.1:9092"],
        "security_protocol": "PLAINTEXT",
    }
    # Other zones' and other families' variables are left alone.
    others = {"MOBIUS_US_KAFKA_NONSENSE": "x", "MOBIUS_KAFKA_COMPRESSION": "gzip"}
    assert kafka_settings(ZONE, others) == settings()


def test_what_clients_get() -> None:
    found = settings(ZONE, SECURITY_PROTOCOL="sasl_ssl", SSL_CHECK_HOSTNAME="false", **SASL)
    context = found.pop("ssl_context")
    assert getattr(context, "check_hostname", None) is False
    assert found == {
        "bootstrap_servers": ["127.0.0.1:9092"],
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "rum",
        "sasl_plain_password": "secret",
    }


@pytest.mark.parametrize(
    ("values", "variable", "said"),
    [
        ({"SSL_CAFILE": "x"}, "SSL_CAFILE", "closest known one is MOBIUS_EU_KAFKA_SSL_CA_FILE"),
        ({"SECURITY_PROTOCOL": "TLS"}, "SECURITY_PROTOCOL", "must be one of PLAINTEXT, SSL"),
        ({"SSL_CHECK_HOSTNAME": "no"}, "SSL_CHECK_HOSTNAME", "must be true or false"),
        ({"SSL_CA_FILE": "/nowhere/ca.pem"}, "SSL_CA_FILE", "cannot be read (No such file"),
        ({"SSL_CA_FILE": __file__}, "SSL_CA_FILE", "make that SSL or SASL_SSL"),
        ({"SECURITY_PROTOCOL": "SSL", "SSL_CA_FILE": __file__}, "SSL_CA_FILE", "no certificate"),
        ({"SECURITY_PROTOCOL": "SSL", "SSL_CERT_FILE": __file__}, "SSL_CERT_FILE", "PEM form"),
        ({"SECURITY_PROTOCOL": "SSL", "SSL_KEY_FILE": __file__}, "SSL_KEY_FILE", "without"),
        ({"SASL_USERNAME": "rum"}, "SASL_USERNAME", "make that SASL_SSL"),
        ({"SECURITY_PROTOCOL": "SASL_SSL"}, "SASL_MECHANISM", "is needed"),
        (
            {"SECURITY_PROTOCOL": "SASL_SSL", **SASL, "SASL_PASSWORD": ""},
            "SASL_PASSWORD",
            "is needed",
        ),
        (
            {"SECURITY_PROTOCOL": "SASL_SSL", **SASL, "SASL_MECHANISM": "GSSAPI"},
            "SASL_MECHANISM",
            "must be one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512",
        ),
    ],
)
def test_what_is_wrong_is_named(values: dict[str, str], variable: str, said: str) -> None:
    with pytest.raises(VariableError) as wrong:
        settings(ZONE, **values)
    assert wrong.value.variable == f"MOBIUS_EU_KAFKA_{variable}"
    assert said in wrong.value.problem


def test_a_password_is_not_sent_in_the_clear_to_another_machine(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clear = {"SECURITY_PROTOCOL": "SASL_PLAINTEXT", **SASL}
    assert settings(ZONE, **clear)["security_protocol"] == "SASL_PLAINTEXT"
    with pytest.raises(VariableError, match=r"to kafka\.example:9092 readable by everyone"):
        settings(AWAY, **clear)
    with caplog.at_level(logging.WARNING, "mobius_instrumentation"):
        settings(AWAY, **clear | {"SASL_MECHANISM": "SCRAM-SHA-512"})
        settings(AWAY, **clear | {"SASL_MECHANISM": "SCRAM-SHA-512"})
    assert [record.getMessage().count("unencrypted") for record in caplog.records] == [1]


def test_a_service_does_not_start_with_a_wrong_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from starlette.applications import Starlette

    map_file = tmp_path / "zones.toml"
    map_file.write_text(
        '[zones.eu]\nregions = ["eu-west-1"]\nkafka = ["127.0.0.1:1"]\nclickhouse = "http://127.0.0.1:1"\n'
    )
    monkeypatch.setenv("MOBIUS_EU_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    with pytest.raises(ConfigurationError, match="MOBIUS_EU_KAFKA_SASL_MECHANISM: is needed"):
        instrument(Starlette(), zones=map_file, region="eu-west-1", service_name="shop")
    # What stands beside the map counts where the environment is silent.
    (tmp_path / "credentials.env").write_text(
        "MOBIUS_EU_KAFKA_SASL_MECHANISM=PLAIN\nMOBIUS_EU_KAFKA_SASL_USERNAME=rum\n"
    )
    with pytest.raises(ConfigurationError, match="MOBIUS_EU_KAFKA_SASL_PASSWORD: is needed"):
        instrument(Starlette(), zones=map_file, region="eu-west-1", service_name="shop")


@pytest.mark.parametrize(
    "error",
    [
        KafkaConnectionError("socket disconnected"),
        # The begin of a TLS alert, read as the length of an answer.
        InvalidReceiveError("Invalid frame length: 352518912"),
    ],
)
def test_a_port_of_tls_that_was_spoken_to_without_it_is_guessed(error: Exception) -> None:
    assert "MOBIUS_EU_KAFKA_SECURITY_PROTOCOL" in connection_remedy("eu", error)


def test_a_secret_is_shown_by_nothing_but_joining_and_encoding() -> None:
    secret = Secret("s3cret")
    assert "s3cret" not in f"{secret} {secret!r} {secret!s} {[secret]} {secret:>10}"
    words = ["rum", secret]
    assert ("\0".join(words), secret.encode()) == ("rum\0s3cret", b"s3cret")


def test_documented_variables_are_those_of_the_code() -> None:
    page = DOCS.read_text(encoding="utf-8")
    assert variables_table("KAFKA", KAFKA_VARIABLES) in page
    from mobius_pipeline.clickhouse_options import CLICKHOUSE_VARIABLES

    assert variables_table("CLICKHOUSE", CLICKHOUSE_VARIABLES) in page

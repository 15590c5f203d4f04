from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from mobius_instrumentation import ConfigurationError, instrument
from mobius_instrumentation.options import OPTIONS, resolve

DOCS = Path(__file__).parents[2] / "docs" / "instrumentation.md"


def test_argument_beats_environment_beats_resource_attributes_beats_default() -> None:
    environ = {
        "MOBIUS_REGION": "from-env",
        "OTEL_RESOURCE_ATTRIBUTES": "cloud.region=from-resource",
    }
    assert resolve({"region": "argument"}, environ)["region"] == "argument"
    assert resolve({}, environ)["region"] == "from-env"
    del environ["MOBIUS_REGION"]
    assert resolve({}, environ)["region"] == "from-resource"
    assert resolve({}, {})["region"] is None


def test_our_variable_beats_opentelemetrys() -> None:
    environ = {"OTEL_BSP_MAX_QUEUE_SIZE": "10", "MOBIUS_MAX_QUEUE_SPANS": "20"}
    assert resolve({}, environ)["max_queue_spans"] == 20
    del environ["MOBIUS_MAX_QUEUE_SPANS"]
    assert resolve({}, environ)["max_queue_spans"] == 10


def test_values_of_variables() -> None:
    values = resolve(
        {},
        {
            "MOBIUS_ATTRIBUTES": " url.path, shop.tier,,",
            "OTEL_BSP_SCHEDULE_DELAY": "250",
            "OTEL_RESOURCE_ATTRIBUTES": "service.version=1%2C5,deployment.environment.name=prod",
            "MOBIUS_KAFKA_COMPRESSION": "gzip",
            "MOBIUS_SERVICE_VERSION": "  ",
        },
    )
    assert values["attributes"] == ("url.path", "shop.tier")
    assert values["schedule_delay_ms"] == 250
    assert values["service_version"] == "1,5"
    assert values["environment"] == "prod"
    assert values["compression"] == "gzip"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_BSP_SCHEDULE_DELAY", "soon"),
        ("MOBIUS_MAX_QUEUE_SPANS", "0"),
        ("MOBIUS_MAX_QUEUE_BYTES", "-5"),
        ("MOBIUS_KAFKA_COMPRESSION", "brotli"),
    ],
)
def test_what_cannot_be_read_is_named(variable: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{variable}='{value}'"):
        resolve({}, {variable: value})


def test_the_table_the_signature_and_the_documentation_agree() -> None:
    parameters = set(inspect.signature(instrument).parameters) - {"app", "kafka_options"}
    assert parameters == set(OPTIONS)
    rows = [line for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    for option in OPTIONS.values():
        (row,) = [line for line in rows if line.startswith(f"| `{option.name}` |")]
        assert option.meaning in row
        for variable in option.variables:
            assert f"`{variable}`" in row
        assert not option.resource or f"`{option.resource}`" in row

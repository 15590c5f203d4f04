from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from mobius_instrumentation import ConfigurationError, instrument
from mobius_instrumentation.assembly import options_and_zone
from mobius_instrumentation.known_variables import refuse_unknown_variables
from mobius_instrumentation.options import OPTIONS, resolve
from mobius_instrumentation.zones import parse_zones

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


ZONE: dict[str, Any] = {
    "regions": ["r1"],
    "kafka": ["127.0.0.1:9092"],
    "clickhouse": "http://127.0.0.1:8123",
}
MAP = """
[zones.eu]
regions = ["r1"]
kafka = ["127.0.0.1:9092"]
clickhouse = "http://127.0.0.1:8123"
[instrumentation]
"""


def options_with(tmp_path: Path, table: str, **variables: str) -> dict[str, Any]:
    file = tmp_path / "zones.toml"
    file.write_text(MAP + table)
    environ = {"MOBIUS_CONFIG": str(file), "MOBIUS_REGION": "r1", **variables}
    return options_and_zone({}, environ)[0]


def test_the_file_comes_after_the_environment_and_before_the_default(tmp_path: Path) -> None:
    table = 'max_queue_spans = 7\nattributes = ["a", "b"]\nblocked_stack = true\nkeep = "errors"'
    found = options_with(tmp_path, table, MOBIUS_MAX_QUEUE_SPANS="9")
    assert (found["max_queue_spans"], found["attributes"]) == (9, ("a", "b"))
    assert (found["blocked_stack"], found["keep"].errors) == (True, True)
    assert options_with(tmp_path, table)["max_queue_spans"] == 7
    assert options_with(tmp_path, "")["max_queue_spans"] == 16_384


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("max_queue_span = 7", r"zones.toml: instrumentation.max_queue_span: .* max_queue_spans"),
        ("max_queue_spans = 0", r"zones.toml: instrumentation.max_queue_spans = 0: must be"),
        ('synthetic_key = "x"', "secrets are never in the file"),
        ("attributes = { a = 1 }", "must be a text"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(tmp_path: Path, table: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        options_with(tmp_path, table)


@pytest.mark.parametrize(
    ("variable", "says"),
    [
        ("MOBIUS_REGOIN", "unknown variable; the closest known one is MOBIUS_REGION"),
        ("MOBIUS_OUTBOX", "unknown variable"),
        (
            "MOBIUS_EUU_KAFKA_SASL_PASSWORD",
            "has no zone 'euu'; the closest known one is MOBIUS_EU_",
        ),
    ],
)
def test_a_misspelt_variable_is_named_without_its_value(variable: str, says: str) -> None:
    zones = parse_zones({"zones": {"eu": ZONE}})
    with pytest.raises(ConfigurationError, match=f"^{variable}: .*{says}") as caught:
        refuse_unknown_variables({variable: "hunter2"}, zones)
    assert "hunter2" not in str(caught.value)


def test_every_variable_of_this_repository_and_of_kubernetes_is_known() -> None:
    zones = parse_zones({"zones": {"eu": ZONE, "us": ZONE | {"regions": ["r2"]}}})
    named = {"MOBIUS_SERVICE_HOST", "MOBIUS_RUM_PORT_8080_TCP_ADDR", "MOBIUS_RUM_SERVICE_PORT_HTTP"}
    for part in ("pipeline", "analysis", "dashboards", "infra", "docs"):
        for file in (DOCS.parents[1] / part).rglob("*"):
            if file.suffix in (".py", ".md"):
                text = file.read_text(encoding="utf-8")
                named |= set(re.findall(r"MOBIUS_[A-Z][A-Z_]*[A-Z]\b(?![<{_])", text))
    assert "MOBIUS_VIEWER_ZONES" in named
    refuse_unknown_variables(dict.fromkeys(named, "x"), zones)

"""What a service installs and loads: OpenTelemetry, protobuf, kafka-python, crc32c; nothing before it is used."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution, requires
from importlib.resources import files

OWN = "mobius-instrumentation"


def required(name: str) -> set[str]:
    """Distributions that one requires without extras, in this environment."""
    lines = [line for line in requires(name) or () if "extra ==" not in line]
    return {re.split(r"[^\w.-]", line, maxsplit=1)[0].lower().replace("_", "-") for line in lines}


def test_a_bare_install_pulls_nothing_but_opentelemetry_and_what_speaks_kafka() -> None:
    assert {n for n in required(OWN) if not n.startswith("opentelemetry-")} == {
        "crc32c",
        "kafka-python",
    }
    whole, todo = set[str](), [OWN]
    while todo:
        name = todo.pop()
        if name in whole:
            continue
        try:
            distribution(name)
        except PackageNotFoundError:
            continue  # for other systems or Pythons
        whole.add(name)
        todo += required(name)
    # What OpenTelemetry itself needs.
    theirs = {"asgiref", "packaging", "protobuf", "typing-extensions", "wrapt"}
    rest = {n for n in whole - {OWN} if not n.startswith("opentelemetry-")}
    assert rest <= theirs | {"crc32c", "kafka-python"}


def test_importing_it_loads_no_framework_and_no_broker_client() -> None:
    code = "import sys, mobius_instrumentation; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    loaded = set(subprocess.check_output([sys.executable, "-c", code], text=True).split())
    assert "mobius_instrumentation" in loaded
    assert not loaded & {
        "anyio",
        "fastapi",
        "kafka",
        "numpy",
        "pydantic",
        "sqlalchemy",
        "starlette",
    }


def test_it_is_typed() -> None:
    assert (files("mobius_instrumentation") / "py.typed").is_file()

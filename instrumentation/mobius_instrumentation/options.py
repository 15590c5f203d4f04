"""Every option of ``instrument()``: argument, then environment, then file, then default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar
from urllib.parse import unquote

from mobius_instrumentation.client_instrumentations import CLIENTS
from mobius_instrumentation.errors import ConfigurationError
from mobius_instrumentation.sampling import KeepRules, parse_rules
from mobius_instrumentation.zone_variables import true_or_false

__all__ = ["OPTIONS", "Option", "resolve"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Option(Generic[T]):
    """One option.

    Attributes
    ----------
    name
        Argument of ``instrument()``.
    variables
        Environment variables, the first that is set counts.
    resource
        Name in ``OTEL_RESOURCE_ATTRIBUTES`` that counts after the variables, or "".
    default
        Value when nothing is set.
    parse
        Reads the text of a variable; raises ValueError with what was expected.
    meaning
        What it does, and what follows.
    """

    name: str
    variables: tuple[str, ...]
    resource: str
    default: T
    parse: Callable[[str], T]
    meaning: str

    def value(self, argument: T | None, environ: Mapping[str, str], in_file: T | None = None) -> T:
        """Return the option's value; ``in_file`` is what the configuration file says, if anything.

        Raises
        ------
        ConfigurationError
            A variable holds what cannot be read; names the variable.
        """
        if argument is not None:
            return argument
        for variable in self.variables:
            if written := environ.get(variable, "").strip():
                try:
                    return self.parse(written)
                except ValueError as error:
                    raise ConfigurationError(
                        self.name, f"{variable}={written!r}: {error}"
                    ) from error
        if self.resource and (found := _resource_attribute(self.resource, environ)):
            return self.parse(found)
        return self.default if in_file is None else in_file


def _resource_attribute(name: str, environ: Mapping[str, str]) -> str:
    found = ""
    for item in environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        key, _, value = item.partition("=")
        if key.strip() == name:
            found = unquote(value.strip())
    return found


def _count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise ValueError("must be a whole number above 0")
    return value


def _count_or_none(text: str) -> int:
    return 0 if text == "0" else _count(text)


def _clients(text: str) -> tuple[str, ...]:
    names = tuple(CLIENTS) if text == "installed" else _names(text)
    if unknown := sorted(set(names) - set(CLIENTS)):
        raise ValueError(f"{unknown[0]} is not one of {', '.join(CLIENTS)}, or installed")
    return names


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for item in text.split(",") if (name := item.strip()))


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return text

    return parse


_OPTIONS: Final[tuple[Option[Any], ...]] = (
    Option(
        "zones",
        ("MOBIUS_CONFIG",),
        "",
        None,
        str,
        "The residency map: a `Zones` object or the path of `zones.toml`. Says which zone holds the "
        "region, and where its broker is. Required.",
    ),
    Option(
        "region",
        ("MOBIUS_REGION",),
        "cloud.region",
        None,
        str,
        "Region of this process, as in the residency map. Decides the topic. Required; a region that no "
        "zone holds is refused, never guessed.",
    ),
    Option(
        "service_name",
        ("OTEL_SERVICE_NAME",),
        "service.name",
        None,
        str,
        "Name of the service. Without one it is OpenTelemetry's `unknown_service`, with a warning.",
    ),
    Option(
        "service_version",
        ("MOBIUS_SERVICE_VERSION",),
        "service.version",
        None,
        str,
        "The release. Without one, changes cannot be laid to a release.",
    ),
    Option(
        "environment",
        ("MOBIUS_ENVIRONMENT",),
        "deployment.environment.name",
        None,
        str,
        "Deployment environment, such as `production`.",
    ),
    Option(
        "instance_id",
        ("MOBIUS_INSTANCE_ID",),
        "service.instance.id",
        None,
        str,
        "Name of this process; a random one by default. Give none that names a person.",
    ),
    Option(
        "synthetic_key",
        ("MOBIUS_SYNTHETIC_KEY",),
        "",
        None,
        str,
        "Shared secret of the test runners. Without it every marker is rejected and counted, and test "
        "traffic counts as users' traffic.",
    ),
    Option(
        "subject_key",
        ("MOBIUS_SUBJECT_KEY",),
        "",
        None,
        str,
        "Secret of the zone, at least 16 bytes, by which `identify()` makes pseudonyms of people; the same for all services "
        "of a zone, another in each zone. Without one no person is counted.",
    ),
    Option(
        "attributes",
        ("MOBIUS_ATTRIBUTES",),
        "",
        (),
        _names,
        "Names that the allow-list keeps besides its own, comma separated. Each leaves the process with "
        "its values: allow none that holds personal data.",
    ),
    Option(
        "max_queue_spans",
        ("MOBIUS_MAX_QUEUE_SPANS", "OTEL_BSP_MAX_QUEUE_SIZE"),
        "",
        16_384,
        _count,
        "Spans that may wait for the broker; further ones are dropped and counted as `queue_full`.",
    ),
    Option(
        "max_queue_bytes",
        ("MOBIUS_MAX_QUEUE_BYTES",),
        "",
        16 * 1024 * 1024,
        _count,
        "Bytes that may wait for the broker; the same.",
    ),
    Option(
        "max_batch_spans",
        ("MOBIUS_MAX_BATCH_SPANS", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"),
        "",
        512,
        _count,
        "Most spans of one message. Smaller messages cost broker and workers more.",
    ),
    Option(
        "schedule_delay_ms",
        ("MOBIUS_SCHEDULE_DELAY_MS", "OTEL_BSP_SCHEDULE_DELAY"),
        "",
        1_000,
        _count,
        "Longest time in milliseconds that a span waits for others; data are at least that old.",
    ),
    Option(
        "spool_dir",
        ("MOBIUS_SPOOL_DIR",),
        "",
        None,
        str,
        "Folder for messages that wait for a broker which is away; without one they wait in memory alone. Each zone has a "
        "folder of its own in it. On a local disk.",
    ),
    Option(
        "spool_bytes",
        ("MOBIUS_SPOOL_BYTES",),
        "",
        1024 * 1024 * 1024,
        _count,
        "Most bytes of the spool, of all processes on it together; then the newest spans are dropped as `spool_full`.",
    ),
    Option(
        "shutdown_timeout_ms",
        ("MOBIUS_SHUTDOWN_TIMEOUT_MS", "OTEL_BSP_EXPORT_TIMEOUT"),
        "",
        5_000,
        _count,
        "Longest time in milliseconds that the end of the process waits for the broker; what is left "
        "is dropped and counted as `shutdown`. Keep it below your orchestrator's grace period.",
    ),
    Option(
        "compression",
        ("MOBIUS_KAFKA_COMPRESSION",),
        "",
        "none",
        _one_of("none", "gzip"),
        "`none` or `gzip`. `gzip` sends about a tenth of the bytes for more processor time.",
    ),
    Option(
        "keep",
        ("MOBIUS_KEEP",),
        "",
        KeepRules(),
        parse_rules,
        "Requests that are kept though sampling did not choose them: `errors`, `synthetic`, `slow:<milliseconds>`, "
        "comma separated (in code a `KeepRules`). Everything is recorded then, and judged at the request's end.",
    ),
    Option(
        "http_instrumentation",
        ("MOBIUS_HTTP_INSTRUMENTATION",),
        "",
        "auto",
        _one_of("auto", "mobius", "opentelemetry"),
        "`mobius`: server spans with measures. `opentelemetry`: OpenTelemetry's own middleware, which costs "
        "more and measures nothing, for its metrics or the older names of attributes. `auto`: `mobius`, unless "
        "`OTEL_SEMCONV_STABILITY_OPT_IN` asks for older names.",
    ),
    Option(
        "clients",
        ("MOBIUS_CLIENTS",),
        "",
        (),
        _clients,
        "OpenTelemetry's instrumentations of clients to switch on: of `sqlalchemy`, `httpx`, `redis`, `asyncpg`, "
        "`psycopg`, `requests`, or `installed` for all that are installed. Engines made before are not traced.",
    ),
    Option(
        "runtime_interval_ms",
        ("MOBIUS_RUNTIME_INTERVAL_MS",),
        "",
        10_000,
        _count_or_none,
        "Milliseconds between two spans `mobius.runtime`, which say how the process fares; 0 for none.",
    ),
    Option(
        "blocked_stack",
        ("MOBIUS_BLOCKED_STACK",),
        "",
        False,  # noqa: FBT003  # the default, in the place of all defaults
        true_or_false,
        "`true`: where a request holds the event loop for 0.1 s, its span says where (functions, files, lines). "
        "A thread looks forty times a second.",
    ),
    Option(
        "stats_file",
        ("MOBIUS_STATS_FILE",),
        "",
        None,
        str,
        "File that gets the exporter's account as JSON once a second and at the end. `{pid}` in it "
        "becomes the process id: needed where one server starts several worker processes.",
    ),
)
OPTIONS: Final[Mapping[str, Option[Any]]] = {option.name: option for option in _OPTIONS}
"""The options by name, in the order of the documentation."""


def resolve(
    arguments: Mapping[str, Any],
    environ: Mapping[str, str],
    *,
    file: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Values of all options from arguments, environment, file and defaults.

    Raises
    ------
    ConfigurationError
        A variable holds what cannot be read.
    """
    in_file = file or {}
    return {
        name: option.value(arguments.get(name), environ, in_file.get(name))
        for name, option in OPTIONS.items()
    }

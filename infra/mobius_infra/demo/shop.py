"""What everybody who plays a part in the demo shop must agree on: endpoints, goods, visitors.

Nothing here says which endpoint its tests describe well; that is for the measurement to find.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = [
    "CUSTOMERS",
    "ENDPOINTS",
    "ENVIRONMENT",
    "PRODUCTS",
    "REGIONS",
    "SERVICE_CATALOG",
    "SERVICE_STOREFRONT",
    "TEST_BASKET_LINES",
    "TEST_NAME",
    "TEST_QUERY",
    "UNKNOWN_PRODUCT",
    "UNKNOWN_SHARE",
    "Endpoint",
    "basket_lines",
    "customer_id",
    "orders_of_customer",
    "popularity",
    "product_id",
    "product_title",
    "search_queries",
]

REGIONS: Final = ("eu-west-1", "eu-central-1", "us-east-1")
ENVIRONMENT: Final = "production"
SERVICE_STOREFRONT: Final = "storefront"
SERVICE_CATALOG: Final = "catalog"

PRODUCTS: Final = 400
CUSTOMERS: Final = 2_000

TEST_NAME: Final = "shop-smoke"
TEST_QUERY: Final = "espresso machine"
UNKNOWN_PRODUCT: Final = "p9999"
UNKNOWN_SHARE: Final = 0.01
"""Share of users' product pages whose product is gone (old links)."""

TEST_BASKET_LINES: Final = 24
"""The suite fills its basket with everything it can, once; users buy two or three things."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint of the storefront and the one of the catalog that it needs.

    ``users`` and ``tests`` are shares of the requests of users and of the test suite.
    """

    method: str
    route: str
    catalog_method: str
    catalog_route: str
    sql: str
    users: float
    tests: float


ENDPOINTS: Final = (
    Endpoint("GET", "/products/{product_id}", "GET", "/items/{item_id}", "SELECT", 0.24, 0.25),
    Endpoint("GET", "/search", "GET", "/index", "SELECT", 0.21, 0.25),
    Endpoint("POST", "/checkout", "POST", "/reservations", "INSERT", 0.18, 0.25),
    Endpoint("GET", "/orders/{order_id}", "GET", "/orders/{order_id}/lines", "SELECT", 0.17, 0.0),
    Endpoint("GET", "/recommendations", "GET", "/popular", "SELECT", 0.20, 0.25),
)

_MATERIALS: Final = (
    "steel", "oak", "linen", "glass", "copper", "wool", "paper", "cork", "clay", "cotton",
    "bamboo", "leather", "marble", "walnut", "silk", "brass", "felt", "slate", "rattan", "enamel",
)  # fmt: skip
_THINGS: Final = (
    "lamp", "chair", "kettle", "basket", "mug", "shelf", "clock", "blanket", "vase", "tray",
    "notebook", "stool", "mirror", "bowl", "cushion", "grinder", "teapot", "curtain", "bench", "jar",
)  # fmt: skip


def product_id(number: int) -> str:
    """Name of the product at place ``number`` of the popularity ranking (0 sells best)."""
    return f"p{number:04d}"


def customer_id(number: int) -> str:
    """Name of a customer, ``number`` in 0 .. :data:`CUSTOMERS` - 1."""
    return f"c{number:05d}"


def product_title(number: int) -> str:
    """Title of a product; :data:`TEST_QUERY` is the best seller's."""
    if number == 0:
        return TEST_QUERY
    return f"{_MATERIALS[number % 20]} {_THINGS[(number // 20) % 20]}"


def search_queries() -> tuple[str, ...]:
    """What users type: one or two words, most of them asked for rarely."""
    pairs = [f"{material} {thing}" for thing in _THINGS for material in _MATERIALS]
    return (TEST_QUERY, *_THINGS, *_MATERIALS, *pairs)


def popularity(count: int, exponent: float) -> npt.NDArray[np.float64]:
    """Zipf's law: probability of each of ``count`` ranks, adding up to 1."""
    weights = np.arange(1, count + 1, dtype=np.float64) ** -exponent
    shares: npt.NDArray[np.float64] = weights / weights.sum()
    return shares


def basket_lines(rng: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
    """Lines of users' baskets: mostly one to three, heavy-tailed (Pareto), at most 40."""
    lines = 1 + np.floor(rng.pareto(1.9, count) * 1.3)
    bounded: npt.NDArray[np.int64] = np.minimum(lines, 40).astype(np.int64)
    return bounded


def orders_of_customer(rng: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
    """Earlier orders of customers: a fifth have none, the others a geometric number."""
    orders = rng.geometric(0.3, count)
    earlier: npt.NDArray[np.int64] = np.where(rng.random(count) < 0.2, 0, orders).astype(np.int64)
    return earlier

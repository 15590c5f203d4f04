"""The catalog's database: SQLite through SQLAlchemy, filled on first use from a fixed seed."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

import numpy as np
from sqlalchemy import (
    Column,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    QueuePool,
    String,
    Table,
    create_engine,
    func,
    insert,
    select,
)

from mobius_infra.demo import shop

__all__ = [
    "count_orders",
    "find_item",
    "open_database",
    "order_lines",
    "place_order",
    "search_items",
]

_METADATA: Final = MetaData()
_ITEMS: Final = Table(
    "items",
    _METADATA,
    Column("id", String, primary_key=True),
    Column("rank", Integer, nullable=False),
    Column("title", String, nullable=False),
    Column("price_cents", Integer, nullable=False),
)
_ORDERS: Final = Table(
    "orders",
    _METADATA,
    Column("id", Integer, primary_key=True),
    Column("customer", String, nullable=False, index=True),
)
_LINES: Final = Table(
    "order_lines",
    _METADATA,
    Column("order_id", ForeignKey("orders.id"), primary_key=True),
    Column("line", Integer, primary_key=True),
    Column("item_id", ForeignKey("items.id"), nullable=False),
    Column("quantity", Integer, nullable=False),
)
_FILL_SEED: Final = 20
_FOUND: Final = 20
_BUSY_SECONDS: Final = 5


def open_database(file: Path) -> Engine:
    """Open the database in ``file``, and make and fill it if it is new.

    The engine gets a connection function instead of an address, because tracing puts a database's
    address into span names and the path of a file on somebody's machine has no place there.
    """
    file.parent.mkdir(parents=True, exist_ok=True)

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(file, check_same_thread=False, timeout=_BUSY_SECONDS)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=OFF")  # a demo's orders may be lost in a power cut
        return connection

    engine = create_engine("sqlite+pysqlite://", creator=connect, poolclass=QueuePool, pool_size=8)
    _METADATA.create_all(engine)
    with engine.begin() as connection:
        filled = connection.scalar(select(func.count()).select_from(_ITEMS)) == shop.PRODUCTS
    if not filled:
        _fill(engine)
    return engine


def _fill(engine: Engine) -> None:
    rng = np.random.default_rng(_FILL_SEED)
    prices = rng.integers(300, 40_000, shop.PRODUCTS)
    items = [
        {
            "id": shop.product_id(n),
            "rank": n,
            "title": shop.product_title(n),
            "price_cents": int(price),
        }
        for n, price in enumerate(prices)
    ]
    owners = np.repeat(np.arange(shop.CUSTOMERS), shop.orders_of_customer(rng, shop.CUSTOMERS))
    rng.shuffle(owners)
    orders = [{"id": n + 1, "customer": shop.customer_id(int(c))} for n, c in enumerate(owners)]
    sizes = shop.basket_lines(rng, len(orders))
    chosen = rng.choice(shop.PRODUCTS, size=int(sizes.sum()), p=shop.popularity(shop.PRODUCTS, 1.0))
    picks = iter(chosen)
    lines = [
        {
            "order_id": n + 1,
            "line": line,
            "item_id": shop.product_id(int(next(picks))),
            "quantity": 1,
        }
        for n, size in enumerate(sizes)
        for line in range(int(size))
    ]
    with engine.begin() as connection:
        for table, rows in ((_ITEMS, items), (_ORDERS, orders), (_LINES, lines)):
            connection.execute(insert(table).prefix_with("OR IGNORE"), rows)


def find_item(engine: Engine, item_id: str) -> dict[str, str | int] | None:
    """Look up one item, None if there is no such item."""
    with engine.connect() as connection:
        row = connection.execute(select(_ITEMS).where(_ITEMS.c.id == item_id)).mappings().first()
    return None if row is None else dict(row)


def search_items(engine: Engine, query: str) -> list[dict[str, str | int]]:
    """Items whose title holds every word of the query, best sellers first."""
    statement = select(_ITEMS).order_by(_ITEMS.c.rank).limit(_FOUND)
    for word in query.split():
        statement = statement.where(_ITEMS.c.title.contains(word, autoescape=True))
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(statement).mappings()]


def order_lines(engine: Engine, order_id: int) -> list[dict[str, str | int]]:
    """Lines of an order with the items' titles; empty if there is no such order."""
    statement = (
        select(_LINES.c.line, _LINES.c.quantity, _ITEMS.c.title, _ITEMS.c.price_cents)
        .join(_ITEMS, _ITEMS.c.id == _LINES.c.item_id)
        .where(_LINES.c.order_id == order_id)
        .order_by(_LINES.c.line)
    )
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(statement).mappings()]


def count_orders(engine: Engine, customer: str) -> int:
    """Earlier orders of a customer."""
    statement = select(func.count()).select_from(_ORDERS).where(_ORDERS.c.customer == customer)
    with engine.connect() as connection:
        return connection.scalar(statement) or 0


def place_order(engine: Engine, customer: str, items: list[str]) -> int:
    """Store an order of one each of ``items`` and return its number."""
    with engine.begin() as connection:
        new_order = insert(_ORDERS).values(customer=customer).returning(_ORDERS.c.id)
        order_id = connection.execute(new_order).scalar_one()
        rows = [
            {"order_id": order_id, "line": line, "item_id": item, "quantity": 1}
            for line, item in enumerate(items)
        ]
        connection.execute(insert(_LINES), rows)
    return int(order_id)

"""The users of the demo shop: who comes when, what they ask for, and what they are answered.

``python -m mobius_infra.demo.traffic --target eu-west-1=http://127.0.0.1:8141 ...`` runs until SIGTERM
or for ``--seconds``. Users arrive in bursts whether or not the shop keeps up (an open loop), stay for a
heavy-tailed number of pages and think for heavy-tailed times between them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np

from mobius_infra.demo import shop
from mobius_infra.demo.counters import write_atomically
from mobius_infra.demo.options import Target, add_targets

__all__ = ["Users", "main", "run"]

_REQUESTS_A_SECOND: Final = 12.0
# A burst begins every 40 s on average and lasts 8 s with three times the arrivals: 1.33 on average.
_CALM_SECONDS: Final = 40.0
_BURST_SECONDS: Final = 8.0
_BURST_FACTOR: Final = 3.0
_MEAN_FACTOR: Final = (_CALM_SECONDS + _BURST_SECONDS * _BURST_FACTOR) / (
    _CALM_SECONDS + _BURST_SECONDS
)
_MEAN_PAGES: Final = 5.0
_THINK_SECONDS: Final = 1.0
_LONGEST_THOUGHT_SECONDS: Final = 20.0
_ANSWER_SECONDS: Final = 15.0
_MOST_WAITING: Final = 500  # requests unanswered at once, over which users turn away at the door
_REPORT_SECONDS: Final = 1.0
_MEMBERS: Final = 0.9  # share of visitors that are logged in
_FILLED_ORDERS: Final = 5_000


class Users:
    """Users of one region.

    Parameters
    ----------
    rate
        Requests a second on average.
    counters
        Counts ``requests``, answers by status, ``unanswered`` and ``turned_away``.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        rate: float,
        rng: np.random.Generator,
        counters: Counter[str],
    ) -> None:
        self._client = client
        self._arrivals = rate / _MEAN_PAGES / _MEAN_FACTOR
        self._rng = rng
        self._counters = counters
        self._visits: set[asyncio.Task[None]] = set()
        self._waiting = 0
        shares = np.array([endpoint.users for endpoint in shop.ENDPOINTS])
        self._shares = shares / shares.sum()
        self._products = shop.popularity(shop.PRODUCTS, 1.0)
        self._queries = shop.search_queries()
        self._query_shares = shop.popularity(len(self._queries), 0.6)

    async def arrive(self) -> None:
        """Let users in until cancelled: a Poisson process whose rate switches between two states."""
        burst, until = False, 0.0
        try:
            while True:
                now = time.monotonic()
                if now >= until:
                    burst = until > 0 and not burst
                    until = now + self._rng.exponential(_BURST_SECONDS if burst else _CALM_SECONDS)
                rate = self._arrivals * (_BURST_FACTOR if burst else 1.0)
                gap = self._rng.exponential(1 / rate)
                # A gap over the end of a state is drawn anew then; exponential times have no memory.
                await asyncio.sleep(min(gap, until - now))
                if now + gap < until:
                    visit = asyncio.create_task(self._visit())
                    self._visits.add(visit)
                    visit.add_done_callback(self._visits.discard)
        finally:
            await self._see_off()

    async def _see_off(self) -> None:
        visits = list(self._visits)
        for visit in visits:
            visit.cancel()
        await asyncio.gather(*visits, return_exceptions=True)

    async def _visit(self) -> None:
        member = self._rng.random() < _MEMBERS
        customer = shop.customer_id(int(self._rng.integers(shop.CUSTOMERS))) if member else ""
        for _ in range(int(self._rng.geometric(1 / _MEAN_PAGES))):
            await self._ask(customer)
            thought = _THINK_SECONDS * (0.3 + float(self._rng.pareto(1.6)))
            await asyncio.sleep(min(thought, _LONGEST_THOUGHT_SECONDS))

    async def _ask(self, customer: str) -> None:
        if self._waiting >= _MOST_WAITING:
            self._counters["turned_away"] += 1
            return
        endpoint = shop.ENDPOINTS[int(self._rng.choice(len(shop.ENDPOINTS), p=self._shares))]
        path, options = self._request(endpoint, customer)
        self._waiting += 1
        self._counters["requests"] += 1
        try:
            answer = await self._client.request(endpoint.method, path, **options)
        except httpx.TransportError:
            self._counters["unanswered"] += 1
        else:
            self._counters[str(answer.status_code)] += 1
        finally:
            self._waiting -= 1

    def _request(self, endpoint: shop.Endpoint, customer: str) -> tuple[str, dict[str, Any]]:
        rng = self._rng
        options: dict[str, Any] = {"headers": {"x-customer": customer}} if customer else {}
        match endpoint.route:
            case "/products/{product_id}":
                gone = rng.random() < shop.UNKNOWN_SHARE
                return (
                    f"/products/{shop.UNKNOWN_PRODUCT if gone else self._products_of(1)[0]}",
                    options,
                )
            case "/search":
                query = self._queries[int(rng.choice(len(self._queries), p=self._query_shares))]
                return "/search", {**options, "params": {"q": query}}
            case "/checkout":
                lines = int(shop.basket_lines(rng, 1)[0])
                # Who is not logged in orders as a guest, and the shop knows nothing of their past.
                headers = {"x-customer": customer or "guest"}
                return "/checkout", {
                    "headers": headers,
                    "json": {"items": self._products_of(lines)},
                }
            case "/orders/{order_id}":
                return f"/orders/{int(rng.integers(1, _FILLED_ORDERS))}", options
        return endpoint.route, options

    def _products_of(self, count: int) -> list[str]:
        chosen = self._rng.choice(shop.PRODUCTS, count, p=self._products)
        return [shop.product_id(int(number)) for number in chosen]


async def run(
    targets: list[Target],
    *,
    rate: float,
    seconds: float | None,
    stats_file: Path | None,
    seed: int | None,
) -> dict[str, dict[str, int]]:
    """Send users to all targets, ``rate`` requests a second in all; returns the counters by region."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    counters = {region: Counter[str]() for region, _ in targets}
    seeds = np.random.SeedSequence(seed).spawn(len(targets))
    async with AsyncExitStack() as stack:
        users: list[asyncio.Task[None]] = []
        for (region, url), sequence in zip(targets, seeds, strict=True):
            client = await stack.enter_async_context(_client(url))
            rng = np.random.default_rng(sequence)
            arriving = Users(client, rate / len(targets), rng, counters[region]).arrive()
            users.append(asyncio.create_task(arriving))
        try:
            await _watch(users, stop, seconds, lambda: _report(stats_file, counters))
        finally:
            for task in users:
                task.cancel()
            await asyncio.gather(*users, return_exceptions=True)
            _report(stats_file, counters)
    return {region: dict(counts) for region, counts in counters.items()}


def _client(url: str) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
    return httpx.AsyncClient(base_url=url, timeout=_ANSWER_SECONDS, limits=limits, trust_env=False)


async def _watch(
    users: list[asyncio.Task[None]],
    stop: asyncio.Event,
    seconds: float | None,
    report: Callable[[], None],
) -> None:
    """Report once a second until told to stop; a fault of this program ends it, not some of its users."""
    end = math.inf if seconds is None else time.monotonic() + seconds
    stopped = asyncio.create_task(stop.wait())
    while not stop.is_set() and time.monotonic() < end:
        left = min(_REPORT_SECONDS, max(end - time.monotonic(), 0.0))
        done, _ = await asyncio.wait([stopped, *users], timeout=left, return_when="FIRST_COMPLETED")
        for task in done - {stopped}:
            task.result()
        report()
    stopped.cancel()


def _report(stats_file: Path | None, counters: dict[str, Counter[str]]) -> None:
    if stats_file is not None:
        write_atomically(stats_file, json.dumps({"regions": counters}))


def main(arguments: list[str] | None = None) -> None:
    """Be the users of the demo shop."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    add_targets(parser)
    parser.add_argument(
        "--rate",
        type=float,
        default=_REQUESTS_A_SECOND,
        help="requests a second, all regions together",
    )
    parser.add_argument("--seconds", type=float, help="stop after this time; else at SIGTERM")
    parser.add_argument("--stats-file", type=Path, help="JSON counters, renewed every second")
    parser.add_argument("--seed", type=int)
    options = parser.parse_args(arguments)
    counters = asyncio.run(
        run(
            options.target,
            rate=options.rate,
            seconds=options.seconds,
            stats_file=options.stats_file,
            seed=options.seed,
        )
    )
    print(json.dumps({"regions": counters}))  # noqa: T201 - the result of the command


if __name__ == "__main__":
    main()

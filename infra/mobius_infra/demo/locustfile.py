"""The shop's own test suite, for Locust: what its developers thought their users do.

``locust -f locustfile.py --headless --host URL -u 4 -r 4 -t 22s``; the name of the run, the file of its
results and the key that marks its requests come from ``MOBIUS_TEST_RUN``, ``MOBIUS_TEST_RESULTS`` and
``MOBIUS_SYNTHETIC_KEY``.
"""

from __future__ import annotations

import itertools
import random
import time
from typing import Final

from locust import FastHttpUser, constant_pacing, task

from mobius_infra.demo import shop
from mobius_instrumentation.locust import listen

listen(test=shop.TEST_NAME)

_PACE_SECONDS: Final = 0.45
# Multiples of the golden ratio spread any number of users evenly over the pace.
_PHASES: Final = (number * 0.6180339887 % 1 for number in itertools.count())
_PRODUCTS: Final = [shop.product_id(number) for number in range(shop.PRODUCTS)]
_POPULARITY: Final = shop.popularity(shop.PRODUCTS, 1.0).tolist()


class SmokeTest(FastHttpUser):
    """An anonymous customer who does everything once in a while. Orders are not covered."""

    wait_time = constant_pacing(_PACE_SECONDS)

    def on_start(self) -> None:
        """Begin out of step: users that kept in step would queue behind one another, as real ones do not.

        Locust has patched ``sleep`` to let others run.
        """
        time.sleep(next(_PHASES) * _PACE_SECONDS)

    @task
    def product(self) -> None:
        """Look at a product, chosen as users choose."""
        product = random.choices(_PRODUCTS, _POPULARITY)[0]
        self.client.get(f"/products/{product}", name="/products/{product_id}")

    @task
    def search(self) -> None:
        """Search, always for the same."""
        self.client.get("/search", params={"q": shop.TEST_QUERY}, name="/search")

    @task
    def checkout(self) -> None:
        """Buy everything that fits into a basket."""
        items = _PRODUCTS[: shop.TEST_BASKET_LINES]
        headers = {"x-customer": shop.TEST_NAME}
        self.client.post("/checkout", json={"items": items}, headers=headers, name="/checkout")

    @task
    def recommendations(self) -> None:
        """Ask for recommendations without being logged in."""
        self.client.get("/recommendations", name="/recommendations")

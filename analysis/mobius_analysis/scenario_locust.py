"""A locustfile from production's own mix."""

from __future__ import annotations

import json
from typing import Final

from mobius_analysis.scenario_mix import Mix
from mobius_analysis.scenario_template import common_values, filled

__all__ = ["locustfile"]

_TEMPLATE: Final = '''\
"""Load in the proportions of users' traffic; written by `mobius-rum parity --write-locust`.

Users of @SERVICE@ in @REGION@, @SINCE@ to @UNTIL@:
@RATE@ requests a second on average, from @REQUESTS@ measured requests. No user data is in here: what
stands in paths and bodies comes from a file of yours (MOBIUS_DATA).

    locust -f THIS_FILE --host http://staging.example --headless -u USERS -t 10m

Environment: MOBIUS_SCALE (1 = users' rate), MOBIUS_DATA (JSON, see DATA below), MOBIUS_PROFILE=1 (the course of the
day, within MOBIUS_DURATION seconds), MOBIUS_SYNTHETIC_KEY (signs the requests as a test's), MOBIUS_TEST_RESULTS
(for `mobius-rum import synthetic`).
"""

import json
import os
import random
import re
import time
from urllib.parse import quote

from locust import HttpUser, LoadTestShape, task

from mobius_instrumentation.locust import listen

listen(test=os.environ.get("MOBIUS_TEST_NAME", @TEST@))

# Method, route and requests a second of users.
ENDPOINTS = [
@ENDPOINTS@
]
# Factors of the mean rate by hour of the day (UTC); None is not known.
HOURS = @HOURS@
SCALE = float(os.environ.get("MOBIUS_SCALE", "1"))
RATE = SCALE * sum(rate for _, _, rate in ENDPOINTS)

# What fills the requests: values of path parameters, and alternatives for what goes with an endpoint
# (any argument of requests: "json", "data", "params", "headers").
DATA = {
    "parameters": {@PARAMETERS@},
    "requests": {},
}
if os.environ.get("MOBIUS_DATA"):
    with open(os.environ["MOBIUS_DATA"], encoding="utf-8") as file:
        for part, values in json.load(file).items():
            DATA[part].update(values)


def fill(route):
    """Put a value into each parameter of a route."""
    return re.sub(
        r"\\{(\\w+)\\}",
        lambda found: quote(str(random.choice(DATA["parameters"][found[1]])), safe=""),
        route,
    )


class ProductionMix(HttpUser):
    """One of the users that together send at users' rate, at random moments (Poisson), whatever the answers take."""

    def on_start(self):
        # Not all at once, as the first requests would otherwise come.
        first = self.think()
        self.due = time.monotonic() + first
        time.sleep(first)

    def think(self):
        users = max(self.environment.runner.target_user_count, 1)
        if os.environ.get("MOBIUS_PROFILE"):
            users = USERS  # the shape starts and stops users
        return random.expovariate(RATE / users)

    def wait_time(self):
        # From the moment a request was due, not from its answer: slow answers must not lower the rate.
        self.due += self.think()
        return max(0.0, self.due - time.monotonic())

    @task
    def request(self):
        weights = [rate for _, _, rate in ENDPOINTS]
        method, route, _ = random.choices(ENDPOINTS, weights)[0]
        options = random.choice(DATA["requests"].get(f"{method} {route}") or [{}])
        self.client.request(method, fill(route), name=route, **options)


USERS = int(os.environ.get("MOBIUS_USERS", @USERS@))

if os.environ.get("MOBIUS_PROFILE"):

    class CourseOfTheDay(LoadTestShape):
        """The 24 hours of users' traffic, within MOBIUS_DURATION seconds."""

        def tick(self):
            duration = float(os.environ.get("MOBIUS_DURATION", "1440"))
            hour = int(self.get_run_time() / duration * 24)
            if hour >= 24:
                return None
            factor = HOURS[hour] if HOURS[hour] is not None else 1.0
            return max(1, round(USERS * factor)), USERS
'''


def locustfile(mix: Mix, *, test: str) -> str:
    """Write the locustfile of a mix; ``test`` is the name its results will bear."""
    values = {
        **common_values(mix, test),
        "ENDPOINTS": "\n".join(
            f"    ({json.dumps(one.method)}, {json.dumps(one.route)}, {one.rate:.6g}),"
            for one in mix.endpoints
        ),
        "HOURS": repr(list(mix.hours)),
        # Enough that no user is still waiting for an answer when its next request is due.
        "USERS": json.dumps(str(max(10, round(mix.rate * 10)))),
    }
    return filled(_TEMPLATE, values)

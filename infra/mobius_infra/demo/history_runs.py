"""The test runs of the shop's past, as the result files that the Locust listener would have written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from mobius_infra.demo import shop
from mobius_infra.demo.history_draw import TestRun
from mobius_infra.demo.history_spans import Traced
from mobius_infra.demo.latency_models import Ints

__all__ = ["RunFile", "write_run_files"]

_WAY_OUT: Final = 0.4  # share of the client's own time that passes before the server starts


@dataclass(frozen=True, slots=True)
class RunFile:
    """One run and its result file."""

    run: TestRun
    file: Path


@dataclass(frozen=True, slots=True, eq=False)
class _Lines:
    """Result lines of one endpoint, with the run and start of each."""

    run: Ints
    start_ns: Ints
    text: list[str]


def write_run_files(
    folder: Path, runs: Sequence[TestRun], tests: Sequence[Traced], rng: np.random.Generator
) -> list[RunFile]:
    """Write one file a run into ``folder``; ``tests`` are the region's requests of tests."""
    parts = [_lines(traced, rng) for traced in tests]
    run = np.concatenate([part.run for part in parts])
    start = np.concatenate([part.start_ns for part in parts])
    text = [line for part in parts for line in part.text]
    failed = np.concatenate([traced.requests.status >= 400 for traced in tests])
    files = []
    for index, one in enumerate(runs):
        of_run = np.flatnonzero(run == index)
        of_run = of_run[np.argsort(start[of_run])]
        file = folder / f"{one.run}.jsonl"
        end = (
            _iso(start[of_run][-1:] + 10**9)[0]
            if of_run.size
            else _iso(np.array([one.start_ns]))[0]
        )
        head = {
            "mobius_synthetic": 1,
            "kind": "run",
            "tool": "locust",
            "tool_version": "generated",
            "test": shop.TEST_NAME,
            "run": one.run,
            "release": one.version,
            "generated": True,
            "started": _iso(np.array([one.start_ns]))[0],
        }
        tail = {
            "kind": "end",
            "ended": end,
            "requests": of_run.size,
            "failed": int(failed[of_run].sum()),
        }
        body = "".join([text[i] for i in of_run])
        file.write_text(f"{json.dumps(head)}\n{body}{json.dumps(tail)}\n", encoding="utf-8")
        files.append(RunFile(one, file))
    return files


def _lines(traced: Traced, rng: np.random.Generator) -> _Lines:
    requests = traced.requests
    endpoint = requests.endpoint
    client_ms = requests.client_ms
    start_ns = requests.start_ns - (_WAY_OUT * client_ms * 1e6).astype(np.int64)
    duration = (requests.storefront_ms + client_ms).tolist()
    trace, span = traced.trace.tobytes().hex(), traced.caller.tobytes().hex()
    host = f"http://storefront.{requests.region}.example"
    paths = _paths(endpoint, start_ns.size, rng)
    text = [
        f'{{"start": "{start}", "duration_ms": {duration[i]:.3f}, "method": "{endpoint.method}", '
        f'"name": "{endpoint.route}", "url": "{host}{paths[i]}", "status": {status}, '
        f'"failed": {"true" if status >= 400 else "false"}, "error": {_error(status)}, '
        f'"trace_id": "{trace[32 * i : 32 * i + 32]}", "span_id": "{span[16 * i : 16 * i + 16]}"}}\n'
        for i, (start, status) in enumerate(
            zip(_iso(start_ns), requests.status.tolist(), strict=True)
        )
    ]
    return _Lines(requests.run, start_ns, text)


def _paths(endpoint: shop.Endpoint, count: int, rng: np.random.Generator) -> list[str]:
    if endpoint.route == "/search":
        return [f"/search?q={shop.TEST_QUERY.replace(' ', '+')}"] * count
    if "{product_id}" not in endpoint.route:
        return [endpoint.route] * count
    products = rng.choice(shop.PRODUCTS, count, p=shop.popularity(shop.PRODUCTS, 1.0))
    return [f"/products/{shop.product_id(number)}" for number in products.tolist()]


def _error(status: int) -> str:
    return "null" if status < 400 else f'"HTTPError({status})"'


def _iso(times_ns: npt.NDArray[np.int64]) -> list[str]:
    """ISO 8601 in UTC with microseconds, ending in Z."""
    moments = (times_ns // 1000).astype("datetime64[us]")
    return [f"{text}Z" for text in np.datetime_as_string(moments).tolist()]

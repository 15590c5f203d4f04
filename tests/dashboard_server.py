"""A served dashboard and a real browser, for tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

__all__ = ["PATIENCE_MS", "answering", "free_port", "open_browser", "serve_dashboard", "settle"]

PATIENCE_MS = 90_000


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start Chromium; skips, and says so, where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("NO CHROMIUM: the dashboard was not looked at in a browser")
    arguments = ["--headless=new", "--disable-gpu", "--disable-background-networking"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")  # Chromium refuses to sandbox as root
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()


@contextmanager
def serve_dashboard(
    config: Path, port: int, *options: str, log: Path | None = None, **variables: str
) -> Iterator[str]:
    """Serve the dashboard until the block ends; gives its address. ``variables`` are the environment's ``MOBIUS_*``."""
    command = [
        sys.executable, "-m", "mobius_infra.cli", "dashboard",
        "--port", str(port), "--config", str(config), *options,
    ]  # fmt: skip
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MOBIUS_")}
    with (log or Path(os.devnull)).open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env={**kept, **variables}
        )
    try:
        answering(f"http://127.0.0.1:{port}/_stcore/health", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def answering(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the server of {url} ended"
        try:
            urllib.request.urlopen(url, timeout=2).close()
        except (OSError, urllib.error.URLError):
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"{url} did not answer")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def settle(page: Page) -> None:
    """Wait until the page's script has ended."""
    page.wait_for_selector(".stApp[data-test-script-state=notRunning]", timeout=PATIENCE_MS)

"""The dashboard in a thread, and Debian's Chromium on it, driven by Playwright.

Where a page asks another host for anything, says an error on its console or breaks its content security policy, the
test that opened it fails.
"""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, sync_playwright

from orchestrator.dashboard.app import create_app
from orchestrator.dashboard.server import Server
from orchestrator.dashboard.settings import Settings
from orchestrator.store.objects import Objects

CHROMIUM = shutil.which("chromium")
ARGS = [
    "--no-sandbox",  # it runs as root in CI
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TOKEN = "a-token-for-tests"
SIZE = {"width": 1200, "height": 800}
PATIENCE_MS = 20_000


@dataclass
class Site:
    """A dashboard that answers at `url`."""

    url: str
    settings: Settings
    app: Any = field(repr=False, default=None)


@contextmanager
def serving(objects: Objects, **settings: Any) -> Iterator[Site]:
    """The dashboard over `objects` on a free port, in a thread of this process."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        given = replace(Settings(token=TOKEN, port=port, poll=0.3), **settings)
        app = create_app(objects, given)
        config = uvicorn.Config(
            app, log_level="warning", ws="none", lifespan="on", access_log=False, timeout_graceful_shutdown=2
        )
        server = Server(config, app.state.hub)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            deadline = time.monotonic() + 30
            while not server.started:
                assert thread.is_alive(), "the dashboard did not start"
                assert time.monotonic() < deadline, "the dashboard did not start within 30 s"
                time.sleep(0.02)
            yield Site(f"http://127.0.0.1:{port}", given, app)
        finally:
            server.leave()
            thread.join(20)
            assert not thread.is_alive(), "the dashboard did not end within 20 s"


@dataclass
class Watch:
    """What went wrong in the pages of one test."""

    host: str
    wrong: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)  # parts of console errors that the test provokes

    def console(self, message: ConsoleMessage) -> None:
        """A line of a page's console."""
        text = f"{message.text} ({message.location.get('url', '')})"
        if message.type == "error" and not any(part in text for part in self.expected):
            self.wrong.append(f"console: {text}")

    def request(self, request: Request) -> None:
        """Something that a page asks for."""
        if not request.url.startswith((self.host, "data:", "blob:")):
            self.wrong.append(f"external request: {request.url}")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser; skipped where there is none."""
    if CHROMIUM is None:
        pytest.skip("no chromium: apt-get install chromium fonts-dejavu-core")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """A person at one dashboard: `open` pages, `watch` what goes wrong in them."""

    site: Site
    context: BrowserContext
    watch: Watch

    def open(self, path: str = "/") -> Page:
        """A new tab at `path`."""
        page = self.context.new_page()
        page.goto(self.site.url + path)
        return page


@contextmanager
def visiting(browser: Browser, site: Site, scheme: Any = "light") -> Iterator[Visit]:
    """A person with a fresh profile, let in by the token. Raises AssertionError where a page of theirs did wrong."""
    context = browser.new_context(viewport=SIZE, color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
    context.set_default_timeout(PATIENCE_MS)
    watch = Watch(site.url)
    context.on("console", watch.console)
    context.on("weberror", lambda error: watch.wrong.append(f"error: {error.error}"))
    context.on("request", watch.request)
    try:
        first = context.new_page()
        first.goto(f"{site.url}/?token={site.settings.token}")
        assert "token" not in first.url, "the token stays in the address"
        first.goto("about:blank")
        first.close()
        yield Visit(site, context, watch)
    finally:
        context.close()
    assert not watch.wrong, "\n".join(watch.wrong)


@pytest.fixture
def visit(chromium: Browser, site: Site) -> Iterator[Visit]:
    """A person at the test's own `site`."""
    with visiting(chromium, site) as visit:
        yield visit


def until(there: Callable[[], bool], what: str, seconds: float = PATIENCE_MS / 1000) -> None:
    """Wait until `there` holds."""
    deadline = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < deadline, f"no {what} within {seconds:g} s"
        time.sleep(0.05)

"""Debian's Chromium, driven by Selenium, for pages of this machine. It asks the network for nothing."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless",
    "--no-sandbox",  # it runs as root in CI
    "--disable-gpu",
    "--enable-unsafe-swiftshader",  # parallel coordinates are drawn by WebGL
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--window-size=1320,2400",
)
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    """An empty browser; skipped where there is none."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip(
            "no chromium and chromedriver: apt-get install chromium chromium-driver fonts-dejavu-core"
        )
    options = Options()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = WebDriver(options=options, service=Service(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def text_of(browser: WebDriver) -> str:
    """What a person reads on the page."""
    return browser.find_element(By.TAG_NAME, "body").text


def wait_for(browser: WebDriver, there: Callable[[WebDriver], bool], what: str) -> None:
    """Wait until `there` holds. Raises AssertionError with the page's text where it does not come to that."""
    deadline = time.monotonic() + PATIENCE_S
    while not there(browser):
        assert time.monotonic() < deadline, f"no {what}: {text_of(browser)[:2000]}"
        time.sleep(0.1)


def complaints(browser: WebDriver) -> list[str]:
    """What the page's console said that a developer would mind."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def screenshot(browser: WebDriver, path: Path) -> bytes:
    """The window as PNG, also written to `path`."""
    png: bytes = browser.get_screenshot_as_png()
    path.write_bytes(png)
    return png

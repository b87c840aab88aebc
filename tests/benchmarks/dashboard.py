"""The dashboard's budgets on stores of 1,000 and 10,000 runs of 1,000 steps (and 50,000 with --large).

The store is what a compacted one looks like: an index and segments of curves, each 1,000 runs in row groups of 100. The
newest 200 runs have run.json and sealed.json, the newest 20 have 40 pictures. `ganctl dashboard` serves it from a
process of its own, and Debian's Chromium opens its pages. Idle is told twice: nothing runs, and ten runs go on, each
with a heartbeat a second as trainings write them. Ten tabs are open: five of `/`, five of `/runs`.

    python -m tests.benchmarks.dashboard [--quick] [--large]
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median

import psutil
from playwright.sync_api import BrowserContext, Page, sync_playwright

from orchestrator.store.objects import Objects, open_objects
from tests.benchmarks.dashboard_store import COMPARED, PICTURES, going, make_store
from tests.benchmarks.report import Report
from tests.support.browsing import ARGS, CHROMIUM, SIZE

TABS, GOING = 10, 10
SETTLE_S, IDLE_S = 10.0, 20.0
MB = 1024 * 1024


@contextmanager
def served(store: str) -> Iterator[tuple[str, psutil.Process]]:
    """`ganctl dashboard` on a free port: the address with its token, and the process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "orchestrator.cli", "dashboard", "--store", store, "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = next(word for line in process.stdout for word in line.split() if "token=" in word)
        while True:  # the address is told before it answers
            assert process.poll() is None, "ganctl dashboard ended"
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        yield address, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(20)


WAIT = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
TYPED = """async (text) => {
    const box = document.getElementById("filter"), begun = performance.now();
    box.value = text;
    box.dispatchEvent(new Event("input", {bubbles: true}));
    await WAIT;
    return performance.now() - begun;
}""".replace("WAIT", WAIT)
SORTED = """async (label) => {
    const head = [...document.querySelectorAll("th button")].find((b) => b.textContent.startsWith(label));
    const begun = performance.now();
    head.click();
    await WAIT;
    return performance.now() - begun;
}""".replace("WAIT", WAIT)
KEY = """() => new Promise((done) => {
    const frame = document.querySelector(".frame"), begun = performance.now();
    new MutationObserver((_, seen) => {
        seen.disconnect();
        requestAnimationFrame(() => done(performance.now() - begun));
    }).observe(frame, {childList: true});
    document.body.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowLeft", bubbles: true, cancelable: true}));
})"""
PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? NaN"


def pages(context: BrowserContext, base: str, ids: list[str], report: Report, tag: str, full: bool) -> None:
    """Time what a person waits for. Budgets hold where `full`."""
    page = context.new_page()
    page.goto(f"{base}/runs")
    page.locator("tr[aria-rowindex]").first.wait_for()
    ready = page.evaluate("performance.now()")
    report.add(f"{tag}: first paint of /runs", page.evaluate(PAINT), "ms", at_most=1000 if full else None)
    report.add(f"{tag}: rows of /runs", ready, "ms")
    texts = ("fid<20", "fid<20 family:wgan", "verdict:collapse", "run 77", "")
    slowest = max(page.evaluate(TYPED, text) for text in texts)
    report.add(f"{tag}: filter", slowest, "ms", at_most=150 if full else None)
    report.add(f"{tag}: sort", max(page.evaluate(SORTED, label) for label in ("fid", "name", "step")), "ms")
    slider(page, base, ids[-1], report, tag, full)
    compare(page, base, ids[-min(COMPARED, len(ids)) :], report, tag, full)
    page.close()


def slider(page: Page, base: str, run: str, report: Report, tag: str, full: bool) -> None:
    page.goto(f"{base}/runs/{run}")
    page.locator("img#sample[data-step]").wait_for()
    page.locator(".chart canvas").first.wait_for()
    report.add(f"{tag}: a run's curves and picture", page.evaluate("performance.now()"), "ms")
    page.wait_for_timeout(500)
    keys = []
    for _ in range(PICTURES - 10):
        keys.append(page.evaluate(KEY))
        page.wait_for_timeout(100)
    report.add(f"{tag}: slider key to image, median", median(keys), "ms")
    report.add(f"{tag}: slider key to image, worst", max(keys), "ms", at_most=100 if full else None)


def compare(page: Page, base: str, ids: list[str], report: Report, tag: str, full: bool) -> None:
    page.goto(f"{base}/compare?runs={','.join(ids)}&name=fid")
    page.locator("#legend [role=listitem]").nth(len(ids) - 1).wait_for(state="attached", timeout=60_000)
    page.evaluate(f"() => {WAIT}")
    taken = page.evaluate("performance.now()")
    report.add(f"{tag}: {len(ids)} curves compared", taken, "ms", at_most=2000 if full else None)


def idle(
    context: BrowserContext,
    base: str,
    server: psutil.Process,
    objects: Objects,
    report: Report,
    tag: str,
    full: bool,
) -> None:
    """What it costs that nothing happens, and that ten runs go on, once ten tabs have loaded."""
    tabs = [context.new_page() for _ in range(TABS)]
    for number, tab in enumerate(tabs):
        tab.goto(f"{base}/{'runs' if number % 2 else ''}")
    tabs[-1].locator("tr[aria-rowindex]").first.wait_for()
    at_most = 3 if full else None
    server_share, browser_share = shares(server)
    report.add(f"{tag}: idle CPU, {TABS} tabs, none runs", server_share, "%", at_most=at_most)
    report.add(f"{tag}: the browser's meanwhile", browser_share, "%")
    with going(objects, GOING):
        server_share, browser_share = shares(server)
        report.add(f"{tag}: CPU, {TABS} tabs, {GOING} run", server_share, "%")
        report.add(f"{tag}: the browser's meanwhile", browser_share, "%")
    report.add(f"{tag}: server's memory", server.memory_info().rss / MB, "MB", at_most=400 if full else None)


def shares(server: psutil.Process) -> tuple[float, float]:
    """The server's and the browser's use of one core in percent, after things have settled."""
    time.sleep(SETTLE_S)
    before, began = seconds(server), time.monotonic()
    time.sleep(IDLE_S)
    spent = time.monotonic() - began
    server_share, browser_share = (
        100 * (after - then) / spent for after, then in zip(seconds(server), before, strict=True)
    )
    return server_share, browser_share


def seconds(server: psutil.Process) -> tuple[float, float]:
    """CPU seconds so far of the server, and of all processes of the browser."""
    found = [p for p in psutil.Process().children(recursive=True) if "chrom" in p.name()]
    used = 0.0
    for process in found:
        with suppress(psutil.NoSuchProcess):
            used += sum(process.cpu_times()[:2])
    return sum(server.cpu_times()[:2]), used


def measure(num: int, report: Report) -> None:
    """Make a store of `num` runs, serve it, and look at it."""
    tag, full = f"{num} runs", num == 10_000
    with tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        ids = make_store(open_objects(folder), num)
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        print(f"{tag}: {size / MB:.0f} MB made in {time.monotonic() - begun:.0f} s", flush=True)
        with served(folder) as (address, server), sync_playwright() as driver:
            base = address.partition("/?")[0]
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGS)
            context = browser.new_context(viewport=SIZE)  # type: ignore[arg-type]
            begun = time.monotonic()
            context.new_page().goto(address)
            report.add(f"{tag}: first page of all", (time.monotonic() - begun) * 1000, "ms")
            pages(context, base, ids, report, tag, full)
            idle(context, base, server, open_objects(folder), report, tag, full)
            browser.close()


def main() -> int:
    """Print the figures; 1 where one falls short."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="1,000 runs only")
    parser.add_argument("--large", action="store_true", help="50,000 runs, too")
    given = parser.parse_args()
    report = Report()
    for num in (1000, *(() if given.quick else (10_000,)), *((50_000,) if given.large else ())):
        measure(num, report)
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())

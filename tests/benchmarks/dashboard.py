"""The dashboard's budgets on stores of 1,000 and 10,000 runs of 1,000 steps (and 50,000 with --large).

The store is made directly: an index, segments of curves, and pictures of a few runs. `ganctl dashboard` serves it from
a process of its own, and Debian's Chromium opens its pages.

    python -m tests.benchmarks.dashboard [--quick] [--large]
"""

from __future__ import annotations

import argparse
import io
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from playwright.sync_api import BrowserContext, Page, sync_playwright

from orchestrator.store import documents, segments, summaries
from orchestrator.store.catalogue import RUNS_PER_GROUP
from orchestrator.store.layout import run_key, sample_key
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.segments import Segment, Snapshot
from tests.benchmarks.report import Report
from tests.support.browsing import ARGS, CHROMIUM, SIZE

STEPS = 1000  # rows of a run
PICTURED, PICTURES = 20, 40  # runs with samples, and how many each has
COMPARED, TABS, IDLE_S = 200, 10, 10.0
FAMILIES = ("wgan_gp", "dcgan", "stylegan2", "r3gan", "vanilla")
STATES = ("completed", "completed", "completed", "collapsed", "pruned", "failed")
VERDICTS = {"collapsed": "mode collapse", "failed": "diverged"}
METRICS = ("loss_d", "loss_g", "grad_critic", "grad_generator", "fid", "coverage", "recall")
MB = 1024 * 1024
CHARS = "abcdefghijklmnopqrstuvwxyz234567"


def name_of(number: int) -> str:
    """An id; they sort as their numbers do."""
    day, second = divmod(number * 7, 86_400)
    tail = "".join(CHARS[(number >> (5 * place)) % 32] for place in range(6))
    clock = f"{second // 3600:02d}{second // 60 % 60:02d}{second % 60:02d}"
    return f"202611{1 + day:02d}-{clock}-{tail}"


def make_store(objects: Objects, num: int, seed: int = 0) -> list[str]:
    """Write `num` sealed runs in one snapshot; returns their ids."""
    rng = np.random.default_rng(seed)
    ids = [name_of(number) for number in range(num)]
    rows: list[dict[str, Any]] = []
    parts: list[Segment] = []
    for start in range(0, num, 1000):
        group = ids[start : start + 1000]
        key = f"seg/{start:08d}.parquet"
        columns = write_segment(objects, key, group, rng)
        parts.append(Segment(key, len(group)))
        place = {"segment": key, "columns": columns, "merged": time.time()}
        for within, run in enumerate(group):
            row = row_of(start + within, run, rng)
            rows.append(row | place | {"row_group": within // RUNS_PER_GROUP})
    snapshot = Snapshot(1, "index/0.parquet", tuple(parts))
    sink = pa.BufferOutputStream()
    pq.write_table(summaries.to_table(rows), sink)
    objects.create(snapshot.index, sink.getvalue().to_pybytes())
    objects.create("snap/00000001.json", documents.encode(asdict(snapshot)))
    write_documents(objects, rows)
    for run in [*ids[:PICTURED], *ids[-PICTURED:]]:
        write_pictures(objects, run, rng)
    return ids


def row_of(number: int, run: str, rng: np.random.Generator) -> dict[str, Any]:
    """A run's row of the index."""
    state = STATES[number % len(STATES)]
    figures = {
        "fid": float(rng.lognormal(3, 1)),
        "coverage": float(rng.random()),
        "recall": float(rng.random()),
    }
    head = {"id": run, "name": f"run {number} of {FAMILIES[number % 5]}", "family": FAMILIES[number % 5]}
    created = 1_793_000_000.0 + number * 7
    told = {"sweep": None, "state": state, "verdict": VERDICTS.get(state, "healthy"), "attempt": 1}
    lr = {"gan.lr_g": float(10 ** rng.uniform(-4, -2)), "gan.lr_ratio": float(10 ** rng.uniform(-1, 1))}
    times = {"step": STEPS * 10, "created": created, "time": created + 600, "seed": number}
    return head | told | times | {"params": lr, "metrics": figures | {"seconds": 600.0}, "best": figures}


def write_segment(objects: Objects, key: str, runs: list[str], rng: np.random.Generator) -> str:
    """Curves of `runs`, of few distinct values so that they stay small on the disk; returns its columns as JSON."""
    sink = pa.BufferOutputStream()
    writer, columns = None, ""
    for start in range(0, len(runs), RUNS_PER_GROUP):
        group = sorted(runs[start : start + RUNS_PER_GROUP])
        many = len(group) * STEPS
        table = pa.table(
            {
                "run": pa.array(np.repeat(np.array(group), STEPS)),
                "step": pa.array(np.tile(np.arange(10, STEPS * 10 + 10, 10), len(group))),
                "attempt": pa.array(np.ones(many, np.int64)),
                "time": pa.array(np.tile(np.arange(STEPS, dtype=float), len(group))),
                **{name: pa.array(rng.integers(1, 200, many) / 50.0) for name in METRICS},
            }
        )
        columns = segments.columns_of(table.drop_columns(["run"]))
        writer = writer or pq.ParquetWriter(sink, table.schema, compression="zstd")
        writer.write_table(table, row_group_size=many)
    assert writer is not None
    writer.close()
    objects.create(key, sink.getvalue().to_pybytes())
    return columns


def write_documents(objects: Objects, rows: list[dict[str, Any]]) -> None:
    """run.json and sealed.json of those runs whose pages are opened; their parts are in the segment alone."""
    for row in rows[:COMPARED] + rows[-COMPARED:]:
        gan = {"family": row["family"], **{k.removeprefix("gan."): v for k, v in row["params"].items()}}
        experiment = {"name": row["name"], "gan": gan, "data": {"kind": "digits"}, "seed": row["seed"]}
        head = {key: row[key] for key in ("id", "name", "family", "created")}
        objects.put(run_key(row["id"], "run.json"), documents.encode(head | {"experiment": experiment}))
        end = head | {key: row[key] for key in ("state", "verdict", "attempt", "step", "time", "metrics")}
        end |= {"parts": ["a0001-000000000010-000000010000.parquet"], "from": [0], "seconds": 600.0}
        objects.put(run_key(row["id"], "sealed.json"), documents.encode(end))


def write_pictures(objects: Objects, run: str, rng: np.random.Generator) -> None:
    """Grids of 8 x 8 pictures of 32 x 32, coarse ones so that they stay small on the disk."""
    for number in range(PICTURES):
        pixels = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
        sink = io.BytesIO()
        Image.fromarray(pixels).save(sink, "PNG")
        objects.put(sample_key(run, (number + 1) * 250, f"{number:012x}"), sink.getvalue())


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
    context: BrowserContext, base: str, server: psutil.Process, report: Report, runs: int, full: bool
) -> None:
    """What it costs that nothing happens."""
    tag = f"{runs} runs"
    tabs = [context.new_page() for _ in range(TABS)]
    for number, tab in enumerate(tabs):
        tab.goto(f"{base}/{'runs' if number % 2 else ''}")
    tabs[-1].locator("tr[aria-rowindex]").first.wait_for()
    time.sleep(5 + runs / 150)  # until it has looked for the samples of every run, 200 a second
    server.cpu_percent()
    time.sleep(IDLE_S)
    share = server.cpu_percent()
    report.add(f"{tag}: idle CPU, {TABS} tabs", share, "%", at_most=3 if full else None)
    report.add(f"{tag}: server's memory", server.memory_info().rss / MB, "MB", at_most=400 if full else None)


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
            idle(context, base, server, report, num, full)
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

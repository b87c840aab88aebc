"""What pages show while a training goes on in a process of its own, and while everything else is down."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from orchestrator.store.ids import new_id
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.reader import Run
from orchestrator.store.writer import RunWriter
from tests.support.browsing import chromium, serving, until, visiting

pytestmark = pytest.mark.slow
__all__ = ["chromium"]

COLLAPSES = [
    *("vanilla.ring", "gan.lr_ratio=0.01", "gan.width=16", "data.num=1000", "train.batch=64"),
    *("train.steps=20000", "train.log_every=20", "train.sample_every=200", "train.evaluate_every=0"),
    *("train.on_collapse=ignore", "health.grace=0.1", "health.window=1", "health.looks=1000"),
]
APPEARS_S = 5.0
LOOK_S = 1.0  # between two looks at the store
LISTEN = """() => {
    const seen = setInterval(() => {
        if (!document.querySelector("main").innerText.includes("mode collapse")) return;
        window.toldAt = Date.now();
        clearInterval(seen);
    }, 50);
}"""


@contextmanager
def training(objects: Objects, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`ganctl train` of a run that collapses and goes on, as in a terminal; asked to end at the end."""
    command = [sys.executable, "-m", "orchestrator.cli", "train", *COLLAPSES, "--store", objects.url]
    with (folder / "train.txt").open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def curve(page: Page) -> str:
    """The first curve as it is drawn."""
    return str(page.locator(".chart canvas").first.evaluate("(canvas) => canvas.toDataURL()"))


def test_a_run_from_a_terminal_appears_moves_and_its_collapse_is_told(
    chromium: Browser, tmp_path: Path
) -> None:
    objects = open_objects(str(tmp_path / "store"))
    with serving(objects, poll=LOOK_S) as site, visiting(chromium, site) as visit:
        table, alarms = visit.open("/runs"), visit.open("/alarms")
        expect(table.locator("#filter-help")).to_contain_text("0 of 0 runs")
        alarms.evaluate(LISTEN)
        with training(objects, tmp_path):
            until(lambda: bool(objects.list("live")), "run that has begun", 60)
            table.locator("tr[aria-rowindex]").first.wait_for(timeout=30_000)
            shown = time.time()
            (run_id,) = [key.split("/")[1].removesuffix(".json") for key in objects.list("live")]
            assert shown - Run(objects, run_id).document()["created"] < APPEARS_S
            page = visit.open(f"/runs/{run_id}")
            expect(page.locator("img#sample[data-step]")).to_be_visible(timeout=30_000)
            page.locator(".chart canvas").first.wait_for(timeout=30_000)
            before, step = curve(page), page.locator("#sample").get_attribute("data-step")
            expect(page.locator("#sample")).not_to_have_attribute("data-step", str(step), timeout=30_000)
            until(lambda: curve(page) != before, "curve that has moved", 30)
            until(lambda: bool(alarms.evaluate("() => window.toldAt")), "alarm", 90)
            page.locator("#health").filter(has_text="mode collapse").wait_for(timeout=30_000)
        live, rows = Run(objects, run_id).live(), Run(objects, run_id).metrics().to_pylist()
        assert live is not None
        first = next(row for row in rows if row["verdict"] != "healthy")
        assert (first["step"], first["verdict"]) == (live["since"], "mode collapse")
        told = alarms.evaluate("() => window.toldAt")
        assert told / 1000 - first["time"] < RunWriter.flush_seconds
        row = alarms.get_by_role("row").filter(has_text="mode collapse")
        expect(row).to_contain_text(f"{first['step']:,}")


def test_ten_tabs_say_what_is_down_show_the_rest_and_recover_by_themselves(
    chromium: Browser, tmp_path: Path
) -> None:
    folder = tmp_path / "store"
    writer = RunWriter.create(open_objects(str(folder)), new_id(), {"name": "kept", "family": "vanilla"})
    writer.log(10, {"loss_d": 1.0, "verdict": "mode collapse"})
    writer.seal("collapsed", {"verdict": "mode collapse"})
    nobody = "http://127.0.0.1:9"
    paths = ["/", "/runs", f"/runs/{writer.run_id}", "/alarms", "/cluster", "/sweeps", "/models"]
    with (
        serving(open_objects(str(folder)), ray=nobody, prefect=f"{nobody}/api") as site,
        visiting(chromium, site) as visit,
    ):
        visit.watch.expected += ["503"]
        tabs = {path: visit.open(path) for path in [*paths, "/?2", "/runs?q=kept", "/alarms?2"]}
        assert len(tabs) == 10
        expect(tabs["/"].locator("#servers")).to_contain_text("down")
        expect(tabs["/cluster"].get_by_role("main")).to_contain_text("down")
        for path in ("/runs", "/alarms", "/alarms?2", "/runs?q=kept"):
            expect(tabs[path].get_by_role("main")).to_contain_text("kept")
        folder.rename(tmp_path / "away")
        for tab in tabs.values():
            expect(tab.locator("#banner")).to_contain_text("store", timeout=30_000)
        expect(tabs["/runs"].get_by_role("row", name="kept")).to_be_visible()
        (tmp_path / "away").rename(folder)
        for tab in tabs.values():
            expect(tab.locator("#banner")).to_be_hidden(timeout=30_000)
        after = RunWriter.create(open_objects(str(folder)), new_id(), {"name": "after", "family": "vanilla"})
        expect(tabs["/"].locator("#now")).to_contain_text("after", timeout=15_000)
        expect(tabs["/?2"].locator("#now")).to_contain_text("after", timeout=15_000)
        after.seal("completed", {})

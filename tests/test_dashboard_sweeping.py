"""A sweep that runs, in a process of its own on its own Ray, while its page is open: it changes, and what the person
looks at stays where it is. Then the person stops it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from orchestrator.dashboard import journal
from orchestrator.store.objects import Objects, open_objects
from orchestrator.sweep.folder import open_sweep, sweeps
from tests.support.browsing import chromium, serving, until, visiting
from tests.support.guard import end
from tests.support.rays import nothing_left, processes_of, short_folder
from tests.test_sweep_kill import tiny

pytestmark = pytest.mark.slow
__all__ = ["chromium"]

TRIALS = 400  # more than there is time for: the person ends it
PATIENCE = 240.0


@contextmanager
def sweeping(folder: Path) -> Iterator[tuple[Objects, subprocess.Popen[str]]]:
    """`ganctl sweep` as a process, and its store."""
    recipe, store = folder / "tiny.yaml", folder / "store"
    recipe.write_text(json.dumps(tiny(**{"train.steps": 120}).document()))
    words = ["sweep", str(recipe), "--trials", str(TRIALS), "--sampler", "random", "--on-collapse", "ignore"]
    with short_folder() as short:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        command = [sys.executable, "-m", "orchestrator.cli", *words, "--store", str(store), "--json"]
        process = subprocess.Popen(
            command,
            env=environ | {"GANCTL_RAY_TMP": short, "TMPDIR": short},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            yield open_objects(str(store)), process
        finally:
            if process.poll() is None:
                process.kill()
                end(processes_of(short))
            process.communicate()
        nothing_left(short)


def ended(page: Page) -> int:
    """Trials of the table that have ended."""
    told: list[str] = page.locator("#trials tbody td:nth-child(2)").all_inner_texts()
    return sum(text not in ("running", "waiting") for text in told)


def place(row: Locator) -> float:
    box = row.bounding_box()
    assert box is not None
    return box["y"]


def test_a_running_sweep_is_watched_and_stopped(chromium: Browser, tmp_path: Path) -> None:
    with sweeping(tmp_path) as (objects, process):
        until(lambda: bool(sweeps(objects, 1)), "sweep", PATIENCE)
        (sweep,) = sweeps(objects, 1)
        with serving(objects) as site, visiting(chromium, site) as visit:
            listed, page = visit.open("/sweeps"), visit.open(f"/sweeps/{sweep.id}")
            page.set_viewport_size({"width": 1000, "height": 480})
            expect(page.locator("#state")).to_have_text("running", timeout=PATIENCE * 1000)
            until(lambda: ended(page) >= 3, "third trial that ended", PATIENCE)
            page.evaluate("() => { window.same = true; }")
            watched(page)
            assert page.evaluate("() => window.same"), "the page was loaded anew"
            expect(listed.locator("#sweeps tbody tr")).to_contain_text("running")
            stop(page)
            expect(page.locator("#state")).not_to_have_text("running", timeout=PATIENCE * 1000)
            expect(listed.locator("#sweeps tbody tr")).not_to_contain_text("running", timeout=20_000)
        assert process.wait(PATIENCE) in (0, 7), process.communicate()[1]
        assert open_sweep(objects, sweep.id).live is None
        (action,) = journal.newest(objects)
        assert (action["what"], action["status"], action["arguments"]["id"]) == ("stop sweep", 200, sweep.id)


def watched(page: Page) -> None:
    """Trials come and end; the selected text, the place of its row, the scroll and the focus stay."""
    page.get_by_label("End").focus()
    row = page.locator("#trials tbody tr").nth(1)
    row.scroll_into_view_if_needed()
    row.locator("td").nth(3).select_text()
    picked = page.evaluate("() => getSelection().toString()")
    at, before, scrolled = place(row), ended(page), page.evaluate("() => scrollY")
    assert "lr_ratio=" in picked
    assert scrolled > 0
    seen = page.locator("#trials tbody tr").count()
    until(lambda: ended(page) >= before + 2, "two more trials that ended", PATIENCE)
    until(lambda: page.locator("#trials tbody tr").count() > seen, "new trial", PATIENCE)
    assert page.evaluate("() => getSelection().toString()") == picked
    assert (place(row), page.evaluate("() => scrollY")) == (at, scrolled)
    expect(page.get_by_label("End")).to_be_focused()


def stop(page: Page) -> None:
    """By keyboard, and not before it was confirmed: Enter alone calls it off."""
    dialog = page.get_by_role("dialog")
    for keys in (["Escape"], ["Enter"], ["Shift+Tab", "Enter"]):
        expect(page.locator("#toasts")).to_be_empty()
        page.locator("#stop").focus()
        page.keyboard.press("Enter")
        expect(dialog).to_contain_text("No trial is begun any more")
        for key in keys:
            page.keyboard.press(key)
        expect(dialog).to_have_count(0)
    expect(page.locator("#toasts")).to_contain_text("Asked to stop")

"""Every page of the dashboard by keyboard alone, in light and in dark, and what is a table is one."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from orchestrator.dashboard.launching import form
from orchestrator.registry import Candidate, Registry
from orchestrator.store.ids import new_id
from orchestrator.store.layout import run_key
from orchestrator.store.objects import Objects
from orchestrator.store.reader import Run
from orchestrator.store.writer import RunWriter
from tests.support.browsing import Site, Visit, chromium, serving, visit, visiting
from tests.support.dashboard import ill_run, recorded
from tests.support.models import bare_run
from tests.support.sweeps import Made, make_sweep

pytestmark = pytest.mark.slow
__all__ = ["chromium", "visit"]

# Texts whose contrast to what is behind them is too low (WCAG 2.2, 1.4.3); what is switched off need not be read.
FAINT = """() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (rgb) => rgb.slice(0, 3).map((c) => c / 255)
    .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const colour = channels(getComputedStyle(node).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    const off = node.matches(":disabled, [aria-disabled=true], .hidden, .skip, option");
    if (!own || off || !node.checkVisibility()) continue;
    const [a, b] = [light(channels(getComputedStyle(node).color)), light(behind(node))].sort((x, y) => x - y);
    const ratio = ((b + 0.05) / (a + 0.05)).toFixed(2);
    if (ratio < 4.5) found.push(`${ratio} ${node.tagName}.${node.className}: ${node.textContent.slice(0, 40)}`);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A sweep, runs with curves and pictures, one that collapsed, and the model `faces` of two versions."""
    swept = make_sweep(str(tmp_path_factory.mktemp("store")), trials=14, objectives=("fid", "coverage"))
    for seed in range(3):
        writer = RunWriter.create(
            swept.objects, new_id(), {"name": "drawn", "family": "vanilla", "seed": seed}
        )
        sink = io.BytesIO()
        Image.new("RGB", (8, 8), (200, 90, 40)).save(sink, "PNG")
        for step in (10, 20, 30):
            writer.log(step, {"loss_d": 1.0 / step, "fid": 9.0 - seed, "verdict": "healthy"})
            writer.sample(step, sink.getvalue())
        writer.seal("completed", {"verdict": "healthy"})
    ill_run(swept.objects)
    for after in range(2):
        Registry(swept.objects).promote(
            "faces", Candidate(bare_run(swept.objects)), after, f"the {after + 1}."
        )
    return swept


@pytest.fixture(scope="module")
def site(made: Made) -> Iterator[Site]:
    with serving(made.objects, ray="http://head:8265") as served:
        served.app.state.ray._get = recorded
        yield served


def drawn(objects: Objects) -> list[str]:
    """The runs with pictures."""
    return [
        run
        for run in objects.folders("runs")
        if Run(objects, run).samples() and objects.exists(run_key(run, "run.json"))
    ]


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def reach(page: Page, target: Any, most: int = 60) -> None:
    """Press Tab until `target` has the focus."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if target.evaluate("node => node === document.activeElement"):
            return
    raise AssertionError(f"Tab does not reach {target}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_of_every_page_can_be_read(chromium: Browser, site: Site, made: Made, scheme: str) -> None:
    run, *_ = runs = drawn(made.objects)
    ready = {
        "/": "#latest img",
        "/runs": "tr[aria-rowindex]",
        f"/runs/{run}": ".chart canvas",
        f"/compare?runs={','.join(runs)}": "#legend [role=listitem]",
        "/sweeps": "#sweeps tbody tr",
        f"/sweeps/{made.id}": "#trials tbody tr",
        "/models": "#models tbody tr",
        "/models/faces": "#promotions tbody tr",
        "/alarms": "#alarms tbody tr",
        "/cluster": ".device",
        "/launch?recipe=vanilla.ring": "#fields input",
        f"/rate?run={run}": "#told",
        "/runs?q=fidd<3": "#filter-help.bad",
    }
    form("")  # a process with PyTorch reads the recipes
    with visiting(chromium, site, scheme) as visit:
        for path, part in ready.items():
            page = visit.open(path)
            expect(page.locator(part).first).to_be_visible(timeout=90_000)
            assert page.evaluate(FAINT) == [], path
            for table in page.locator("table:not(.u-legend)").all():
                assert table.locator("thead th[scope=col]").count() > 0, path
            page.close()


def test_the_header_and_the_table_of_runs(visit: Visit) -> None:
    page = visit.open("/")
    press(page, "Tab", "Enter")
    expect(page.locator("main")).to_be_focused()  # what is skipped is the header
    page.reload()
    reach(page, page.get_by_role("link", name="Runs", exact=True))
    press(page, "Enter")
    expect(page.locator("tr[aria-rowindex]").first).to_be_visible()
    reach(page, page.locator("#filter"))
    page.keyboard.type("family:vanilla")
    expect(page).to_have_url(re.compile("q=family"))
    reach(page, page.locator("tr[aria-rowindex] input").first)
    press(page, "Space", "ArrowDown", "Space")
    expect(page.get_by_role("link", name="Compare 2")).to_be_visible()
    first = page.locator("tr[aria-rowindex] a").first
    reach(page, first)
    press(page, "ArrowDown", "ArrowUp")
    expect(first).to_be_focused()
    press(page, "Enter")
    expect(page).to_have_url(re.compile("/runs/2"))
    page.go_back()
    expect(page.get_by_role("link", name="Compare 2")).to_be_visible()


def test_a_comparison(visit: Visit, made: Made) -> None:
    page = visit.open(f"/compare?runs={','.join(drawn(made.objects))}")
    expect(page.locator("#legend [role=listitem]")).to_have_count(3)
    reach(page, page.locator("#metric"))
    chosen = page.locator("#metric").input_value()
    press(page, "ArrowDown")
    expect(page.locator("#metric")).not_to_have_value(chosen)
    reach(page, page.locator("#log"))
    press(page, "Space")
    expect(page.locator("#log")).to_have_attribute("aria-pressed", "true")
    address = page.url
    page.reload()
    expect(page.locator("#log")).to_have_attribute("aria-pressed", "true")
    assert page.url == address
    page.go_back()
    expect(page.locator("#log")).to_have_attribute("aria-pressed", "false")


def test_a_sweep(visit: Visit, made: Made) -> None:
    page = visit.open("/sweeps")
    reach(page, page.get_by_role("link", name=made.id))
    press(page, "Enter")
    expect(page.locator("#shown")).to_have_text("14 of 14 trials")
    reach(page, page.locator("#parallel"))
    press(page, "ArrowRight", *["ArrowUp"] * 8)
    expect(page).to_have_url(re.compile("brush="))
    expect(page.locator("#shown")).not_to_have_text("14 of 14 trials")
    press(page, *["ArrowDown"] * 8)
    expect(page.locator("#shown")).to_have_text("14 of 14 trials")
    page.locator("#name").click()
    reach(page, page.locator("#end"))
    press(page, "ArrowDown")
    expect(page.locator("#shown")).not_to_have_text("14 of 14 trials")
    shown = page.locator("#shown").inner_text()
    reach(page, page.locator("#sort-cost"))
    press(page, "Enter")
    expect(page.locator("#sort-cost")).to_be_focused()
    expect(page.locator("#sort-cost")).to_contain_text("▲")
    press(page, "Enter")
    expect(page.locator("#sort-cost")).to_contain_text("▼")
    page.reload()
    expect(page.locator("#shown")).to_have_text(shown)
    expect(page.locator("#sort-cost")).to_contain_text("▼")
    page.go_back()
    expect(page.locator("#sort-cost")).to_contain_text("▲")


def test_a_model(visit: Visit, made: Made) -> None:
    page = visit.open("/models")
    expect(page.locator("#models tbody tr")).to_have_count(1)
    reach(page, page.get_by_role("link", name="faces"))
    press(page, "Enter")
    expect(page.locator("#version")).to_have_text("version 2")
    back = page.get_by_role("button", name="Roll back", exact=True)
    reach(page, back)
    press(page, "Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("input").first).to_be_focused()
    press(page, "Escape")
    expect(dialog).to_have_count(0)
    expect(back).to_be_focused()
    press(page, "Enter")
    page.keyboard.type("by keys")
    press(page, "Enter")
    expect(page.locator("#version")).to_have_text("version 1")
    champion = Registry(made.objects).champion("faces")
    assert champion is not None
    assert champion.reason == "by keys"


def test_alarms(visit: Visit) -> None:
    page = visit.open("/alarms")
    expect(page.locator("#count")).to_contain_text("1 open")
    reach(page, page.locator("#alarms").get_by_role("button", name="Acknowledge"))
    press(page, "Enter")
    page.keyboard.type("seen")
    press(page, "Enter")
    expect(page.locator("#count")).to_contain_text("0 open")
    reach(page, page.locator("#show"))
    press(page, "ArrowDown")
    expect(page.locator("#alarms")).to_contain_text("seen")
    expect(page).to_have_url(re.compile("show=all"))


def test_the_form_to_launch_with(visit: Visit) -> None:
    form("")
    page = visit.open("/launch?recipe=vanilla.ring")
    field = page.get_by_role("textbox", name="steps", exact=True)
    expect(field).to_be_visible(timeout=90_000)
    reach(page, field)
    press(page, "ControlOrMeta+A")
    page.keyboard.type("321")
    press(page, "Tab")
    expect(page.locator("#command")).to_contain_text("=321")
    expect(page).to_have_url(re.compile("=321"))
    launch = page.get_by_role("button", name="Launch", exact=True)
    page.locator("#on").focus()
    reach(page, launch)
    press(page, "Enter")
    expect(page.get_by_role("dialog")).to_contain_text("321")
    press(page, "Enter")  # calls it off
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(launch).to_be_focused()


def test_the_cluster(visit: Visit) -> None:
    visit.watch.expected.append("404")  # the sweep that Ray tells of is none of this store
    page = visit.open("/cluster")
    expect(page.locator(".device")).to_have_count(3)
    link = page.locator(".device a, a.device").first
    reach(page, link)
    press(page, "Enter")
    expect(page).to_have_url(re.compile("/(runs|sweeps)/"))

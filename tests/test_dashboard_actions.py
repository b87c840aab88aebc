"""The dashboard's actions in a real browser, on a store of real runs: what a person presses, and what then is so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from orchestrator.dashboard import journal
from orchestrator.driving import driver_of
from orchestrator.registry import Candidate, Registry
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.reader import Run
from tests.support.browsing import Site, Visit, chromium, serving, until, visit, visiting
from tests.support.dashboard import decide, ill_run, recorded
from tests.support.models import bare_run, trained_run
from tests.support.sweeps import make_sweep

pytestmark = pytest.mark.slow
__all__ = ["chromium", "visit"]

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Objects:
    return open_objects(str(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def site(objects: Objects) -> Iterator[Site]:
    with serving(objects) as site:
        yield site


def agree(page: Page, button: str, **fields: str) -> None:
    """Fill the dialog in, press its button, and wait until the server has done it."""
    dialog = page.get_by_role("dialog")
    for name, value in fields.items():
        dialog.locator(f"input[name={name}]").fill(value)
    dialog.get_by_role("button", name=button, exact=True).click()
    expect(dialog).to_have_count(0, timeout=60_000)


def test_a_model_is_rolled_back_and_promoted(visit: Visit, objects: Objects) -> None:
    first, second = (trained_run(objects) for _ in range(2))
    registry = Registry(objects)
    registry.promote("faces", Candidate(first), 0, EVIL)
    decide(objects, "faces", first, second)
    registry.promote("faces", Candidate(second), 1, "better FID")
    page = visit.open("/models")
    page.get_by_role("link", name="faces").click()
    expect(page.locator("#version")).to_have_text("version 2")
    expect(page.locator("#promotions")).to_contain_text(EVIL)
    shown = page.locator("#decisions figure img")
    expect(shown).to_have_count(2)
    for at in range(2):
        shown.nth(at).scroll_into_view_if_needed()
        until(lambda at=at: shown.nth(at).evaluate("image => image.naturalWidth") > 0, "picture")  # type: ignore[misc]
    expect(page.locator("#decisions")).to_contain_text("challenger")
    page.evaluate("scrollTo(0, 0)")
    page.get_by_role("button", name="Roll back").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    assert registry.newest("faces") == 2
    page.get_by_role("button", name="Roll back").click()
    agree(page, "Roll back", reason="worse eyes")
    expect(page.locator("#version")).to_have_text("version 1")
    champion = registry.champion("faces")
    assert champion is not None
    assert (champion.version, champion.reason) == (1, "worse eyes")
    page.get_by_role("button", name="Promote a run").click()
    agree(page, "Promote", run=second)
    expect(page.locator("#version")).to_have_text("version 2")
    expect(page.locator("#history")).to_contain_text("rollback")


def test_who_saw_an_older_champion_is_told_so(visit: Visit, objects: Objects) -> None:
    registry, runs = Registry(objects), [bare_run(objects) for _ in range(3)]
    for after, run in enumerate(runs[:2]):
        registry.promote("hands", Candidate(run), after, "")
    page = visit.open("/models/hands")
    visit.watch.expected.append("409")
    page.get_by_role("button", name="Roll back").click()
    registry.promote("hands", Candidate(runs[2]), 2, "meanwhile")
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Roll back").click()
    expect(dialog).to_contain_text("came after the one that you saw")
    assert registry.newest("hands") == 3


def test_an_alarm_is_acknowledged(visit: Visit, objects: Objects) -> None:
    run = ill_run(objects)
    page = visit.open("/alarms")
    row = page.get_by_role("row", name=run)
    expect(row).to_contain_text("probe_reach 0.05 against 0.2")
    row.get_by_role("button", name="Acknowledge").click()
    agree(page, "Acknowledge", note="known")
    expect(row).to_have_count(0)
    page.get_by_label("Show").select_option("all")
    expect(row).to_contain_text("known")
    page.go_back()
    expect(page.get_by_label("Show")).to_have_value("open")


def test_a_sweep_is_brushed_and_the_address_keeps_it(visit: Visit, objects: Objects) -> None:
    made = make_sweep(objects.url, trials=14, objectives=("fid", "coverage"))
    page = visit.open("/sweeps")
    page.get_by_role("link", name=made.id).click()
    expect(page.locator("#shown")).to_have_text("14 of 14 trials")
    expect(page.locator("#importance")).to_contain_text("gan.lr_ratio")
    expect(page.locator("#front figure img").first).to_be_visible()
    box = page.locator("#parallel").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 60, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 60, box["y"] + 160, steps=4)
    page.mouse.up()
    expect(page.locator("#shown")).not_to_have_text("14 of 14 trials")
    brushed = page.locator("#shown").inner_text()
    page.reload()
    expect(page.locator("#shown")).to_have_text(brushed)
    page.go_back()
    expect(page.locator("#shown")).to_have_text("14 of 14 trials")
    page.get_by_label("End").select_option("mode collapse")
    expect(page.locator("#trials tbody tr")).to_have_count(
        sum(row["end"] == "mode collapse" for row in made.result.trials)
    )


def test_a_run_is_launched_stopped_resumed_and_its_process_is_gone(visit: Visit, objects: Objects) -> None:
    page = visit.open("/launch?recipe=vanilla.ring&train.steps=200000&on=inline")
    expect(page.locator("#command")).to_contain_text(
        "ganctl train vanilla.ring train.steps=200000", timeout=60_000
    )
    page.get_by_role("button", name="Launch", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Launch").click()
    page.wait_for_url("**/runs/*", timeout=120_000)
    run = Run(objects, page.url.rpartition("/")[2])
    until(lambda: run.state() == "running", "running run", 60)
    other = visit.open("/cluster")
    expect(other.locator("#runs")).to_contain_text(run.id)
    expect(other.locator("#ray")).to_have_text("Ray: not started")
    page.locator("#stop").click()
    agree(page, "Stop")
    assert run.state() == "stopped"
    assert driver_of(objects, run.id) is None
    page.locator("#resume").click()
    agree(page, "Resume")
    until(lambda: run.state() == "running", "running run", 60)
    page.locator("#stop").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop", exact=True).dblclick()
    expect(page.get_by_role("dialog")).to_have_count(0, timeout=60_000)
    assert run.state() == "stopped"
    assert driver_of(objects, run.id) is None
    done = [row for row in journal.newest(objects) if row["arguments"].get("id") == run.id]
    assert [row["what"] for row in done[::-1]] == ["stop", "resume", "stop"]
    assert {row["status"] for row in done} == {200}
    assert {row["who"]["role"] for row in done} == {"operator"}


def test_pictures_are_judged_by_keys(visit: Visit, objects: Objects) -> None:
    run = trained_run(objects)
    page = visit.open(f"/rate?run={run}")
    page.get_by_role("button", name="Draw new pictures").click()
    page.get_by_role("button", name="Start").click(timeout=120_000)
    for at in range(40):
        expect(page.locator("#at")).to_have_text(f"{at + 1} of 40")
        page.locator("#picture").evaluate("picture => picture.decode()")
        until(lambda at=at: answered(page, at), "next picture")  # type: ignore[misc]
    expect(page.locator("#results")).to_contain_text("50 %")


def answered(page: Page, at: int) -> bool:
    """Press for `real` until the picture is another one: one that is not shown yet takes no answer."""
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(30)
    return page.locator("#judge").is_hidden() or page.locator("#at").inner_text() != f"{at + 1} of 40"


def test_devices_are_coloured_by_run_and_sweep(chromium: Browser, objects: Objects) -> None:
    with serving(objects, ray="http://head:8265") as site:
        site.app.state.ray._get = recorded
        with visiting(chromium, site) as visit:
            page = visit.open("/cluster")
            expect(page.locator("#ray")).to_have_text("Ray: up")
            expect(page.locator(".device")).to_have_count(3)
            expect(page.locator(".device").nth(2)).to_have_text("GPU 2: free")
            expect(page.locator("#waiting")).to_contain_text("2 CPU + 2 CPU")


def test_a_viewer_has_no_buttons(chromium: Browser, objects: Objects) -> None:
    run = bare_run(objects)
    Registry(objects).promote("eyes", Candidate(run), 0, "")
    with serving(objects, role="viewer") as site, visiting(chromium, site) as visit:
        page = visit.open("/models/eyes")
        expect(page.locator("#version")).to_have_text("version 1")
        expect(page.locator("#actions button")).to_have_count(0)
        visit.watch.expected.append("404")
        page = visit.open("/models/Not%20a%20name")
        expect(page.locator("main")).to_contain_text("model name")

"""The dashboard's pages in a real browser, on a store that real short runs made.

Every test also holds that no page asks another host for anything, says an error, or breaks its content security policy
(`tests/support/browsing.py`).
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from orchestrator.launch import submit
from orchestrator.recipes import load
from orchestrator.store.ids import new_id
from orchestrator.store.layout import judgements_key
from orchestrator.store.objects import open_objects
from orchestrator.store.reader import Run
from orchestrator.store.writer import RunWriter
from tests.support.browsing import Site, Visit, chromium, serving, visit, visiting

pytestmark = pytest.mark.slow
__all__ = ["chromium", "visit"]

HOSTILE = "<img src=x onerror=alert(1)>"
SHORT: dict[str, Any] = {
    "train.steps": 60,
    "train.batch": 32,
    "train.log_every": 2,
    "train.sample_every": 5,
    "train.evaluate_every": 20,
    "train.evaluate_samples": 200,
    "train.on_collapse": "ignore",
    "data.num": 1000,
    "gan.width": 16,
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Four runs: three that differ in seed or step size, and one with a name that would be a script."""
    folder = str(tmp_path_factory.mktemp("store"))
    changes: list[dict[str, Any]] = [
        {},
        {"seed": 1},
        {"seed": 2, "gan.lr_g": 0.003},
        {"name": HOSTILE, "seed": 3},
    ]
    for change in changes:
        submit(load("vanilla.ring").override(SHORT | change), folder).wait()
    return folder


@pytest.fixture(scope="module")
def site(store: str) -> Iterator[Site]:
    with serving(open_objects(store)) as site:
        yield site


def ids(store: str) -> list[str]:
    return sorted(path.name for path in (Path(store) / "runs").iterdir())


def rows(page: Page) -> Any:
    return page.locator("tr[aria-rowindex]")


def test_the_overview_shows_counts_servers_and_the_latest_samples(visit: Visit) -> None:
    page = visit.open("/")
    expect(page.locator("#counts")).to_contain_text("4 completed")
    expect(page.locator("#latest img")).to_have_count(4)
    expect(page.locator("#servers")).to_contain_text("store")
    expect(page.locator("#servers")).to_contain_text("not started")  # neither Prefect nor Ray is there
    expect(page.locator("#now")).to_contain_text("Nothing runs.")
    expect(page.locator("#devices")).to_contain_text("There is no Ray cluster")
    page.locator("#counts a").first.click()
    expect(rows(page)).to_have_count(4)


def test_every_link_of_the_header_leads_to_a_page(visit: Visit) -> None:
    page = visit.open("/")
    paths = [link.get_attribute("href") for link in page.locator("header nav a").all()]
    assert {"/", "/runs"} <= set(paths)
    for path in paths:
        answer = page.goto(f"{visit.site.url}{path}")
        assert answer is not None
        assert answer.ok, path
        expect(page.locator("header nav a[aria-current=page]")).to_have_attribute("href", str(path))


def test_runs_are_filtered_sorted_and_kept_in_the_address(visit: Visit) -> None:
    page = visit.open("/runs")
    expect(rows(page)).to_have_count(4)
    page.locator("#filter").fill("seed<2 family:vanilla")
    expect(rows(page)).to_have_count(2)
    expect(page.locator("#filter-help")).to_contain_text("2 of 4 runs")
    page.get_by_role("button", name="fid").click()
    expect(page.locator("th[aria-sort]")).to_have_text(re.compile("fid"))
    assert "sort=fid" in page.url
    page.reload()
    expect(page.locator("#filter")).to_have_value("seed<2 family:vanilla")
    expect(rows(page)).to_have_count(2)
    fids = [float(text) for text in page.locator("tr[aria-rowindex] td:nth-child(8)").all_inner_texts()]
    assert fids == sorted(fids)
    page.go_back()
    expect(page.locator("th[aria-sort]")).to_have_text(re.compile("begun"))
    page.go_back()
    expect(rows(page)).to_have_count(4)
    expect(page.locator("#filter")).to_have_value("")


def test_a_filter_that_is_wrong_says_what_is_right(visit: Visit) -> None:
    page = visit.open("/runs?q=fidd<3")
    expect(page.locator("#filter-help")).to_contain_text("no field fidd; fields: ")
    expect(rows(page)).to_have_count(4)


def test_a_hostile_name_is_text_on_every_page(visit: Visit, store: str) -> None:
    page = visit.open("/runs")
    expect(page.get_by_role("link", name=HOSTILE)).to_be_visible()
    page.get_by_role("link", name=HOSTILE).click()
    expect(page.locator("h1")).to_have_text(HOSTILE)
    page.goto(f"{visit.site.url}/compare?runs={','.join(ids(store))}")
    expect(page.locator("#legend")).to_contain_text(HOSTILE)
    page.goto(f"{visit.site.url}/")
    expect(page.locator("#latest")).to_contain_text(HOSTILE)


def test_columns_are_chosen_and_remembered_in_the_address(visit: Visit) -> None:
    page = visit.open("/runs")
    page.get_by_text("Columns", exact=True).click()
    page.locator("#columns").get_by_label("recall").uncheck()
    expect(page.get_by_role("button", name="recall")).to_have_count(0)
    page.reload()
    expect(page.get_by_role("button", name="coverage")).to_be_visible()
    expect(page.get_by_role("button", name="recall")).to_have_count(0)


def test_keys_step_through_every_stored_sample_and_move_the_cursor(visit: Visit, store: str) -> None:
    run = ids(store)[0]
    steps = [step for step, _ in Run(open_objects(store), run).samples()]
    page = visit.open(f"/runs/{run}")
    picture = page.locator("img#sample")
    expect(picture).to_have_attribute("data-step", str(steps[-1]))
    expect(page.locator(".chart canvas").first).to_be_visible()
    for step in reversed(steps[:-1]):
        page.keyboard.press("ArrowLeft")
        expect(picture).to_have_attribute("data-step", str(step))
    assert f"step={steps[0]}" in page.url
    expect(page.locator(".u-legend .u-value").first).not_to_have_text(
        "--"
    )  # the charts' cursor went there, too
    assert picture.evaluate("image => image.naturalWidth") > 0
    page.keyboard.press("ArrowRight")
    expect(picture).to_have_attribute("data-step", str(steps[1]))
    page.reload()
    expect(picture).to_have_attribute("data-step", str(steps[1]))
    page.locator("#slider").focus()
    page.keyboard.press("End")
    expect(picture).to_have_attribute("data-step", str(steps[-1]))


def test_the_cursor_on_a_curve_moves_the_samples(visit: Visit, store: str) -> None:
    page = visit.open(f"/runs/{ids(store)[0]}")
    over = page.locator(".chart .u-over").first
    expect(page.locator("img#sample")).to_have_attribute("data-step", "60")
    box = over.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 3, box["y"] + 50)
    first, _ = Run(open_objects(store), ids(store)[0]).samples()[0]
    expect(page.locator("img#sample")).to_have_attribute("data-step", str(first))


def test_a_run_shows_its_curves_config_attempts_checkpoints_and_logs(visit: Visit, store: str) -> None:
    page = visit.open(f"/runs/{ids(store)[2]}")
    titles = page.locator(".chart h3")
    expect(titles.first).to_have_text("Losses")
    assert {
        "Losses",
        "FID and KID",
        "Coverage and recall",
        "Gradient norms",
        "Learning rates, as told",
    } <= set(titles.all_inner_texts())
    expect(page.locator("#config")).to_contain_text("gan.lr_g")
    expect(page.locator("#attempts")).to_contain_text("1")
    expect(page.locator("#checkpoints")).to_contain_text("step 60")
    expect(page.locator("#speed")).to_contain_text("images a second")
    expect(page.locator("#logs")).not_to_be_empty()


def test_an_id_that_is_none_is_said_to_be_none(visit: Visit) -> None:
    visit.watch.expected.append("404")
    page = visit.open("/runs/<b>no-id")
    expect(page.locator("main")).to_contain_text("<b>no-id")
    page.goto(f"{visit.site.url}/runs/20200101-000000-abcdef")
    expect(page.locator("#banner")).to_contain_text("20200101-000000-abcdef")


def test_selected_runs_are_compared(visit: Visit, store: str) -> None:
    page = visit.open("/runs")
    page.locator("tr[aria-rowindex] input").nth(0).check()
    page.locator("tr[aria-rowindex] input").nth(1).check()
    page.get_by_role("link", name="Compare 2").click()
    expect(page.locator("#legend [role=listitem]")).to_have_count(2)
    expect(page.locator("#wall img").first).to_be_visible()
    expect(page.locator("#config")).to_contain_text("seed")
    page.locator("#metric").select_option("loss_g")
    expect(page).to_have_url(re.compile("name=loss_g"))
    page.go_back()
    expect(page.locator("#metric")).to_have_value("fid")
    page.go_back()
    expect(page.locator("tr[aria-rowindex] input:checked")).to_have_count(
        2
    )  # the selection is in the address


def test_a_new_run_appears_and_a_changed_one_changes_where_it_is(chromium: Browser, tmp_path: Path) -> None:
    objects = open_objects(str(tmp_path))
    first = RunWriter.create(objects, new_id(), {"name": "first", "family": "vanilla"})
    first.heartbeat(force=True, verdict="healthy")
    with serving(objects) as site, visiting(chromium, site) as visit:
        page = visit.open("/runs")
        expect(rows(page)).to_have_count(1)
        page.locator("#filter").focus()  # nobody looks at the table: new rows join at once
        second = RunWriter.create(objects, new_id(), {"name": "second", "family": "vanilla"})
        second.heartbeat(force=True, verdict="healthy")
        expect(rows(page)).to_have_count(2, timeout=5000)
        page.get_by_role("link", name="first").focus()
        third = RunWriter.create(objects, new_id(), {"name": "third", "family": "vanilla"})
        first.seal("collapsed", {"verdict": "mode collapse"})
        expect(page.get_by_role("row", name="first")).to_contain_text("mode collapse", timeout=5000)
        expect(page.locator("#fresh")).to_have_text("1 new run: show")
        expect(rows(page)).to_have_count(2)  # who looks at a row is not disturbed
        expect(page.get_by_role("link", name="first")).to_be_focused()
        page.locator("#fresh").click()
        expect(rows(page)).to_have_count(3)
        for writer in (second, third):
            writer.seal("completed", {})


def test_a_running_runs_page_goes_on_and_leaves_the_chosen_step_alone(
    chromium: Browser, tmp_path: Path
) -> None:
    objects = open_objects(str(tmp_path))
    writer = RunWriter.create(objects, new_id(), {"name": "goes on", "family": "vanilla"})
    sink = io.BytesIO()
    Image.new("RGB", (8, 8)).save(sink, "PNG")

    def go_on(step: int, verdict: str) -> None:
        writer.log(step, {"loss_d": 1.0 / step, "loss_g": 1.0, "verdict": verdict})
        writer.sample(step, sink.getvalue())
        writer.flush()
        writer.heartbeat(force=True, verdict=verdict)

    for step in (10, 20):
        go_on(step, "healthy")
    with serving(objects) as site, visiting(chromium, site) as visit:
        page = visit.open(f"/runs/{writer.run_id}")
        picture = page.locator("img#sample")
        expect(picture).to_have_attribute("data-step", "20")
        go_on(30, "mode collapse")
        expect(picture).to_have_attribute("data-step", "30")  # who looks at the newest sees the newest
        expect(page.locator("#health")).to_contain_text("mode collapse")
        page.keyboard.press("ArrowLeft")
        go_on(40, "mode collapse")
        expect(page.locator("#at")).to_contain_text("of 4", timeout=10_000)
        expect(picture).to_have_attribute("data-step", "20")
        writer.seal("collapsed", {"verdict": "mode collapse"})
        expect(page.locator("#state")).to_have_text("collapsed", timeout=10_000)


def test_a_runs_page_tells_the_throughput_of_each_rank(chromium: Browser, tmp_path: Path) -> None:
    objects = open_objects(str(tmp_path))
    writer = RunWriter.create(objects, new_id(), {"name": "wide", "family": "vanilla"})
    writer.log(10, {"loss_d": 1.0, "images_per_second": 100.0, "sync_wait": 0.5})
    waits = (0.5, 0.013)  # the second one is who the others wait for
    writer.ranks = [
        {"rank": i, "host": f"node-{i}", "images_per_second": 100.0, "sync_wait": w}
        for i, w in enumerate(waits)
    ]
    writer.seal("completed", {})
    with serving(objects) as site, visiting(chromium, site) as visit:
        ranks = visit.open(f"/runs/{writer.run_id}").get_by_role("table", name="By rank")
        expect(ranks.get_by_role("columnheader")).to_have_text(
            ["rank", "host", "images a second", "waits for other ranks, share"]
        )
        expect(ranks.get_by_role("row").nth(2)).to_have_text("1node-11000.013")


def test_the_rate_at_which_people_err_is_shown_sorted_and_filtered(chromium: Browser, tmp_path: Path) -> None:
    objects = open_objects(str(tmp_path))
    for name, wrong in (("plain", 2), ("fooling", 9), ("unrated", None)):
        writer = RunWriter.create(objects, new_id(), {"name": name, "family": "vanilla"})
        writer.seal("completed", {})
        if wrong is not None:
            table = pa.table({"real": [True] * 20, "said_real": [False] * wrong + [True] * (20 - wrong)})
            pq.write_table(table, sink := io.BytesIO())
            objects.create(judgements_key(writer.run_id, new_id()), sink.getvalue())
    with serving(objects) as site, visiting(chromium, site) as visit:
        page = visit.open("/runs?columns=name,error_rate&sort=-error_rate")
        expect(rows(page)).to_contain_text(["fooling45 % (26 to 66)", "plain10 % (3 to 30)", "unrated–"])
        page.locator("#filter").fill("error_rate>0.4")
        expect(rows(page)).to_contain_text(["fooling"])


def test_a_store_that_is_gone_is_said_to_be_and_comes_back(chromium: Browser, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    RunWriter.create(open_objects(str(folder)), new_id(), {"name": "kept", "family": "vanilla"}).seal(
        "completed", {}
    )
    with serving(open_objects(str(folder))) as site, visiting(chromium, site) as visit:
        page = visit.open("/runs")
        expect(rows(page)).to_have_count(1)
        folder.rename(tmp_path / "away")
        expect(page.locator("#banner")).to_contain_text("This is what the store last said", timeout=15_000)
        expect(rows(page)).to_have_count(1)
        (tmp_path / "away").rename(folder)
        expect(page.locator("#banner")).to_be_hidden(timeout=15_000)


def test_many_rows_are_few_elements(chromium: Browser, tmp_path: Path) -> None:
    from tests.benchmarks.dashboard_store import make_store

    ids = make_store(open_objects(str(tmp_path)), 1000)
    with serving(open_objects(str(tmp_path))) as site, visiting(chromium, site) as visit:
        page = visit.open("/runs")
        expect(page.locator("#filter-help")).to_have_text("1,000 of 1,000 runs")
        assert rows(page).count() < 60
        page.locator("#table").evaluate("box => box.scrollTo(0, box.scrollHeight)")
        expect(page.locator(f'a[href="/runs/{ids[0]}"]')).to_be_visible()
        assert rows(page).count() < 60
        page.goto(f"{site.url}/compare?runs={','.join(ids[-200:])}")
        expect(page.locator("#legend [role=listitem]")).to_have_count(200)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_readable_in_light_and_dark(chromium: Browser, site: Site, store: str, scheme: str) -> None:
    run, all_ids = ids(store)[0], ",".join(ids(store))
    paths = {"overview": "/", "runs": "/runs", "run": f"/runs/{run}", "compare": f"/compare?runs={all_ids}"}
    with visiting(chromium, site, scheme) as visit:
        for name, path in paths.items():
            page = visit.open(path)
            expect(page.locator("main img:visible").first).to_be_visible()
            page.wait_for_load_state("load")
            back, text = page.evaluate(
                "() => [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
            )
            assert contrast(back, text) > 7, (name, back, text)
            assert (brightness(back) < 0.5) == (scheme == "dark")
            page.close()


def test_the_chosen_theme_stays(visit: Visit) -> None:
    page = visit.open("/runs")
    page.locator("#theme").click()
    page.locator("#theme").click()
    expect(page.locator("#theme")).to_have_text("theme: dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert brightness(page.evaluate("() => getComputedStyle(document.body).backgroundColor")) < 0.5


def test_a_narrow_window_shows_everything(visit: Visit, store: str) -> None:
    page = visit.open(f"/runs/{ids(store)[0]}")
    page.set_viewport_size({"width": 480, "height": 800})
    expect(page.locator(".chart canvas").first).to_be_visible()
    assert page.evaluate("() => document.documentElement.scrollWidth - innerWidth") <= 1


def test_ten_tabs_stay_live(visit: Visit, store: str) -> None:
    tabs = [visit.open("/runs") for _ in range(10)]
    RunWriter.create(open_objects(store), new_id(), {"name": "eleventh", "family": "vanilla"}).seal(
        "completed", {}
    )
    for tab in tabs:
        expect(rows(tab)).to_have_count(5)
        assert tab.locator("#link").is_hidden()


def channels(colour: str) -> list[float]:
    found = [int(number) / 255 for number in re.findall(r"\d+", colour)[:3]]
    return [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in found]


def brightness(colour: str) -> float:
    """Relative luminance (WCAG 2)."""
    red, green, blue = channels(colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Contrast ratio (WCAG 2)."""
    low, high = sorted((brightness(one), brightness(other)))
    return (high + 0.05) / (low + 0.05)

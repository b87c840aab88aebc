"""The report of a sweep: one page that needs nothing else, says what happened, and trusts no name."""

from __future__ import annotations

import base64
import io
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By

from orchestrator.store.documents import decode, encode
from orchestrator.store.layout import run_key
from orchestrator.sweep.folder import sweep_key
from orchestrator.sweep.results import finish
from orchestrator.sweep.space import Choice, LogUniform, Space
from tests.support.browser import browser, complaints, screenshot, text_of, wait_for
from tests.support.sweeps import SPACE, Made, experiment_of, ledger_of, make_sweep

__all__ = ["browser"]

EVIL = "</script><img src=x onerror='window.hacked=1'>\"&{{7*7}}"


class Page(HTMLParser):
    """Tags, what they refer to, and the text outside of scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.references: list[str] = []
        self.texts: list[str] = []
        self._silent = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        self._silent += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def report_of(made: Made) -> str:
    return made.objects.get(sweep_key(made.id, "report.html")).decode()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Two objectives, collapsed trials, and names that would break a careless page."""
    evil = Choice(options=("hinge", EVIL))
    space = Space({**SPACE.root, "gan.norm_g": evil})
    return make_sweep(
        str(tmp_path_factory.mktemp("store")),
        experiment_of(space, name=EVIL),
        trials=20,
        objectives=["fid", "coverage"],
    )


@pytest.fixture(scope="module")
def page(made: Made) -> Page:
    return Page(report_of(made))


def test_it_refers_to_nothing_outside_of_itself(made: Made, page: Page) -> None:
    assert all(reference.startswith(("data:image/jpeg;base64,", "#trial-")) for reference in page.references)
    assert page.tags["link"] == page.tags["iframe"] == 0
    assert "@import" not in report_of(made).split("<script>")[0]


def test_names_are_text_and_nothing_else(made: Made, page: Page) -> None:
    pictures = sum(reference.startswith("data:") for reference in page.references)
    assert page.tags["img"] == pictures == 21  # a trial's each, and the best one's; none is the name's
    assert page.tags["h1"] == 1
    assert EVIL in page.text
    assert EVIL not in report_of(made)


def test_every_trial_has_a_line_with_its_end_and_the_stopped_ones_with_evidence_and_remedy(
    made: Made, page: Page
) -> None:
    collapsed = sum(row["end"] == "mode collapse" for row in made.result.trials)
    assert collapsed
    assert page.text.count("probe_coverage 0.05 against 0.12 over 3 ticks at step 40") == collapsed
    assert page.text.count("raise gan.lr_ratio from 0.2 to 2") == collapsed
    lines = re.findall(r'<tr id="trial-(\d+)">', report_of(made))
    assert sorted(map(int, lines)) == list(range(20))


def test_it_says_what_the_ends_cost_and_what_stopping_saved(made: Made, page: Page) -> None:
    costs = made.result.costs
    assert f"stopping saved about {costs['saved_total'] / 60:.1f} min" in page.text
    assert (
        f"mode collapse {costs['trials']['mode collapse']} {costs['by_end']['mode collapse']:.0f} s"
        in page.text
    )


def test_thumbnails_are_small_and_only_of_runs_that_have_samples(tmp_path: Path) -> None:
    made = make_sweep(str(tmp_path), trials=3)
    from orchestrator.sweep.report import THUMBNAIL, thumbnails

    [first, *others] = made.result.trials
    for key in made.objects.list(run_key(first["run_id"], "samples")):
        made.objects.delete(key)
    found = thumbnails(made.objects, made.result.trials, THUMBNAIL)
    assert set(found) == {row["number"] for row in others}
    for uri in found.values():
        with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as picture:
            assert max(picture.size) <= THUMBNAIL
            assert picture.size == (112, 112)  # 16 pixels, seven times


def test_one_objective_one_seed_and_few_trials_make_a_page_too(tmp_path: Path) -> None:
    space = Space({"gan.lr_ratio": LogUniform(low=0.5, high=2.0)})
    made = make_sweep(str(tmp_path), experiment_of(space), trials=1)
    page = Page(report_of(made))
    assert "None: 1 trials that were not stopped for their health, and 1 in all, are too few" in page.text
    assert "On the Pareto front: trial 0" in page.text


def test_seeds_are_shown_with_their_spread(tmp_path: Path) -> None:
    page = Page(report_of(make_sweep(str(tmp_path), trials=8, seeds=2)))
    assert "Configurations over 2 seeds" in page.text
    assert "± 0.0707" in page.text


def test_what_a_population_took_over_is_told(tmp_path: Path) -> None:
    made = make_sweep(str(tmp_path), trials=12, population=True)
    page = Page(report_of(made))
    taken = [entry for row in made.result.trials for entry in row["lineage"]]
    assert taken
    for entry in taken:
        ratio = f"{entry['changes']['gan.lr_ratio']:.3g}"
        assert f"at step {entry['step']} went on as trial {entry['from']}: lr_ratio {ratio}" in page.text


def test_what_was_mended_inside_a_run_is_told(tmp_path: Path) -> None:
    made = make_sweep(str(tmp_path), trials=2)
    [first, _] = made.result.trials
    key = run_key(first["run_id"], "sealed.json")
    change = {"step": 40, "remedy": True, "why": "mode collapse: raise gan.lr_ratio <from> 1", "fields": {}}
    made.objects.put(key, encode(decode(made.objects.get(key)) | {"changes": [change]}))
    with ledger_of(made.objects, made.id, made.plan) as ledger:
        finish(made.objects, made.id, ledger, made.plan, made.experiment)
    assert "at step 40 mended: mode collapse: raise gan.lr_ratio <from> 1" in Page(report_of(made)).text


@pytest.mark.slow
def test_a_browser_draws_every_chart_and_runs_no_name(browser: WebDriver, made: Made, tmp_path: Path) -> None:
    path = made.objects.local_path(sweep_key(made.id, "report.html"))
    browser.get(f"file://{path}")
    charts = ("parallel", "scatter", "curves", "importance")
    drawn = ", ".join(f"#chart-{name} .main-svg" for name in charts)
    wait_for(browser, lambda b: len(b.find_elements(By.CSS_SELECTOR, drawn)) >= len(charts), "charts")
    assert browser.execute_script("return window.hacked === undefined")
    assert EVIL in text_of(browser)
    labels = [e.text for e in browser.find_elements(By.CSS_SELECTOR, "#chart-parallel .axis-title")]
    assert labels == ["lr_ratio", "loss", "r1", "norm_g", "FID", "coverage", "end"]
    ticks = {e.text for e in browser.find_elements(By.CSS_SELECTOR, "#chart-parallel .tick text")}
    assert {"mode collapse", "complete", "hinge", f"{EVIL[:19]}…", "–"} <= ticks
    assert len(browser.find_elements(By.CSS_SELECTOR, "#chart-scatter .point")) == 20
    assert complaints(browser) == []
    assert len(screenshot(browser, tmp_path / "report.png")) > 50_000

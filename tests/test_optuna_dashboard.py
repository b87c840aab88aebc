"""`optuna-dashboard`, opened on the ledger of a finished sweep, shows how its trials ended."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By

from orchestrator.store.objects import Objects, open_objects
from orchestrator.sweep.driver import run_sweep
from orchestrator.sweep.folder import SweepResult, sweep_key
from orchestrator.sweep.plan import Plan
from tests.support.browser import browser, complaints, screenshot, text_of, wait_for
from tests.support.ceph import free_port
from tests.support.rays import local_ray, restored_environment
from tests.support.threads import one_thread
from tests.test_sweep import BALANCE, searching

__all__ = ["browser", "local_ray", "one_thread"]

pytestmark = pytest.mark.slow

TRIALS = 8


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Objects:
    return open_objects(str(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def result(local_ray: None, store: Objects) -> SweepResult:
    """Quality against diversity; trials with a slow critic collapse."""
    plan = Plan(trials=TRIALS, sampler="random", stop="none", objectives=("fid", "coverage"))
    with restored_environment():
        return run_sweep(searching(BALANCE, seed=1, **{"health.grace": 0.6}), store.url, plan)


@pytest.fixture(scope="module")
def journal(store: Objects, result: SweepResult) -> Path:
    path = store.local_path(sweep_key(result.sweep_id, "journal.log"))
    assert path is not None
    return Path(path)


@pytest.fixture(scope="module")
def dashboard(journal: Path) -> Iterator[str]:
    """The address of the study in a dashboard on a free port."""
    port = free_port()
    server = subprocess.Popen(
        [str(Path(sys.executable).parent / "optuna-dashboard"), "--port", str(port), "--quiet", str(journal)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urlopen(f"http://127.0.0.1:{port}/api/studies", timeout=5).close()
                break
            except URLError:
                assert server.poll() is None, "optuna-dashboard ended"
                assert time.monotonic() < deadline
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/dashboard/studies/0"
    finally:
        server.terminate()
        server.wait(timeout=20)


def test_states_and_the_pareto_front_are_shown(
    browser: WebDriver, dashboard: str, result: SweepResult, tmp_path: Path
) -> None:
    browser.get(f"{dashboard}/trials")
    wait_for(browser, lambda b: f"Trial {TRIALS - 1}\n" in text_of(b), "list of trials")
    listed = re.findall(r"^Trial (\d+)\n(\w+)(\nBest Trial)?", text_of(browser), re.MULTILINE)
    states = {int(number): state.upper() for number, state, _ in listed}
    assert states == {row["number"]: row["state"] for row in result.trials}
    assert set(states.values()) == {"COMPLETE", "PRUNED"}
    assert {int(number) for number, _, best in listed if best} == set(result.front)
    assert len(screenshot(browser, tmp_path / "trials.png")) > 10_000


def test_a_collapsed_trial_shows_its_verdict_with_the_evidence(
    browser: WebDriver, dashboard: str, result: SweepResult, tmp_path: Path
) -> None:
    collapsed = next(row for row in result.trials if row["end"] == "mode collapse")
    browser.get(f"{dashboard}/trials?numbers={collapsed['number']}")
    wait_for(browser, lambda b: "User Attributes" in text_of(b), "trial")
    shown = text_of(browser)
    verdict = collapsed["verdict"]
    [sign, *_] = verdict["evidence"]
    assert f"Trial {collapsed['number']} (trial_id" in shown
    assert "verdict mode collapse" in shown
    assert f"evidence {sign['signal']} {sign['value']:.3g} against {sign['threshold']:.3g}" in shown
    assert f"over {sign['window']} ticks at step {sign['step']}" in shown
    assert f"remedy {verdict['remedy']}" in shown
    assert "reason collapsed" in shown
    screenshot(browser, tmp_path / "trial.png")


def test_the_front_is_drawn_between_the_named_objectives(
    browser: WebDriver, dashboard: str, tmp_path: Path
) -> None:
    browser.get(dashboard)
    wait_for(browser, lambda b: bool(b.find_elements(By.CSS_SELECTOR, ".js-plotly-plot .point")), "points")
    assert "Pareto Front" in text_of(browser)
    assert {"fid", "coverage"} <= {line.strip() for line in text_of(browser).splitlines()}
    assert complaints(browser) == []
    screenshot(browser, tmp_path / "front.png")


def test_looking_changes_nothing(browser: WebDriver, dashboard: str, journal: Path) -> None:
    before = journal.read_bytes()
    browser.get(f"{dashboard}/trials")
    wait_for(browser, lambda b: "Trial 0\n" in text_of(b), "list of trials")
    assert journal.read_bytes() == before

"""Names, reasons, errors and logs that would be scripts: text on every page of the dashboard, in a real browser.

Were one taken for markup, its picture would be asked for, which the browser would say on the console, and so the test
would fail (`tests/support/browsing.py`). That none is in the page is looked at, too.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from orchestrator.dashboard.launching import form
from orchestrator.registry import Candidate, Registry
from orchestrator.runlog import Log
from orchestrator.store.ids import new_id
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.writer import RunWriter
from tests.support.browsing import Site, Visit, chromium, serving, visit
from tests.support.dashboard import recorded
from tests.support.sweeps import experiment_of, make_sweep

pytestmark = pytest.mark.slow
__all__ = ["chromium", "visit"]

EVIL = "</script><img src=x onerror=\"document.body.id='owned'\"><svg onload=alert(1)>"
SIGN = {"signal": EVIL, "value": 0.05, "threshold": 0.2, "window": 4, "step": 1}


@dataclass(frozen=True)
class Bad:
    """A store in which whatever people or programs may name is hostile."""

    objects: Objects
    ended: str
    active: RunWriter
    sweep: str


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Bad:
    objects = open_objects(str(tmp_path_factory.mktemp("store")))
    sweep = make_sweep(objects.url, experiment_of(name=EVIL), trials=4)
    ended, active = (run(objects) for _ in range(2))
    log = Log(objects, ended.run_id, "rank0")
    log.say(EVIL)
    log.close()
    told = {"error": EVIL, "traceback": EVIL, "evidence": [SIGN], "remedy": EVIL}
    ended.seal("failed", told | {"verdict": EVIL, "changes": [{"step": 1, "why": EVIL}]})
    Registry(objects).promote("faces", Candidate(ended.run_id), 0, EVIL, by=EVIL)
    active.heartbeat(force=True, verdict="mode collapse", evidence=[SIGN], remedy=EVIL, doing=EVIL)
    active.flush()
    return Bad(objects, ended.run_id, active, sweep.id)


def run(objects: Objects) -> RunWriter:
    """A run that has trained a step and has a picture."""
    fields = {"name": EVIL, "family": EVIL, "experiment": {"name": EVIL, "gan": {EVIL: EVIL, "family": EVIL}}}
    writer = RunWriter.create(objects, new_id(), fields)
    sink = io.BytesIO()
    Image.new("RGB", (8, 8)).save(sink, "PNG")
    writer.log(1, {"loss_d": 1.0, EVIL: 1.0, "verdict": "mode collapse", "change": EVIL})
    writer.sample(1, sink.getvalue())
    writer.checkpoint(1, {"weights.safetensors": b"weights", "state.pt": b"rest"})
    return writer


def cluster(path: str) -> Any:
    """Ray's answers with hostile words."""
    told = recorded(path)
    if path == "/api/jobs/":
        return [told[0] | {"entrypoint": EVIL, "message": EVIL, "status": EVIL}]
    if path.startswith("/nodes"):
        told["data"]["summary"][0]["hostname"] = EVIL
    return told


@pytest.fixture(scope="module")
def site(bad: Bad) -> Iterator[Site]:
    with serving(bad.objects, ray="http://head:8265") as served:
        served.app.state.ray._get = cluster
        yield served


PAGES = {
    "/": ("#now", "#latest", "#alarms", "#devices"),
    "/runs": ("tr[aria-rowindex] >> nth=0",),
    "/runs/{ended}": ("h1", "#config", "#logs", "#changes"),
    "/runs/{active}": ("h1", "#logs"),
    "/compare?runs={ended},{active}&name=loss_d": ("#legend",),
    "/sweeps": ("#sweeps",),
    "/sweeps/{sweep}": ("#name",),
    "/models/faces": ("#promotions", "#history"),
    "/alarms": ("#alarms",),
    "/cluster": ("#runs", "#jobs", "#nodes"),
    "/rate?run={evil}": ("#banner",),
    "/launch?recipe={evil}": ("#banner",),
}


@pytest.mark.parametrize("path", PAGES)
def test_what_would_be_a_script_is_text(visit: Visit, bad: Bad, path: str) -> None:
    visit.watch.expected += ["404", "400"]
    bad.active.refresh()
    form("")  # a process with PyTorch, which may take long
    asked = path.replace("{evil}", "%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E")
    page = visit.open(asked.format(ended=bad.ended, active=bad.active.run_id, sweep=bad.sweep))
    for place in PAGES[path]:
        expect(page.locator(place)).to_contain_text("<img src=x onerror=")
    unharmed(page)


def unharmed(page: Page) -> None:
    """Fail where a hostile text has become an element."""
    found = page.evaluate(
        "() => [...document.querySelectorAll('img[src=x], svg[onload], [onerror], body#owned')].length"
    )
    assert found == 0

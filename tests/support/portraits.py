"""Pictures of the dashboard's pages for the documents, light and dark, over a store that is made first where there is
none (some minutes): of real runs, a real decision, and a sweep whose trials are made up.

python -m tests.support.portraits STORE docs/pictures/dashboard
"""

from __future__ import annotations

import io
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from orchestrator.dashboard.rating import make_deck
from orchestrator.errors import RunFailed
from orchestrator.launch import submit
from orchestrator.recipes import load
from orchestrator.registry import Candidate, Registry
from orchestrator.store.catalogue import Catalogue
from orchestrator.store.objects import Objects, open_objects
from orchestrator.sweep.folder import sweeps
from tests.support.browsing import ARGS, CHROMIUM, Visit, serving, visiting
from tests.support.dashboard import decide, recorded
from tests.support.sweeps import make_sweep

SETTLED_MS = 2500  # until pictures and curves are drawn
COLOURS = 256
OFTEN: dict[str, Any] = {
    "train.batch": 64,
    "train.log_every": 10,
    "train.sample_every": 50,
    "train.evaluate_every": 100,
    "train.evaluate_samples": 500,
}
RINGS: tuple[dict[str, Any], ...] = (
    {"seed": 0},
    {"seed": 1, "gan.lr_ratio": 4.0},
    {"seed": 2, "gan.lr_g": 0.004, "gan.lr_ratio": 0.1, "train.on_collapse": "stop"},
    {"seed": 3, "gan.r1": 0.1},
)


def make(objects: Objects) -> None:
    """Runs on a ring, one of which collapses; a sweep of made-up trials; a decision between two runs on digits."""
    for change in RINGS:
        with suppress(RunFailed):  # one is to collapse
            ring = load("vanilla.ring").override({**OFTEN, "train.steps": 1500, **change})
            submit(ring, objects.url).wait()
    make_sweep(objects.url, trials=40, objectives=("fid", "coverage"))
    pair = [load("dcgan.digits").override({**OFTEN, "train.steps": steps}) for steps in (150, 500)]
    first, second = (submit(experiment, objects.url).wait().run_id for experiment in pair)
    registry = Registry(objects)
    registry.promote("digits", Candidate(first), 0, "the first one")
    registry.promote("digits", Candidate(second), 1, decide(objects, "digits", first, second, samples=500))
    make_deck(objects, second)


def shoot(page: Page, path: Path) -> None:
    """The window as a small PNG. A curve has few pixels: its colour must not be merged into another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    rare = Image.Quantize.MAXCOVERAGE
    image.quantize(COLOURS, rare, kmeans=3, dither=Image.Dither.NONE).save(path, optimize=True)


def paths(objects: Objects) -> dict[str, str]:
    """Every page worth a picture, by name: of runs the newest one of pictures, and those of one name compared."""
    rows = Catalogue(objects).runs()
    (sweep,) = sweeps(objects, 1)
    champion = Registry(objects).require("digits").run_id
    many = [row["id"] for row in rows if row["name"] == "vanilla.ring"]
    return {
        "overview": "/",
        "runs": "/runs",
        "run": f"/runs/{champion}",
        "compare": f"/compare?runs={','.join(many)}",
        "sweep": f"/sweeps/{sweep.id}",
        "model": "/models/digits",
        "alarms": "/alarms?show=all",
        "cluster": "/cluster",
        "launch": "/launch?recipe=dcgan.digits&train.steps=2000&on=inline",
        "rate": f"/rate?run={champion}",
    }


def settle(page: Page, name: str) -> None:
    """Wait until the page shows what it is there for."""
    if name == "launch":
        page.locator("#fields select").first.wait_for(timeout=120_000)
    if name == "rate":
        page.get_by_role("button", name="Start").click()
        for at in range(2, 5):
            page.locator("#picture").evaluate("picture => picture.decode()")
            page.keyboard.press("ArrowRight")
            page.get_by_text(f"{at} of 40").wait_for()
        page.locator("#picture").evaluate("picture => picture.decode()")
    else:
        page.wait_for_timeout(SETTLED_MS)


def take(visit: Visit, pages: dict[str, str], folder: Path, scheme: str) -> None:
    """A picture of each page."""
    for name, path in pages.items():
        page = visit.open(path)
        settle(page, name)
        shoot(page, folder / f"{name}-{scheme}.png")
        page.close()


def main(store: str, folder: str) -> None:
    """All pictures; the cluster's is of what a Ray with three GPUs answered once."""
    objects = open_objects(store)
    if not objects.folders("runs"):
        make(objects)
    with serving(objects, ray="http://head:8265") as site, sync_playwright() as driver:
        site.app.state.ray._get = recorded
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        for scheme in ("light", "dark"):
            with visiting(browser, site, scheme) as visit:
                take(visit, paths(objects), Path(folder), scheme)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])

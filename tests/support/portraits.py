"""Pictures of the dashboard's pages for the documents, light and dark, over a store that there is.

python -m tests.support.portraits STORE docs/pictures/dashboard
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from orchestrator.store.catalogue import Catalogue
from orchestrator.store.objects import open_objects
from tests.support.browsing import ARGS, CHROMIUM, serving, visiting

SETTLED_MS = 2500  # until pictures and curves are drawn
COLOURS = 256


def shoot(page: Page, path: Path) -> None:
    """The window as a small PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


def main(store: str, folder: str) -> None:
    """Pages of the newest run that has a verdict worth seeing, and of all of them compared."""
    objects = open_objects(store)
    rows = Catalogue(objects).runs()
    ids = [row["id"] for row in rows]
    names = [row["name"] for row in rows]
    many = [row["id"] for row in rows if row["name"] == max(names, key=names.count)]
    paths = {
        "overview": "/",
        "runs": "/runs",
        "run": f"/runs/{ids[0]}",
        "compare": f"/compare?runs={','.join(many)}",
    }
    with serving(objects) as site, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        for scheme in ("light", "dark"):
            with visiting(browser, site, scheme) as visit:
                for name, path in paths.items():
                    page = visit.open(path)
                    page.wait_for_timeout(SETTLED_MS)
                    shoot(page, Path(folder) / f"{name}-{scheme}.png")
                    page.close()
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])

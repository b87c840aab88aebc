"""The pages: shells that a template makes and one ES module fills. What they show comes from /api alone."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from orchestrator.errors import NotFound
from orchestrator.store.ids import check_id

TEMPLATES = Path(__file__).with_name("templates")

# The header's links: path and label. A page that is not built is not here.
NAVIGATION: list[tuple[str, str]] = [
    ("/", "Overview"),
    ("/runs", "Runs"),
    ("/sweeps", "Sweeps"),
    ("/models", "Models"),
    ("/alarms", "Alarms"),
    ("/cluster", "Cluster"),
    ("/launch", "Launch"),
    ("/rate", "Rate"),
]


def render(request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
    """The page made from `template`. `context` is escaped; `current` is the path of the link that it belongs to."""
    given = {
        "navigation": NAVIGATION,
        "current": request.url.path,
        "csrf": getattr(request.state, "csrf", ""),
        "role": "operator" if request.app.state.settings.operates else "viewer",
    }
    html = _environment().get_template(template).render(given | context)
    return HTMLResponse(html, status, headers={"Cache-Control": "no-store"})


async def overview(request: Request) -> HTMLResponse:
    """What runs now, alarms, what is next, the servers."""
    return render(request, "overview.html")


async def runs(request: Request) -> HTMLResponse:
    """All runs in one table."""
    return render(request, "runs.html")


async def run(request: Request) -> HTMLResponse:
    """One run. That it exists is asked by the page, so that it also opens where the store is down."""
    try:
        run_id = check_id(request.path_params["run"])
    except NotFound as error:
        return render(request, "missing.html", status=404, why=str(error))
    return render(request, "run.html", current="/runs", run=run_id)


async def compare(request: Request) -> HTMLResponse:
    """Several runs over each other; the page reads which ones from its own address."""
    return render(request, "compare.html", current="/runs")


@cache
def _environment() -> Environment:
    return Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)


routes: list[Route] = [
    Route("/", overview),
    Route("/runs", runs),
    Route("/runs/{run}", run),
    Route("/compare", compare),
]

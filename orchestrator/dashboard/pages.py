"""The pages: shells that a template makes and one ES module fills. What they show comes from /api alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from orchestrator.errors import ConfigError, NotFound
from orchestrator.store.ids import check_id, check_name

Page = Callable[[Request], Awaitable[HTMLResponse]]

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


def shell(template: str, **context: Any) -> Page:
    """The page made from `template`, which is about nothing in particular."""

    async def page(request: Request) -> HTMLResponse:
        return render(request, template, **context)

    return page


def about(template: str, kind: str, check: Callable[[str], str]) -> Page:
    """The page of one `kind`, whose id in the path passes `check`.

    That it exists is asked by the page, so that it also opens where the store is down.
    """

    async def page(request: Request) -> HTMLResponse:
        try:
            found = check(request.path_params["id"])
        except (ConfigError, NotFound) as error:
            return render(request, "missing.html", status=404, why=str(error))
        context: dict[str, Any] = {"current": f"/{kind}s", kind: found}
        return render(request, template, **context)

    return page


@cache
def _environment() -> Environment:
    return Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)


routes: list[Route] = [
    Route("/", shell("overview.html")),
    Route("/runs", shell("runs.html")),
    Route("/runs/{id}", about("run.html", "run", check_id)),
    Route("/compare", shell("compare.html", current="/runs")),
    Route("/sweeps", shell("sweeps.html")),
    Route("/sweeps/{id}", about("sweep.html", "sweep", partial(check_id, kind="sweep"))),
    Route("/models", shell("models.html")),
    Route("/models/{id}", about("model.html", "model", check_name)),
    Route("/alarms", shell("alarms.html")),
    Route("/cluster", shell("cluster.html")),
    Route("/launch", shell("launch.html")),
    Route("/rate", shell("rate.html")),
]

"""Pages of sweeps, models, alarms, the cluster, launching. As in `pages.py`, shells that the browser fills."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from orchestrator.dashboard.pages import render
from orchestrator.errors import ConfigError, NotFound
from orchestrator.store.ids import check_id, check_name

Page = Callable[[Request], Awaitable[HTMLResponse]]


def shell(template: str) -> Page:
    """The page made from `template`, which is about nothing in particular."""

    async def page(request: Request) -> HTMLResponse:
        return render(request, template)

    return page


async def sweep(request: Request) -> HTMLResponse:
    """One sweep; that it exists is asked by the page."""
    try:
        sweep_id = check_id(request.path_params["id"], "sweep")
    except NotFound as error:
        return render(request, "missing.html", status=404, why=str(error))
    return render(request, "sweep.html", current="/sweeps", sweep=sweep_id)


async def model(request: Request) -> HTMLResponse:
    """One model; that it exists is asked by the page."""
    try:
        name = check_name(request.path_params["name"])
    except ConfigError as error:
        return render(request, "missing.html", status=404, why=str(error))
    return render(request, "model.html", current="/models", model=name)


routes = [
    Route("/sweeps", shell("sweeps.html")),
    Route("/sweeps/{id}", sweep),
    Route("/models", shell("models.html")),
    Route("/models/{name}", model),
    Route("/alarms", shell("alarms.html")),
    Route("/cluster", shell("cluster.html")),
    Route("/launch", shell("launch.html")),
    Route("/rate", shell("rate.html")),
]

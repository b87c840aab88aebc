"""The application: the store and its settings in, ASGI out. It reads no environment and starts no server."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from orchestrator.dashboard.adapters import Prefect, Ray
from orchestrator.dashboard.alarms import Alarms
from orchestrator.dashboard.curves import Curves
from orchestrator.dashboard.feed import Hub, Poller
from orchestrator.dashboard.library import Library
from orchestrator.dashboard.pictures import Pictures
from orchestrator.dashboard.replies import error, explained
from orchestrator.dashboard.security import Guard, Sessions
from orchestrator.dashboard.settings import Settings
from orchestrator.store.objects import Objects

STATIC = Path(__file__).with_name("static")
SPARE = 8  # threads of their own for what is answered from memory
MODULES = (
    *("api_runs", "feed", "api_sweeps", "api_models", "api_more", "api_rate", "actions"),
    *("pages", "metrics"),
)
"""Each has `routes`."""


def create_app(objects: Objects, settings: Settings) -> Starlette:
    """The dashboard over the store `objects`. `app.state` has what endpoints need."""
    sessions = Sessions(settings.token)
    app = Starlette(
        routes=_routes(),
        middleware=[Middleware(Guard, settings=settings, sessions=sessions)],
        exception_handlers={HTTPException: _http_error, Exception: _any_error},
        lifespan=_lifespan,
    )
    state = app.state
    state.objects, state.settings, state.hub = objects, settings, Hub()
    state.library = Library(objects)
    state.curves = Curves(objects, state.library)
    state.pictures, state.alarms = Pictures(objects), Alarms(objects)
    state.ray, state.prefect = Ray(settings), Prefect(settings)
    return app


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    app.state.spare = anyio.CapacityLimiter(SPARE)
    poller = Poller(app.state.library, app.state.hub, app.state.settings.poll)
    task = asyncio.create_task(poller.run())
    try:
        yield
    finally:
        app.state.hub.close()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _routes() -> list[BaseRoute]:
    found: list[BaseRoute] = []
    for name in MODULES:
        found += importlib.import_module(f"orchestrator.dashboard.{name}").routes
    return [*found, Route("/favicon.ico", _favicon), Mount("/static", StaticFiles(directory=STATIC))]


async def _favicon(_request: Request) -> Response:
    """For those who ask although the pages name another."""
    return FileResponse(STATIC / "favicon.svg", media_type="image/svg+xml")


async def _http_error(request: Request, failure: Exception) -> Response:
    assert isinstance(failure, HTTPException)
    headers = dict(failure.headers or {})
    if failure.status_code == 405:  # Starlette tells those of one route, a path may have several
        routes = (route for route in request.app.routes if isinstance(route, Route))
        found = [route.methods or () for route in routes if route.path_regex.match(request.url.path)]
        headers["Allow"] = ", ".join(sorted({method for methods in found for method in methods}))
    return error(failure.status_code, str(failure.detail), headers)


async def _any_error(_request: Request, failure: Exception) -> Response:
    return explained(failure)

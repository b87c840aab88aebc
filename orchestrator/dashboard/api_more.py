"""Alarms, the cluster and the form to launch with, under /api."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orchestrator.dashboard import cluster as clusters
from orchestrator.dashboard import launching
from orchestrator.dashboard.replies import in_thread, reply

Document = dict[str, Any]


def rows_of(request: Request) -> Sequence[Mapping[str, Any]]:
    """Every run as `Library.rows` tells."""
    request.app.state.library.wanted()
    rows: Sequence[Mapping[str, Any]] = request.app.state.library.rows()
    return rows


@in_thread
def listed(request: Request) -> Response:
    """GET /api/alarms: the newest ones, the newest run first."""
    return reply(request, {"alarms": request.app.state.alarms.listed(rows_of(request))})


@in_thread
def cluster(request: Request) -> Response:
    """GET /api/cluster: nodes and who holds their devices, jobs, what waits; the servers that do not answer say so."""
    state = request.app.state
    ray = state.ray.cluster()
    state.library.wanted()
    found = clusters.cluster(state.objects, state.library.going(), ray)
    servers = {"ray": {name: ray[name] for name in ("state", "why")}, "prefect": state.prefect.coming()}
    return reply(request, servers | found)


def form(request: Request) -> Response:
    """GET /api/launch/schema?recipe=NAME: the recipe's fields, what earlier runs took, where a run can go; without a
    recipe the recipes alone."""
    found = launching.form(request.query_params.get("recipe", ""))
    settings, url = request.app.state.settings, request.app.state.objects.url
    places = ["inline", "local", *(["cluster"] if settings.ray else [])]
    pace = launching.pace(rows_of(request), found["name"], found["family"]) if "fields" in found else None
    return reply(request, found | {"places": places, "cluster": settings.ray, "pace": pace, "store": url})


routes = [
    Route("/api/alarms", listed),
    Route("/api/cluster", cluster),
    Route("/api/launch/schema", in_thread(form, launching.FORM_SECONDS)),
]

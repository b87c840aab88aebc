"""The API as an OpenAPI document, made from the routes, what each endpoint says of itself, the models of the bodies and
the types of the answers (`shapes.py`)."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from typing import Any

from pydantic import TypeAdapter
from starlette.routing import BaseRoute, Route

from orchestrator.dashboard import journal, launching, shapes
from orchestrator.dashboard import shapes_more as more
from orchestrator.dashboard.actions import ACTIONS
from orchestrator.dashboard.security import SAFE
from orchestrator.store.ids import ID_PATTERN, NAME_PATTERN

Document = dict[str, Any]

ANSWERS: dict[str, Any] = {
    "GET /api/status": shapes.Status,
    "GET /api/runs": shapes.Runs,
    "GET /api/runs/{id}": shapes.Run,
    "GET /api/runs/{id}/curves": shapes.Curves,
    "GET /api/runs/{id}/logs": shapes.Lines,
    "GET /api/compare": shapes.Compared,
    "GET /api/openapi.json": Document,
    "GET /api/sweeps": more.Sweeps,
    "GET /api/sweeps/{id}": more.Sweep,
    "GET /api/models": more.Models,
    "GET /api/models/{name}": more.Model,
    "GET /api/alarms": shapes.Alarms,
    "GET /api/cluster": shapes.Cluster,
    "GET /api/launch/schema": shapes.Form,
    "GET /api/rate/{id}": shapes.Rated,
    "GET /api/rate/{id}/next": shapes.Deck,
    "GET /api/audit": more.Audit,
    "POST /api/runs/{id}/stop": more.Stopped,
    "POST /api/runs/{id}/resume": more.Begun,
    "POST /api/sweeps/{id}/stop": more.SweepStopped,
    "POST /api/models/{name}/promote": more.Promoted,
    "POST /api/models/{name}/rollback": more.Promoted,
    "POST /api/alarms/{alarm}/acknowledge": more.AlarmSeen,
    "POST /api/launch": more.Begun,
    "POST /api/rate/{id}": more.Judged,
    "POST /api/rate/{id}/deck": more.Dealt,
}
"""What is answered with 200, where that is JSON."""

OTHERS = {
    "GET /api/events": "text/event-stream",
    "GET /api/runs/{id}/samples/{step}.png": "image/png",
    "GET /api/models/{name}/pictures/{round}/{file}": "image/png",
    "GET /api/rate/{id}/{deck}/{item}.png": "image/png",
}

TEXT = {"type": "string", "maxLength": 8000}
NUMBER = {"type": "integer", "minimum": 0}
ID = ID_PATTERN.pattern.replace(r"\d", "[0-9]")  # as JavaScript reads a pattern
RUN = {"type": "string", "pattern": f"^{ID}$"}
PATHS: dict[str, Document] = {
    "id": RUN,
    "deck": RUN,
    "name": {"type": "string", "pattern": f"^{NAME_PATTERN.pattern}$"},
    "alarm": {"type": "string", "pattern": rf"^{ID}\.[a-z][a-z-]{{0,40}}$"},
    "file": {"type": "string", "pattern": r"^(champion|challenger|grids)-[0-9a-f]{8,64}\.png$"},
    "step": NUMBER | {"maximum": 10**12 - 1},
    "round": NUMBER,
    "item": NUMBER,
}
WIDTH = {"type": "integer", "description": "buckets; held within 16 and 4000"}
NAME = "[A-Za-z0-9_.:/-]{1,80}"
NAMES = TEXT | {"pattern": f"^({NAME}(,{NAME}){{0,63}})?$"}
RUNS = TEXT | {"pattern": f"^{ID}(,{ID}){{0,249}}$"}
QUERIES: dict[str, dict[str, Document]] = {
    "/api/runs/{id}/curves": {"names": NAMES, "width": WIDTH},
    "/api/compare": {"runs": RUNS, "name": TEXT | {"pattern": f"^{NAME}$"}, "width": WIDTH},
    "/api/launch/schema": {"recipe": {"type": "string", "pattern": f"({launching.RECIPE})|^$"}},
}
NEEDED = ("runs",)
KEY: Document = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "schema": {"type": "string", "pattern": f"^{journal.KEY.pattern}$"},
}
ERROR = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
ERRORS = {
    "400": "a value that cannot be",
    "401": "not logged in",
    "404": "no such thing",
    "405": "another method",
    "413": "too large",
    "414": "too long an address",
    "421": "another host name",
    "429": "too many requests",
    "503": "the store does not answer",
}
OF_WRITES = {
    "403": "another site, another session, or a viewer",
    "409": "somebody was faster, or it has ended",
}
PLAIN: Document = {"text/plain": {}}  # of what is no HTTP, before anybody reads it
ETAG = {"ETag": {"schema": {"type": "string"}}}


def document(routes: Iterable[BaseRoute]) -> Document:
    """All of /api."""
    paths: Document = {}
    for route in routes:
        if isinstance(route, Route) and route.path.startswith("/api/"):
            path = re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path)
            for method in sorted((route.methods or {"GET"}) - {"HEAD"}):
                paths.setdefault(path, {})[method.lower()] = _operation(path, method, route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "ganctl dashboard", "version": version("ganctl")},
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Error": ERROR, **_schemas()[1]},
        },
        "security": [{"token": []}],
        "paths": paths,
    }


@cache
def _schemas() -> tuple[dict[str, Document], dict[str, Document]]:
    """The schema of each body (by path) and answer (by method and path), and what they refer to."""
    bodies = [(path, "validation", TypeAdapter(kind)) for path, (_, kind, _) in ACTIONS.items()]
    answers = [(what, "serialization", TypeAdapter(kind)) for what, kind in ANSWERS.items()]
    found, told = TypeAdapter.json_schemas([*bodies, *answers], ref_template="#/components/schemas/{model}")  # type: ignore[list-item]
    return {what: schema for (what, _), schema in found.items()}, told["$defs"]


def _operation(path: str, method: str, route: Route) -> Document:
    says = " ".join((inspect.getdoc(route.endpoint) or route.name).split())
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    wrong = ERRORS if method in SAFE else ERRORS | OF_WRITES
    found: Document = {
        "operationId": f"{method.lower()} {path}",
        "summary": says.removeprefix(f"{method} {path}: "),
        "parameters": [*_path(path), *_query(path)],
        "responses": {
            "200": {"description": "what was asked for", "content": _content(f"{method} {path}")},
            **{code: {"description": what, "content": content} for code, what in sorted(wrong.items())},
        },
    }
    found["responses"]["400"] = {"description": wrong["400"], "content": content | PLAIN}
    if method in SAFE:
        found["responses"]["304"] = {"description": "the client has it", "headers": ETAG}
    else:
        schema, needed = _schemas()[0][path], bool(ACTIONS[path][1].model_json_schema().get("required"))
        found["requestBody"] = {"required": needed, "content": {"application/json": {"schema": schema}}}
        found["parameters"].append(KEY)
    return found


def _content(what: str) -> Document:
    """What is answered: a route that is neither in ANSWERS nor in OTHERS is not described, and that is a mistake."""
    return {OTHERS[what]: {}} if what in OTHERS else {"application/json": {"schema": _schemas()[0][what]}}


def _path(path: str) -> list[Document]:
    return [
        {"name": name, "in": "path", "required": True, "schema": PATHS[name]}
        for name in re.findall(r"\{(\w+)\}", path)
    ]


def _query(path: str) -> list[Document]:
    return [
        {"name": name, "in": "query", "required": name in NEEDED, "schema": schema}
        for name, schema in QUERIES.get(path, {}).items()
    ]

"""The API as an OpenAPI document, made from the routes and what each endpoint says of itself."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from starlette.routing import BaseRoute, Route

from orchestrator.dashboard.security import SAFE
from orchestrator.store.ids import ID_PATTERN, NAME_PATTERN

Document = dict[str, Any]
RUN = {"type": "string", "pattern": f"^{ID_PATTERN.pattern}$"}
NAME = {"type": "string", "pattern": f"^{NAME_PATTERN.pattern}$"}
WIDTH = {"type": "integer", "minimum": 16, "maximum": 4000}
TEXT = {"type": "string", "maxLength": 8000}
PATHS = {"id": RUN, "run": RUN, "name": NAME, "step": {"type": "integer", "minimum": 0}}
QUERIES: dict[str, dict[str, Document]] = {
    "/api/runs/{id}/curves": {"names": TEXT, "width": WIDTH},
    "/api/compare": {"runs": TEXT, "name": TEXT, "width": WIDTH},
    "/api/launch/schema": {"recipe": TEXT},
}
NEEDED = ("runs",)
MEDIA = {"/api/events": "text/event-stream"}
ERROR = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
ERRORS = {
    "400": "a value that cannot be",
    "401": "not logged in",
    "403": "another site, another session, or a viewer",
    "404": "no such thing",
    "409": "somebody was faster, or it has ended",
    "413": "too large",
    "421": "another host name",
    "429": "too many requests",
    "503": "the store does not answer",
}


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
            "schemas": {"Error": ERROR},
        },
        "security": [{"token": []}],
        "paths": paths,
    }


def _operation(path: str, method: str, route: Route) -> Document:
    says = " ".join((inspect.getdoc(route.endpoint) or route.name).split())
    media = "image/png" if path.endswith(".png") else MEDIA.get(path, "application/json")
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    found: Document = {
        "operationId": f"{method.lower()} {path}",
        "summary": says.removeprefix(f"{method} {path}: "),
        "parameters": [*_path(path), *_query(path)],
        "responses": {
            "200": {"description": "what was asked for", "content": {media: {}}},
            **{code: {"description": what, "content": content} for code, what in ERRORS.items()},
        },
    }
    if method not in SAFE:
        found["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": {"type": "object"}}},
        }
        found["parameters"].append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": True,
                "schema": {"type": "string", "minLength": 8},
            }
        )
    return found


def _path(path: str) -> list[Document]:
    return [
        {"name": name, "in": "path", "required": True, "schema": PATHS.get(name, TEXT)}
        for name in re.findall(r"\{(\w+)\}", path)
    ]


def _query(path: str) -> list[Document]:
    return [
        {"name": name, "in": "query", "required": name in NEEDED, "schema": schema}
        for name, schema in QUERIES.get(path, {}).items()
    ]

"""Models under /api: champion, history, decisions with their pictures, next rounds. It reads the store."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orchestrator import scheduled
from orchestrator.dashboard.replies import error, in_thread, reply
from orchestrator.errors import NotFound, StoreError
from orchestrator.registry import Promotion, Registry
from orchestrator.retrain import rounds, settings
from orchestrator.retrain.history import history
from orchestrator.store import documents
from orchestrator.store.ids import check_name
from orchestrator.store.layout import decision_picture_key, key_number, retrain_folder, round_key
from orchestrator.store.objects import Objects
from orchestrator.store.reader import Run

Document = dict[str, Any]

MOST_EVENTS, MOST_DECISIONS = 500, 50
FOREVER = "private, max-age=31536000, immutable"


def model_names(objects: Objects) -> list[str]:
    """Models that were promoted or are retrained, by name."""
    return sorted({*Registry(objects).names(), *settings.names(objects)})


@in_thread
def models(request: Request) -> Response:
    """GET /api/models: each model's champion and how its retraining stands."""
    objects = request.app.state.objects
    coming = next_rounds(request)
    return reply(request, {"models": [row_of(objects, name, coming) for name in model_names(objects)]})


def next_rounds(request: Request) -> dict[str, str]:
    """When the next round of each retraining is due, as Prefect says; nothing where it is down."""
    return scheduled.next_rounds(request.app.state.prefect.coming()["runs"])


def row_of(objects: Objects, name: str, coming: Mapping[str, str]) -> Document:
    """A model in the list; a damaged champion shows as its problem."""
    champion, problem = None, None
    try:
        champion = Registry(objects).champion(name)
    except StoreError as damage:
        problem = str(damage)
    told = promotion_of(champion) if champion else None
    return {"name": name, "champion": told, "problem": problem, **retraining_of(objects, name, coming)}


def retraining_of(objects: Objects, name: str, coming: Mapping[str, str]) -> Document:
    """Whether the model is retrained, how its last round stands, when its next one is due."""
    found, last, state = settings.read(objects, name), rounds.latest(objects, name), None
    if last is not None:
        with suppress(NotFound):  # somebody took its files away; one model's trouble is not that of all
            state = last.state()
    return {
        "retrained": found is not None,
        "paused": found.paused if found else None,
        "last": {"round": last.number, "state": state or "damaged"} if last else None,
        "next": coming.get(name) if found and not found.paused else None,
    }


@in_thread
def model(request: Request) -> Response:
    """GET /api/models/{name}: everything about one model, the newest first."""
    objects, name = request.app.state.objects, check_name(request.path_params["name"])
    if name not in model_names(objects):
        raise NotFound(f"no model {name!r} in {objects.url}")
    readable, damaged = damageable(objects, name)
    whole = bool(readable) and readable[-1].number > max(damaged, default=0)
    try:
        events = [asdict(event) for event in history(objects, name)]
    except StoreError:  # a damaged promotion; what reads is shown, and that one is damaged
        events = []
    told = {
        "name": name,
        "champion": promotion_of(readable[-1]) if whole else None,
        "promotions": [promotion_of(each) for each in reversed(readable)][:MOST_EVENTS],
        "pictures": pictures_of(objects, readable),
        "damaged": damaged,
        "history": events[::-1][:MOST_EVENTS],
        "decisions": decisions(objects, name),
        **retraining_of(objects, name, next_rounds(request)),
    }
    return reply(request, told)


def damageable(objects: Objects, name: str) -> tuple[list[Promotion], list[int]]:
    """`Registry.readable`; nothing for a model that is retrained and was never promoted."""
    try:
        return Registry(objects).readable(name)
    except NotFound:
        return [], []


def promotion_of(promotion: Promotion) -> Document:
    """A promotion with `run` for its run's id, as everywhere, and the digest that vouches for it."""
    told = asdict(promotion)
    run = told.pop("run_id")
    return told | {"run": run, "digest": promotion.digest}


def pictures_of(objects: Objects, readable: list[Promotion]) -> list[Document]:
    """For the newest version and the one before: the run's last sample grid up to the promoted step."""
    newest = {p.version: p for p in readable}
    found = []
    for promotion in sorted(newest.values(), key=lambda p: p.number)[:-3:-1]:
        steps = [step for step, _ in Run(objects, promotion.run_id).samples()]
        at = max((step for step in steps if step <= promotion.step), default=max(steps, default=None))
        found.append({"version": promotion.version, "run": promotion.run_id, "step": at})
    return found


def decisions(objects: Objects, name: str) -> list[Document]:
    """The decision documents of the newest rounds, the newest first, each with its `round` and pictures as urls."""
    keys = [key for key in objects.list(retrain_folder(name, "rounds")) if _number(key)]
    keys = sorted(keys, key=lambda key: (key.rpartition("/")[0], _number(key)))[-MOST_DECISIONS:]
    found = []
    for key, data in objects.get_many(reversed(keys)).items():
        told, number = documents.decode(data), key_number(key.rpartition("/")[0])
        urls = {
            which: f"/api/models/{name}/pictures/{number}/{at.rpartition('/')[2]}"
            for which, at in (told.get("pictures") or {}).items()
        }
        found.append(told | {"round": number, "number": _number(key), "pictures": urls})
    return found


def _number(key: str) -> int:
    match = re.search(r"/decision-(\d+)\.json$", key)
    return int(match[1]) if match else 0


@in_thread
def picture(request: Request) -> Response:
    """GET /api/models/{name}/pictures/{round}/{file}: a picture of a decision; it never changes."""
    match = re.fullmatch(r"(champion|challenger|grids)-([0-9a-f]{8,64})\.png", request.path_params["file"])
    if match is None:
        return error(404, "no such picture")
    folder = round_key(request.path_params["name"], request.path_params["round"], "x").rpartition("/")[0]
    data = request.app.state.objects.get(decision_picture_key(folder, match[1], match[2]))
    return Response(data, media_type="image/png", headers={"Cache-Control": FOREVER})


routes = [
    Route("/api/models", models),
    Route("/api/models/{name}", model),
    Route("/api/models/{name}/pictures/{round:int}/{file}", picture),
]

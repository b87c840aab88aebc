"""Human evaluation under /api: a run's decks, their pictures, and what was said so far. It reads the store."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orchestrator.dashboard import rating
from orchestrator.dashboard.replies import in_thread, reply


@in_thread
def told(request: Request) -> Response:
    """GET /api/rate/{id}: the share of pictures judged wrongly, with its interval, and the decks there are."""
    return reply(request, rating.told(request.app.state.objects, request.path_params["id"]))


@in_thread
def following(request: Request) -> Response:
    """GET /api/rate/{id}/next: the newest deck and how many pictures it has; null where none was made yet."""
    objects, run_id = request.app.state.objects, request.path_params["id"]
    decks = rating.told(objects, run_id)["decks"]
    if not decks:
        return reply(request, {"deck": None, "items": 0, "step": None})
    images, _, step = rating.deck_of(objects, run_id, decks[0])
    return reply(request, {"deck": decks[0], "items": len(images), "step": step})


@in_thread
def picture(request: Request) -> Response:
    """GET /api/rate/{id}/{deck}/{item}.png: a picture to judge; it does not say what it is."""
    given = request.path_params
    data = rating.picture(request.app.state.objects, given["id"], given["deck"], given["item"])
    return Response(data, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})


routes = [
    Route("/api/rate/{id}", told),
    Route("/api/rate/{id}/next", following),
    Route("/api/rate/{id}/{deck}/{item:int}.png", picture),
]

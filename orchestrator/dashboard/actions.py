"""What a person may have the dashboard do, under /api: stop, promote, roll back, acknowledge, launch.

Who may is decided before (`security.py`); what was asked and what came of it is in `journal.py`. Each answers once it
is done: a stop when the run's driver is gone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from orchestrator.dashboard import alarms, journal, rating
from orchestrator.dashboard.api_models import promotion_of
from orchestrator.dashboard.asked import Asked, Count, Ordinal
from orchestrator.dashboard.launching import Launch, launch, resume
from orchestrator.dashboard.replies import error, explained, in_thread, reply
from orchestrator.driving import driver_of
from orchestrator.errors import AlreadyExists, ConfigError
from orchestrator.registry import Candidate, Registry
from orchestrator.stop import stop_run
from orchestrator.store import documents
from orchestrator.store.ids import ID_PATTERN, check_name
from orchestrator.store.objects import Objects
from orchestrator.store.reader import Run
from orchestrator.sweep.folder import open_sweep, sweep_key

Document = dict[str, Any]
Reason = Field("", max_length=500)


class Stop(Asked):
    now: bool = False  # without a checkpoint


class Nothing(Asked):
    pass


class Promote(Asked):
    """`after`: the number of the champion that the person saw, 0 for none."""

    run: str = Field(pattern=rf"^{ID_PATTERN.pattern}$")
    step: Count | None = None
    after: Count
    reason: str = Reason


class Rollback(Asked):
    """`after`: as in Promote, so that nobody rolls back what he has not seen."""

    to: Ordinal | None = None
    after: Ordinal
    reason: str = Reason


class Acknowledge(Asked):
    note: str = Reason


@dataclass(frozen=True)
class Context:
    """What an action is done with: the store, what the path names, on whose behalf."""

    objects: Objects
    path: Mapping[str, str]
    by: str
    request: Request


Do = Callable[[Context, Any], Document]


def stop(context: Context, asked: Stop) -> Document:
    """Returns once the run holds nothing any more. A run that is stopped already stays so."""
    run = Run(context.objects, context.path["id"])
    run.document()
    state = stop_run(context.objects, run.id, asked.now)
    return {"run": run.id, "state": state, "driven": driver_of(context.objects, run.id)}


def stop_sweep(context: Context, asked: Nothing) -> Document:
    """Have a sweep end: nothing new begins, what trains ends at its next tick. It is over when its state says so."""
    found = open_sweep(context.objects, context.path["id"])
    if found.state != "running":
        raise AlreadyExists(f"sweep {found.id} is {found.state}: there is nothing to stop")
    wish = {"time": time.time(), "by": context.by}
    context.objects.put(sweep_key(found.id, "stop.json"), documents.encode(wish))
    return {"sweep": found.id, "state": found.state}


def promote(context: Context, asked: Promote) -> Document:
    name = check_name(context.path["name"])
    candidate = Candidate(asked.run, asked.step)
    reason = asked.reason or "by hand, from the dashboard"
    made = Registry(context.objects).promote(name, candidate, asked.after, reason, by=context.by)
    return {"promotion": promotion_of(made)}


def rollback(context: Context, asked: Rollback) -> Document:
    registry, name = Registry(context.objects), check_name(context.path["name"])
    newest = registry.newest(name)
    if newest != asked.after:
        raise AlreadyExists(
            f"model {name}: promotion {newest} came after the one that you saw ({asked.after}); look again"
        )
    return {"promotion": promotion_of(registry.rollback(name, asked.to, asked.reason, by=context.by))}


def acknowledge(context: Context, asked: Acknowledge) -> Document:
    library, alarm = context.request.app.state.library, context.path["alarm"]
    library.wanted()
    row = library.row(alarms.parse_id(alarm)[0])
    return alarms.acknowledge(context.objects, row, alarm, context.by, asked.note)


def begin(context: Context, asked: Launch) -> Document:
    return launch(context.objects, context.request.app.state.settings, asked)


def go_on(context: Context, asked: Nothing) -> Document:
    return resume(context.objects, context.request.app.state.settings, context.path["id"])


def deal(context: Context, asked: Nothing) -> Document:
    """A new deck of pictures of the run's newest checkpoint, half of them real."""
    return {"deck": rating.make_deck(context.objects, context.path["id"])}


def judge(context: Context, asked: rating.Session) -> Document:
    return rating.judge(context.objects, context.path["id"], asked, context.by)


def action(name: str, kind: type[BaseModel], do: Do) -> Callable[[Request], Any]:
    """The endpoint of an action whose body is a `kind`."""

    async def endpoint(request: Request) -> Response:
        try:
            asked = kind.model_validate_json(await request.body() or b"{}")
        except ValidationError as wrong:
            return error(400, _mistakes(wrong))
        if stale := request.app.state.library.stale:
            return error(503, stale)
        return await run_in_threadpool(_perform, request, name, asked, do)

    endpoint.__doc__ = do.__doc__
    return endpoint


def _perform(request: Request, name: str, asked: BaseModel, do: Do) -> Response:
    state = request.app.state
    if not state.settings.operates:
        return error(403, "this dashboard only shows; start it with --role operator to change anything")
    who = {"role": state.settings.role, "address": request.client.host if request.client else ""}
    context = Context(
        state.objects, request.path_params, f"dashboard {who['role']} at {who['address']}", request
    )
    arguments = {**request.path_params, **asked.model_dump()}
    try:
        key = _key(request)
        status, outcome = journal.once(
            state.objects, key, journal.Action(name, arguments, who), lambda: do(context, asked)
        )
    except Exception as failure:
        return explained(failure)
    return JSONResponse(outcome, status, {"Cache-Control": "no-store"})


def _key(request: Request) -> str:
    key = request.headers.get("idempotency-key", "")
    if not journal.KEY.fullmatch(key):
        raise ConfigError("send a header Idempotency-Key of 8 to 64 letters, digits, `_` or `-`")
    return key


def _mistakes(wrong: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}" for each in wrong.errors()
    )[:1000]


@in_thread
def audit(request: Request) -> Response:
    """GET /api/audit: the newest actions, the newest first."""
    return reply(request, {"actions": journal.newest(request.app.state.objects)})


ACTIONS: dict[str, tuple[str, type[BaseModel], Do]] = {
    "/api/runs/{id}/stop": ("stop", Stop, stop),
    "/api/runs/{id}/resume": ("resume", Nothing, go_on),
    "/api/sweeps/{id}/stop": ("stop sweep", Nothing, stop_sweep),
    "/api/models/{name}/promote": ("promote", Promote, promote),
    "/api/models/{name}/rollback": ("rollback", Rollback, rollback),
    "/api/alarms/{alarm}/acknowledge": ("acknowledge", Acknowledge, acknowledge),
    "/api/rate/{id}": ("judge", rating.Session, judge),
    "/api/rate/{id}/deck": ("deal", Nothing, deal),
    "/api/launch": ("launch", Launch, begin),
}

routes = [
    *(Route(path, action(*about), methods=["POST"]) for path, about in ACTIONS.items()),
    Route("/api/audit", audit),
]

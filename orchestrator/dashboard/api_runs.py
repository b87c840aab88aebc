"""Runs, their curves, samples and logs, and how everything stands, under /api."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orchestrator.dashboard import curves
from orchestrator.dashboard.adapters import Down
from orchestrator.dashboard.alarms import rules_of
from orchestrator.dashboard.api_models import next_rounds, retraining_of
from orchestrator.dashboard.library import Library, require
from orchestrator.dashboard.openapi import document as openapi_document
from orchestrator.dashboard.replies import also_alone, from_memory, in_thread, number, reply, send
from orchestrator.driving import driver_of
from orchestrator.errors import ConfigError, NotFound, StoreError
from orchestrator.masking import masked
from orchestrator.retrain import settings
from orchestrator.runlog import logs_of
from orchestrator.store import documents
from orchestrator.store.ids import check_id
from orchestrator.store.layout import run_key, sample_step
from orchestrator.store.objects import Objects
from orchestrator.store.reader import Run

Document = dict[str, Any]
ACTIVE = ("running", "queued", "paused")
NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,80}")
MOST_NAMES, MOST_RUNS = 64, 250
DEFAULT = ("loss_d", "loss_g", "fid")
STEP = re.compile(r"\d{1,12}")
VERSION = version("ganctl")  # of what is installed: looking that up takes milliseconds


@also_alone
def status(request: Request) -> Response:
    """GET /api/status: the servers, the retrainings, what runs now."""
    state = request.app.state
    library: Library = state.library
    library.wanted()
    stale = library.stale
    store = {"what": "store", "state": "down" if stale else "up", "where": state.objects.url}
    parts = [store, state.prefect.part(), state.ray.part()]
    return reply(
        request,
        {
            "parts": parts,
            "up": all(part["state"] == "up" for part in parts),
            "retrainings": [] if stale else _retrainings(request),
            "runs": [row for row in library.going() if row["state"] in ACTIVE],
            "version": VERSION,
            "role": "operator" if state.settings.operates else "viewer",
            "stale": stale,
        },
    )


@from_memory
def runs(request: Request) -> Response:
    """GET /api/runs: every run by column, from memory."""
    library: Library = request.app.state.library
    library.wanted()
    etag, body, packed = library.table()
    return send(request, body, etag, packed)


@in_thread
def run(request: Request) -> Response:
    """GET /api/runs/{id}: everything that is small."""
    objects: Objects = request.app.state.objects
    found = Run(objects, request.path_params["id"])
    document, sealed, live = found.document(), found.sealed(), found.live()
    state = str(sealed["state"]) if sealed else found.state()
    begun = objects.get_many(objects.list(run_key(found.id, "attempts")))
    return reply(
        request,
        {
            "document": document,
            "live": _without_trace(live),
            "sealed": sealed,
            "state": state,
            "checkpoints": [step for step, _ in found.checkpoints()],
            "samples": [step for step, _ in found.samples()],
            "attempts": [documents.decode(data) for data in begun.values()],
            "lineage": _lineage(request.app.state.library, document),
            "alarms": _alarms(found.id, sealed or live or {}, state),
            "driver": driver_of(objects, found.id),
        },
    )


@also_alone
def curve(request: Request) -> Response:
    """GET /api/runs/{id}/curves: some metrics in at most `width` buckets."""
    run_id = check_id(request.path_params["id"])
    width = number(request, "width", 800, 16, curves.MOST)
    asked = _names(request.query_params.get("names", ""))
    state = request.app.state
    stale = state.library.stale
    table = state.curves.kept(run_id) if stale else state.curves.table(run_id)
    if table is None:
        raise StoreError(stale)
    if not len(table):
        Run(state.objects, run_id).document()  # raises NotFound where there is no such run
    known = curves.numeric(table)
    names = [name for name in asked or DEFAULT if name in known]
    told = {} if stale else _told(Run(state.objects, run_id))
    spells = {"verdicts": curves.verdicts(table, told), "changes": curves.changes(table)}
    return reply(request, curves.drawn(table, names, width) | {"names": known} | spells)


@in_thread
def sample(request: Request) -> Response:
    """GET /api/runs/{id}/samples/{step}.png: one grid; it never changes."""
    run_id, text = check_id(request.path_params["id"]), request.path_params["step"]
    if not STEP.fullmatch(text):
        raise NotFound(f"no samples at step {text[:20]!r}")
    state = request.app.state
    key = state.pictures.key(run_id, int(text))
    etag = key.rpartition("-")[2].removesuffix(".png")
    headers = {"ETag": f'"{etag}"', "Cache-Control": "private, max-age=31536000, immutable"}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    try:
        data = state.objects.get(key)
    except NotFound:  # it was deleted
        state.pictures.forget(run_id)
        raise
    return Response(data, headers=headers, media_type="image/png")


@in_thread
def logs(request: Request) -> Response:
    """GET /api/runs/{id}/logs: what the run said of its end and what its processes printed, from the store."""
    state = request.app.state
    found = Run(state.objects, request.path_params["id"])
    found.document()
    told, lines = _told(found), []
    for name in ("doing", "stalled", "error", "traceback"):
        if told.get(name):
            lines += [f"{name}: {masked(line)}" for line in str(told[name]).splitlines()]
    for kept in logs_of(state.objects, found.id).values():
        lines += [f"{kept.who}:", *kept.lines]
    driver = driver_of(state.objects, found.id) or {}
    if "submission" in driver and found.sealed() is None:  # its newest lines may still be with Ray alone
        lines += _job_log(state.ray, str(driver["submission"]))
    return reply(request, {"lines": lines[-5000:]})


@in_thread
def compare(request: Request) -> Response:
    """GET /api/compare: one metric of many runs over one axis, and in which fields they differ."""
    state = request.app.state
    ids = list(dict.fromkeys(filter(None, request.query_params.get("runs", "").split(","))))
    if not 1 <= len(ids) <= MOST_RUNS:
        raise ConfigError(f"runs=ID,ID,…: name 1 to {MOST_RUNS} runs, not {len(ids)}")
    state.library.wanted()
    for run_id in ids:
        require(state.library, check_id(run_id))
    name = (_names(request.query_params.get("name", "fid")) or ["fid"])[0]
    width = number(request, "width", 600, 16, curves.MOST)
    told = curves.compared(state.curves.columns(ids, name), width)
    asked = state.objects.get_many(run_key(i, "run.json") for i in ids)
    configs = {key.split("/")[1]: documents.decode(data) for key, data in asked.items()}
    return reply(
        request, told | {"name": name, "config": _differing(configs, ids), "samples": _samples(state, ids)}
    )


async def openapi(request: Request) -> Response:
    """GET /api/openapi.json: this API."""
    return reply(request, openapi_document(request.app.routes))


def _names(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    wrong = [name[:40] for name in names if not NAME.fullmatch(name)]
    if wrong or len(names) > MOST_NAMES:
        raise ConfigError(
            f"metric names {wrong or len(names)}: at most {MOST_NAMES}, of letters, digits and _.:/-"
        )
    return list(dict.fromkeys(names))


def _told(run: Run) -> Document:
    """What the run says of itself: sealed.json, else its heartbeat."""
    return run.sealed() or run.live() or {}


def _without_trace(live: Mapping[str, Any] | None) -> Document | None:
    """A traceback is for the logs."""
    return None if live is None else {k: v for k, v in live.items() if k != "traceback"}


def _alarms(run_id: str, told: Mapping[str, Any], state: str) -> list[Document]:
    """What is wrong, each with what it rests on. `/api/alarms` tells more, of all runs."""
    found = rules_of({"verdict": told.get("verdict"), "state": state})
    shown = {name: told.get(name) for name in ("evidence", "remedy", "error", "step")}
    rows = [{"id": f"{run_id}.{rule}", "rule": rule, **shown} for rule in found]
    if told.get("stalled"):
        rows.append({"id": None, "rule": "stalled", **shown, "error": told["stalled"]})
    return rows


def _lineage(library: Library, document: Mapping[str, Any]) -> Document:
    experiment = document.get("experiment") or {}
    start = experiment.get("start")
    told = {name: document.get(name) for name in ("sweep", "retrain", "round", "trial", "source")}
    return {
        "start": start,
        "parent": start.partition("@")[0] if isinstance(start, str) else None,
        **{name: value for name, value in told.items() if value is not None},
    }


def _job_log(ray: Any, submission: str) -> list[str]:
    try:
        return [f"job {submission}:", *ray.log(submission)]
    except Down as error:
        return [f"the log of job {submission} is with Ray: {error}"]


def _retrainings(request: Request) -> list[Document]:
    """Empty where the store does not answer."""
    try:
        coming, objects = next_rounds(request), request.app.state.objects
        names = settings.names(objects)
        rows = [{"name": name, **retraining_of(objects, name, coming)} for name in names]
    except StoreError:
        return []
    for row in rows:
        row["last"] = f"{row['last']['round']}: {row['last']['state']}" if row["last"] else None
    return rows


def _differing(configs: Mapping[str, Document], ids: list[str]) -> Document:
    """Fields of the experiments that are not the same in all, by dotted name."""
    flat = {i: _flatten((configs.get(i) or {}).get("experiment") or {}) for i in ids}
    names = dict.fromkeys(
        name for fields in flat.values() for name in fields if not name.startswith("search.")
    )
    table = {name: {i: fields.get(name) for i, fields in flat.items()} for name in names}
    return {name: row for name, row in table.items() if len({repr(value) for value in row.values()}) > 1}


def _flatten(fields: Mapping[str, Any], prefix: str = "") -> Document:
    found: Document = {}
    for name, value in fields.items():
        if isinstance(value, Mapping):
            found |= _flatten(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def _samples(state: Any, ids: list[str]) -> dict[str, list[int]]:
    """Steps at which each run has samples."""
    from concurrent.futures import ThreadPoolExecutor

    objects: Objects = state.objects
    with ThreadPoolExecutor(8) as pool:
        listed = pool.map(lambda i: objects.list(run_key(i, "samples")), ids)
        return {i: [sample_step(key) for key in keys] for i, keys in zip(ids, listed, strict=True)}


routes = [
    Route("/api/status", status),
    Route("/api/runs", runs),
    Route("/api/runs/{id}", run),
    Route("/api/runs/{id}/curves", curve),
    Route("/api/runs/{id}/samples/{step}.png", sample),
    Route("/api/runs/{id}/logs", logs),
    Route("/api/compare", compare),
    Route("/api/openapi.json", openapi),
]

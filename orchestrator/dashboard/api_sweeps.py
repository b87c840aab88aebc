"""Sweeps under /api: the list, and one with its trials, front, rungs, importance and costs. It reads the store."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow.parquet as pq
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orchestrator.dashboard import sweep_tables as tables
from orchestrator.dashboard.replies import in_thread, reply
from orchestrator.errors import NotFound
from orchestrator.store.objects import Objects
from orchestrator.sweep.folder import Sweep, open_sweep, sweep_key, sweeps

Document = dict[str, Any]
Curves = Mapping[int, Sequence[tuple[int, float]]]

MOST_SWEEPS, MOST_TRIALS = 200, 5000


@in_thread
def listed(request: Request) -> Response:
    """GET /api/sweeps: the newest ones, newest first."""
    found = sweeps(request.app.state.objects, MOST_SWEEPS)
    return reply(request, {"sweeps": [tables.summary(sweep) for sweep in found]})


@in_thread
def shown(request: Request) -> Response:
    """GET /api/sweeps/{id}: one sweep as it stands now."""
    objects: Objects = request.app.state.objects
    sweep = open_sweep(objects, request.path_params["id"])
    plan, rows = sweep.begun["plan"], sweep.rows[:MOST_TRIALS]
    told = [tables.trial(row, plan["objectives"]) for row in rows]
    x, y = tables.axes(plan["objectives"])
    front, result = tables.front(told, x, y), sweep.result
    ended = sweep.live is None and result is not None
    best = result.best["number"] if ended and result and result.best else None
    answer = {
        "summary": tables.summary(sweep),
        "plan": plan,
        "space": (sweep.begun.get("experiment") or {}).get("search") or {},
        "trials": told,
        "best": best,
        "axes": {"quality": x, "diversity": y},
        "front": front,
        "importance": result.importance if ended and result else None,
        "rungs": tables.rungs(curves(objects, sweep), told),
        "costs": tables.costs(rows, told, result.costs if ended and result else {}),
        "configurations": result.configurations if ended and result else [],
        "pictures": tables.pictures(objects, told, [*([] if best is None else [best]), *front]),
    }
    return reply(request, answer)


def curves(objects: Objects, sweep: Sweep) -> Curves:
    """What each trial was evaluated to, by step: the ledger's while it runs, afterwards study.parquet."""
    if sweep.live is not None:
        return {
            row["number"]: [(int(step), float(value)) for step, value in (row.get("rungs") or {}).items()]
            for row in sweep.live["rows"]
        }
    try:
        table = pq.read_table(io.BytesIO(objects.get(sweep_key(sweep.id, "study.parquet"))))
    except NotFound:
        return {}
    found: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for row in table.to_pylist():
        if row["value"] is not None:
            found[row["number"]].append((row["step"], row["value"]))
    return found


routes = [Route("/api/sweeps", listed), Route("/api/sweeps/{id}", shown)]

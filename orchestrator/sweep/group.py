"""A data-parallel trial: a Ray Train group below a Tune trial, which hears from its first rank through the desk."""

from __future__ import annotations

import tempfile
import threading
import time
from functools import partial
from typing import Any
from uuid import uuid4

from gans.loop import Tick
from orchestrator.cluster import connected
from orchestrator.errors import RunFailed
from orchestrator.launch import fit
from orchestrator.outcome import Turn, left_by
from orchestrator.runlog import recorded
from orchestrator.store.objects import Objects
from orchestrator.store.reader import Run
from orchestrator.sweep.member import Grouped, experiment_of, running
from orchestrator.worker import OnTick

HEARTBEAT_SECONDS = 1.0


def group_of(objects: Objects, run_id: str, number: int, desk: Any) -> Grouped:
    """Start the group of trial `number` and return the trial."""
    from ray import get

    run, box = Run(objects, run_id), f"group/{run_id}/{uuid4().hex}"
    if run.sealed() is None:
        told = partial(_tell, desk, box, number, run_id, {})
        threading.Thread(target=_train, args=(objects, run_id, told, desk, box), daemon=True).start()
    else:
        desk.put.remote(box, None)

    def hear() -> Any:
        return get(desk.take.remote(box))

    def answer(where: str, turn: Turn | None) -> None:
        desk.put.remote(where, turn)

    return Grouped(number, run, hear, answer)


def _train(objects: Objects, run_id: str, told: OnTick, desk: Any, box: str) -> None:
    """Train to the end, and say so: with nothing where the run is sealed, else with why it was left."""
    said: Exception | None = None
    try:
        with (
            recorded(objects, run_id, "driver"),
            tempfile.TemporaryDirectory(prefix="ganctl-group-") as scratch,
            connected("auto") as capacity,
        ):
            fit(experiment_of(objects, run_id), objects, run_id, capacity, scratch, told)
    except Exception as error:
        said = error
    if Run(objects, run_id).sealed() is not None:
        said = None
    elif said is None:
        said = left_by(Run(objects, run_id)) or RunFailed(f"run {run_id}: its group ended, and it did not")
    desk.put.remote(box, said)


def _tell(desk: Any, box: str, number: int, run_id: str, clock: dict[str, float], tick: Tick) -> Turn | None:
    """What rank 0 does at a tick: tell the host, and wait for its answer, which is an order where there are figures.

    Each question names the box of its answer: a rank that took over must not read one meant for the rank before it.
    """
    from ray import get

    now = time.monotonic()
    beat = running(number, run_id, tick, now - clock.setdefault("begun", now))
    if not beat.figures and now - clock.get("told", 0.0) < HEARTBEAT_SECONDS:
        return None
    clock["told"] = now
    reply = f"{box}/{uuid4().hex}"
    get(desk.put.remote(box, (beat, reply)))
    turn: Turn | None = get(desk.take.remote(reply))
    return turn

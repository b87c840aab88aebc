"""How a sweep goes: lines for the person who waits, from Tune's events, and what the store shows of it meanwhile."""

from __future__ import annotations

import time
from typing import Any

from ray.tune import Callback

from orchestrator.launch import Progress
from orchestrator.store.documents import encode
from orchestrator.store.objects import Objects
from orchestrator.sweep.conductor import Conductor
from orchestrator.sweep.folder import sweep_key
from orchestrator.sweep.ledger import Ledger
from orchestrator.sweep.plan import Plan

PUBLISH_SECONDS, LOOK_SECONDS = 5.0, 2.0


class _Local(Callback):
    """A callback of which Tune's snapshot keeps nothing."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        for beat in result.get("beats", ()):
            self.hear(beat)

    def hear(self, beat: dict[str, Any]) -> None:
        """A beat of one trial."""


class Telling(_Local):
    """Passes `{"label", "done", "note", "end"}` to `progress` for the sweep and for every trial."""

    def __init__(self, ledger: Ledger, plan: Plan, progress: Progress | None) -> None:
        self._ledger, self._plan, self._progress = ledger, plan, progress
        self._finished = self._stopped = 0
        self._recount()

    def hear(self, beat: dict[str, Any]) -> None:
        label = f"trial {beat['number']}"
        if beat["state"] == "running":
            note = f"step {beat['step']}"
            if "fid" in beat["figures"]:
                note += f" · FID {beat['figures']['fid']:.1f}"
            self._tell(label, beat["progress"], note)
            return
        paused = beat["state"] == "paused"
        self._tell(label, beat["progress"] if paused else 1.0, beat["state"], end=True)
        if not paused:
            self._count("COMPLETE" if beat["state"] == "complete" else "PRUNED")
            self._tell_sweep()

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Those that paused have ended since."""
        told = self._finished
        self._recount()
        if self._finished != told:
            self._tell_sweep()

    def _tell_sweep(self) -> None:
        total = self._plan.trials
        done = self._finished / total if total else 0.0
        of = f"{self._finished} of {total}" if total else f"{self._finished}"
        self._tell("sweep", min(1.0, done), f"{of} trials, {self._stopped} stopped early", end=done >= 1.0)

    def _recount(self) -> None:
        self._finished = self._stopped = 0
        for row in self._ledger.table():
            self._count(row["state"])

    def _count(self, state: str) -> None:
        self._finished += state in ("COMPLETE", "PRUNED", "FAIL")
        self._stopped += state == "PRUNED"

    def _tell(self, label: str, done: float, note: str, end: bool = False) -> None:
        if self._progress is not None:
            self._progress({"label": label, "done": done, "note": note, "end": end})


class Publishing(_Local):
    """Keeps `live.json` of a sweep young, and passes a wish to stop (`stop.json`) on."""

    def __init__(self, objects: Objects, sweep_id: str, conductor: Conductor, ledger: Ledger) -> None:
        self._objects, self._sweep_id = objects, sweep_id
        self._conductor, self._ledger = conductor, ledger
        self._published = self._looked = 0.0

    def hear(self, beat: dict[str, Any]) -> None:
        now = time.monotonic()
        if now - self._looked > LOOK_SECONDS:
            self._looked = now
            if self._objects.exists(sweep_key(self._sweep_id, "stop.json")):
                self._conductor.stop("asked to stop")
        if now - self._published > PUBLISH_SECONDS:
            self._published = now
            live = {"rows": self._ledger.table(), "state": "running", "time": time.time()}
            self._objects.put(sweep_key(self._sweep_id, "live.json"), encode(live))

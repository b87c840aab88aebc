"""What a tick leaves in the store: its row, pictures, checkpoint and heartbeat. On rank 0."""

from __future__ import annotations

import math
from typing import Any

from gans.checkpoint import pack
from gans.data.base import Dataset
from gans.loop import Tick
from gans.pictures import encode, picture_of
from gans.training import PACE, State
from orchestrator.experiment import Experiment
from orchestrator.runlog import Log
from orchestrator.store.writer import RunWriter


class Record:
    """The record of one attempt, by way of `writer`. `figures` are the last evaluation, `changes` those so far."""

    def __init__(self, writer: RunWriter, experiment: Experiment, log: Log) -> None:
        self.writer, self.experiment, self.log = writer, experiment, log
        writer.keep_last = experiment.train.keep_checkpoints
        writer.keep_best = experiment.train.keep_best
        self.figures: dict[str, float] = {}
        self.changes: list[dict[str, Any]] = []
        self._logged = writer.start or -1
        self._verdict = "healthy"

    def resume(self, state: State) -> None:
        """The run goes on from `state`, whose row and changes are in the store."""
        self.changes = list(state["course"]["changes"])

    def tick(self, tick: Tick, held_out: Dataset, state: State | None) -> None:
        """Record `tick`, with a checkpoint where there is a `state`. Raises StoreError, Superseded."""
        if tick.evaluation:
            self.figures = tick.evaluation
        if tick.step > self._logged:  # an end that was ordered repeats the tick it was ordered at
            self._logged = tick.step
            row: dict[str, Any] = {k: v for k, v in tick.metrics.items() if math.isfinite(v)}
            row |= {"images": float(tick.images), "seconds": tick.seconds, "verdict": tick.verdict.kind}
            if turned := tick.changes[len(self.changes) :]:
                row["change"] = "; ".join(change["why"] for change in turned)
            self._say(tick, row.get("change", ""))
            self.changes = list(tick.changes)
            self.writer.log(tick.step, row | (tick.evaluation or {}))
        if tick.samples is not None:
            self._picture(tick, held_out)
        if state is not None:
            self.checkpoint(tick, state)
        self.writer.heartbeat(force=tick.ended is not None, **self.beat(tick))

    def _say(self, tick: Tick, change: str) -> None:
        """What a reader of the run's log wants to know of a tick."""
        news = [f"verdict {tick.verdict.kind}"] if tick.verdict.kind != self._verdict else []
        news += [f"changed course: {change}"] if change else []
        if tick.evaluation:
            news.append(", ".join(f"{name} {value:.4g}" for name, value in tick.evaluation.items()))
        self._verdict = tick.verdict.kind
        for said in news:
            self.log.say(f"step {tick.step}: {said}")

    def checkpoint(self, tick: Tick, state: State) -> None:
        """Have `state` written as the checkpoint of this tick."""
        self.writer.checkpoint(tick.step, pack(state), fid=(tick.evaluation or {}).get("fid"))

    def beat(self, tick: Tick) -> dict[str, Any]:
        """What a heartbeat says besides step and metrics."""
        told = {"progress": tick.progress, "verdict": tick.verdict.kind, "seconds": tick.seconds}
        return told | pace_of(tick) | {"figures": self.figures, "changes": self.changes}

    def _picture(self, tick: Tick, held_out: Dataset) -> None:
        assert tick.samples is not None
        real = held_out.fetch(held_out.order(0, 0)[:1000])[self.experiment.gan.imitates]
        image = picture_of(self.experiment.gan, *tick.samples, real)
        meta = {"run": self.writer.run_id, "step": str(tick.step), "seed": str(self.experiment.seed)}
        self.writer.sample(tick.step, encode(image, meta))


def pace_of(tick: Tick) -> dict[str, float]:
    """How fast the run goes, as far as the tick tells."""
    return {name: tick.metrics[name] for name in PACE if name in tick.metrics}

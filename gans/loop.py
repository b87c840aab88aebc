"""A run as a generator of ticks: what it says of itself, how healthy it is, and when it ends.

It knows nothing of any family, of Ray, or of where results go. Whoever consumes the ticks decides what to store,
report, or stop: closing the generator ends the run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from gans.data.base import Batch, Dataset
from gans.family import Family, Networks
from gans.health import HEALTHY, Monitor, Verdict
from gans.options import Train, default_device
from gans.sampling import balanced, draw, real_inputs
from gans.sync import Alone, Sync
from gans.training import State, Training

SAMPLE_SEED = 0x5EED


class Evaluate(Protocol):
    """Scores samples `x` (with the labels asked for, if any) as named figures."""

    num_samples: int

    def __call__(self, x: Tensor, labels: Tensor | None = None) -> dict[str, float]: ...


@dataclass(frozen=True)
class Tick:
    """What a run says of itself at `step` (steps done). `evaluation`, `samples` and `ended` are set when due.

    `checkpoint` says that a checkpoint is due; `state()` makes one and must be called by every rank or by none,
    before the generator is resumed.
    """

    step: int
    images: int
    seconds: float
    progress: float
    metrics: dict[str, float]
    verdict: Verdict
    evaluation: dict[str, float] | None
    samples: tuple[Batch, Batch] | None
    ended: str | None
    checkpoint: bool
    state: Callable[[], State]


def train(
    family: Family,
    dataset: Dataset,
    options: Train,
    *,
    seed: int = 0,
    device: torch.device | None = None,
    sync: Sync | None = None,
    evaluate: Evaluate | None = None,
    monitor: Monitor | None = None,
    conditions: Dataset | None = None,
    resume: State | None = None,
) -> Iterator[Tick]:
    """Train `family` on `dataset` and yield a tick every `options.log_every` steps and at the end.

    `evaluate`, `monitor` are used on rank 0 only. `conditions` is the data whose rows feed the sample grid of a
    family that maps pictures (default: `dataset`). Raises ConfigError where the family cannot train on the data.
    """
    training = Training(family, dataset, options, seed, device or default_device(), sync or Alone())
    if resume is not None:
        training.load(resume)
    reporter = Reporter(training, evaluate, monitor, conditions or dataset)
    if resume is not None:
        reporter.load(resume)
    while True:
        last = training.run_until_tick()
        tick = reporter.tick(last)
        yield tick
        if tick.ended:
            return


class Reporter:
    """Turns the state of a training into ticks, and decides with all ranks when a run has ended."""

    def __init__(
        self, training: Training, evaluate: Evaluate | None, monitor: Monitor | None, conditions: Dataset
    ) -> None:
        self.training, self.evaluate, self.monitor, self.conditions = training, evaluate, monitor, conditions
        self.best: float = math.inf
        self.stale = 0

    def tick(self, images_per_second: float) -> Tick:
        """Measure, judge, agree with the other ranks on whether this is the end, and report."""
        t = self.training
        metrics = self._metrics() | {"images_per_second": images_per_second}
        progress = t.options.progress(t.steps, t.seconds)
        verdict = HEALTHY
        if self.monitor is not None:
            live = self._sampled(self.monitor.num_samples, t.nets) if self.monitor.wants_samples else None
            verdict = self.monitor.observe(t.steps, progress, metrics, live)
            metrics |= verdict.signals
        over = progress >= 1.0
        stopped = verdict.kind == "diverged" or (t.options.stop_unhealthy and not verdict.healthy)
        evaluation = self._evaluation(self._due(t.options.evaluate_every, over or stopped))
        ended = self._agreed(verdict.kind if stopped else "budget" if over else "")
        done = ended is not None
        return Tick(
            step=t.steps,
            images=t.steps * t.options.batch,
            seconds=t.seconds,
            progress=progress,
            metrics=metrics,
            verdict=verdict,
            evaluation=evaluation,
            samples=self._grid() if self._due(t.options.sample_every, done) else None,
            ended=ended,
            checkpoint=self._due(t.options.checkpoint_every, done),
            state=self._state,
        )

    def _due(self, every: int, last: bool) -> bool:
        """Cadences are rounded up to ticks: due when a multiple of `every` lies within the last tick."""
        steps, log = self.training.steps, self.training.options.log_every
        return last or (every > 0 and steps // every > (steps - log) // every)

    def _state(self) -> State:
        state = self.training.state()
        state["best"] = {"fid": self.best, "stale": self.stale}
        if self.monitor is not None:
            state["monitor"] = self.monitor.state()
        return state

    def load(self, state: State) -> None:
        """Take up the best figure so far and the health windows of `state`."""
        self.best, self.stale = state["best"]["fid"], state["best"]["stale"]
        if self.monitor is not None and "monitor" in state:
            self.monitor.load(state["monitor"])

    def _metrics(self) -> dict[str, float]:
        """The last step's reports, averaged over the global batch, in one device-to-host copy."""
        t = self.training
        if not t.reports:  # resumed after its last step
            return {}
        stacked = torch.stack([v.float().reshape(()) for v in t.reports.values()])
        summed = [not k.startswith("grad_") for k in t.reports]
        weights = torch.tensor([t.share if s else 1 / t.sync.world for s in summed], device=stacked.device)
        return dict(zip(t.reports, t.sync.total(stacked * weights).tolist(), strict=True))

    def _sampled(self, num: int, nets: Networks) -> Batch:
        t = self.training
        inputs = real_inputs(t.family, self.conditions, num, t.speed.device)
        return draw(t.family, nets, num, SAMPLE_SEED + t.seed, inputs, t.speed.device)

    def _evaluation(self, due: bool) -> dict[str, float] | None:
        if not due or self.evaluate is None:
            return None
        samples = self._sampled(self.evaluate.num_samples, self.training.sampling_nets())
        figures = self.evaluate(samples["x"], samples.get("label"))
        improved = figures.get("fid", math.inf) < self.best
        self.best = min(self.best, figures.get("fid", math.inf))
        self.stale = 0 if improved else self.stale + 1
        return figures

    def _grid(self) -> tuple[Batch, Batch] | None:
        t = self.training
        if t.sync.rank != 0:
            return None
        num = t.options.sample_grid
        inputs = balanced(t.family, t.spec, num, self.conditions, t.speed.device)
        return inputs, draw(t.family, t.sampling_nets(), num, SAMPLE_SEED + t.seed, inputs, t.speed.device)

    def _agreed(self, reason: str) -> str | None:
        """Why the run ends now, if it does: rank 0's reason, as an index in a table that every rank knows."""
        plateau = self.training.options.plateau
        if not reason and plateau and self.stale >= plateau:
            reason = "plateau"
        table = ("", "budget", "plateau", *Verdict.KINDS)
        return table[self.training.sync.agree(table.index(reason))] or None

"""A run as a generator of ticks: what it says of itself, how healthy it is, and when it ends.

It knows nothing of any family, of Ray, or of where results go. Whoever consumes the ticks decides what to store,
report, or stop: closing the generator ends the run, and a `Change` sent to it changes its course.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from gans.course import Change, Course
from gans.data.base import Batch, Dataset
from gans.family import Family, Networks
from gans.health import HEALTHY, Kind, Monitor, Verdict
from gans.options import Train, default_device
from gans.packing import Pack
from gans.sampling import balanced, draw, own_figures, real_inputs
from gans.sync import Alone, Sync
from gans.training import Pace, State, Training

SAMPLE_SEED = 0x5EED


class Evaluate(Protocol):
    """Scores samples `x` (with the labels asked for, if any) as named figures."""

    num_samples: int

    def __call__(self, x: Tensor, labels: Tensor | None = None) -> dict[str, float]: ...


@dataclass(frozen=True)
class Tick:
    """What a run says of itself at `step` (steps done). `evaluation`, `samples` and `ended` are set when due.

    `remedy` is the change that the run will make of itself before the next step, `changes` are those made so far
    (step, whether a remedy, why, fields). `checkpoint` says that a checkpoint is due; `state()` makes one and must be
    called by every rank or by none, before the generator is resumed.
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
    remedy: Change | None
    changes: tuple[dict[str, Any], ...]
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
    start: State | None = None,
    resume: State | None = None,
    pack: Pack | None = None,
) -> Generator[Tick, Change | None, None]:
    """Train `family` on `dataset` and yield a tick every `options.log_every` steps and at the end.

    A `Change` that is sent instead of `next` (the same on every rank) holds from the next step on.
    `evaluate`, `monitor` are used on rank 0 only. `conditions` is the data whose rows feed the sample grid of a
    family that maps pictures (default: `dataset`). `start` is another run's state whose networks, averages, optimisers
    and memory this one begins with; `resume` is its own, to go on from. With a `pack`, runs of one structure train as
    one model. Raises ConfigError where the family cannot train on the data, or `start` does not fit.
    """
    training = Training(family, dataset, options, seed, device or default_device(), sync or Alone(), start)
    if resume is not None:
        training.load(resume)
    reporter = Reporter(training, evaluate, monitor, conditions or dataset)
    if resume is not None:
        reporter.load(resume)
    with nullcontext() if pack is None else pack.joined(training):
        while True:
            pace = training.run_until_tick()
            tick = reporter.tick(pace)
            asked = yield tick
            if tick.ended:
                return
            change = asked or tick.remedy
            if change is not None:
                training.rewind()
            if asked is not None and asked.end:
                yield reporter.tick(pace, asked.end)
                return
            if change is not None:
                reporter.turn(change, remedy=asked is None)


class Reporter:
    """Turns the state of a training into ticks, and decides with all ranks when a run has ended."""

    def __init__(
        self, training: Training, evaluate: Evaluate | None, monitor: Monitor | None, conditions: Dataset
    ) -> None:
        self.training, self.evaluate, self.monitor, self.conditions = training, evaluate, monitor, conditions
        self.course = Course(training)
        self.ill: Kind = "healthy"
        self.best: float = math.inf
        self.stale = 0

    def tick(self, pace: Pace, end: str = "") -> Tick:
        """Measure, judge, agree with the other ranks on what comes next, and report. `end`: this is the end."""
        t = self.training
        metrics = self._metrics() | pace
        progress = t.progress
        verdict = self._judged(progress, metrics)
        over = bool(end) or progress >= 1.0
        stopped = self._stops(verdict.kind)
        evaluation = self._evaluation(self._due(t.options.evaluate_every, over or stopped))
        ended, ill = self._agreed(
            end or (verdict.kind if stopped else "budget" if over else ""), verdict.kind
        )
        done = ended is not None
        remedy = None if done or ill == "healthy" else self.course.remedy(ill)
        self.ill = "healthy" if remedy is None else ill
        checkpoint = self._due(t.options.checkpoint_every, done)
        if checkpoint and not done and self.course.mends and t.sync.agree(int(self._sound)):
            self.course.keep(t.state())
        return Tick(
            step=t.steps,
            images=t.images,
            seconds=t.seconds,
            progress=progress,
            metrics=metrics | verdict.signals,
            verdict=verdict,
            evaluation=evaluation,
            samples=self._grid() if self._due(t.options.sample_every, done) else None,
            ended=ended,
            remedy=remedy,
            changes=tuple(self.course.changes),
            checkpoint=checkpoint,
            state=self._state,
        )

    def turn(self, change: Change, remedy: bool) -> None:
        """Change course, and judge anew from here on."""
        self.course.turn(change, remedy)
        if self.monitor is not None:
            self.monitor.restart(self.training.progress)

    def _judged(self, progress: float, metrics: dict[str, float]) -> Verdict:
        """Rank 0's verdict, with what this family would try."""
        t = self.training
        if self.monitor is None:
            return HEALTHY
        live = self._sampled(self.monitor.num_samples, t.nets) if self.monitor.wants_samples else None
        verdict = self.monitor.observe(t.steps, progress, metrics, live)
        advice = t.family.remedies(verdict.kind)
        said = ", or ".join(remedy.said(t.family) for remedy in advice[:2])
        return replace(verdict, remedy=said) if said else verdict

    def _stops(self, kind: Kind) -> bool:
        """Whether a verdict of `kind` ends the run: a diverged one has nothing to go on with but a remedy."""
        if self.training.options.on_collapse == "stop":
            return kind != "healthy"
        return kind == "diverged" and not (self.course.mends and self.training.family.remedies(kind))

    @property
    def _sound(self) -> bool:
        return self.monitor is None or self.monitor.sound

    def _due(self, every: int, last: bool) -> bool:
        """Cadences are rounded up to ticks: due when a multiple of `every` lies within the last tick."""
        steps, log = self.training.steps, self.training.options.log_every
        return last or (every > 0 and steps // every > (steps - log) // every)

    def _state(self) -> State:
        state = self.training.state()
        state["best"] = {"fid": self.best, "stale": self.stale}
        state["course"] = self.course.state(bool(self.training.sync.agree(int(self._sound))), self.ill)
        if self.monitor is not None:
            state["monitor"] = self.monitor.state()
        return state

    def load(self, state: State) -> None:
        """Take up the best figure so far, the course and the health windows of `state`."""
        self.course.load(state)
        self.best, self.stale = state["best"]["fid"], state["best"]["stale"]
        if self.monitor is not None and "monitor" in state:
            self.monitor.load(state["monitor"])
        if (change := self.course.remedy(state["course"]["ill"])) is not None:
            self.turn(change, remedy=True)  # the checkpoint was made just before

    def _metrics(self) -> dict[str, float]:
        """The last step's reports, averaged over the global batch, in one device-to-host copy."""
        t = self.training
        if not t.reports:  # resumed after its last step
            return {}
        stacked = torch.stack([v.float().mean() for v in t.reports.values()])
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
        t = self.training
        nets = t.sampling_nets()
        samples = self._sampled(self.evaluate.num_samples, nets)
        figures = self.evaluate(samples["x"], samples.get("label"))
        figures |= own_figures(t.family, nets, SAMPLE_SEED + t.seed, t.speed.device)
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

    def _agreed(self, reason: str, kind: Kind) -> tuple[str | None, Kind]:
        """Why the run ends now, if it does, and the verdict: rank 0's, as an index in a table every rank knows."""
        plateau = self.training.options.plateau
        if not reason and plateau and self.stale >= plateau:
            reason = "plateau"
        reasons = ("", "budget", "plateau", "pruned", *Verdict.KINDS)
        table = [(r, k) for r in reasons for k in Verdict.KINDS]
        agreed, ill = table[self.training.sync.agree(table.index((reason, kind)))]
        return agreed or None, ill

"""The training loop, written once, as a generator of ticks.

It knows phases, optimisers and ranks; it knows nothing of any family, of Ray, or of where results go. Whoever
consumes the ticks decides what to store, report, or stop: closing the generator ends the run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from gans.data.base import Batch, Dataset
from gans.data.loader import Loader, shard
from gans.draws import Draws
from gans.ema import Average
from gans.errors import ConfigError
from gans.family import Family, Networks, Optimiser, Phase, Step
from gans.health import HEALTHY, Monitor, Verdict
from gans.memory import keep_freed_memory
from gans.nn import bind_sync
from gans.options import Speed, Train, default_device
from gans.sampling import balanced, draw, real_inputs
from gans.schedule import at
from gans.sync import Alone, Sync

State = dict[str, Any]
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
        training.load(resume, monitor)
    reporter = Reporter(training, evaluate, monitor, conditions or dataset)
    if resume is not None:
        reporter.best, reporter.stale = resume["best"]["fid"], resume["best"]["stale"]
    while True:
        last = training.run_until_tick()
        tick = reporter.tick(last)
        yield tick
        if tick.ended:
            return


def build(family: Family, dataset: Dataset, seed: int) -> Networks:
    """The family's networks for this data, initialised by `seed` alone. Raises ConfigError."""
    if problems := family.check(dataset.spec):
        raise ConfigError("; ".join(problems))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return family.networks(dataset.spec)


class Training:
    """Networks, optimisers, averages and position of one run on one rank."""

    def __init__(
        self, family: Family, dataset: Dataset, options: Train, seed: int, device: torch.device, sync: Sync
    ) -> None:
        self.family, self.options, self.seed, self.sync = family, options, seed, sync
        self.spec = dataset.spec
        self.speed = Speed.resolve(options, device, dataset.spec, family.imitates)
        if device.type == "cpu":
            keep_freed_memory()
        nets = build(family, dataset, seed)
        self.nets: Networks = {name: self.speed.place(net).train() for name, net in nets.items()}
        bind_sync(self.nets, sync)
        self.averages = {name: Average(self.nets[name]) for name in family.averaged} if options.ema else {}
        self.phases = family.phases()
        self.params = {p.trains: _parameters(self.nets, p.trains) for p in self.phases}
        self.optimisers = {
            p.trains: _optimiser(p.optimiser, self.params[p.trains], self.speed) for p in self.phases
        }
        rank, world = sync.rank, sync.world
        self.loader = Loader(dataset, options.batch, seed, rank, world, device)
        self.draws = Draws(seed, options.batch, device, rank, world)
        rows = shard(options.batch, rank, world)
        self.share = (rows.stop - rows.start) / options.batch
        memory = family.memory(dataset.spec, options.batch)
        self.memory = {k: v[rows].to(device) for k, v in memory.items()}
        self.steps = 0
        self.seconds = 0.0
        self.reports: dict[str, Tensor] = {}
        self.batch: Batch = {}

    def run_until_tick(self) -> float:
        """Run to the next multiple of `log_every` or the end of the budget; returns images per second."""
        begun, first = time.perf_counter(), self.steps
        while True:
            self.run_step(observe=self._tick_follows(self.steps + 1))
            if self._tick_follows(self.steps):
                break
        if self.speed.device.type == "cuda":
            torch.cuda.synchronize(self.speed.device)
        spent = time.perf_counter() - begun
        self.seconds += self.sync.agree(int(spent * 1e6)) / 1e6  # schedules must not differ by rank
        return (self.steps - first) * self.options.batch / max(spent, 1e-9)

    def _tick_follows(self, steps: int) -> bool:
        return steps % self.options.log_every == 0 or steps == self.options.total_steps

    def run_step(self, observe: bool = False) -> None:
        """One step: every due phase in order. `observe` also measures gradient norms."""
        self.draws.restart(self.steps)
        self.reports = {}
        due = [p for p in self.phases if p.due(self.steps)]
        progress = self.options.progress(self.steps, self.seconds)
        step = Step(
            {}, self.draws, self.sync, self.steps, progress, self.memory, autocast=self.speed.autocast
        )
        for i, phase in enumerate(due):
            reusable = self.speed.reuse and any(p.reuses for p in due[i + 1 :])
            for repeat in range(phase.repeats):
                if phase.data == "fresh" or not self.batch:
                    self.batch = self._next_batch()
                step.batch = self.batch
                step.keep = reusable and repeat == phase.repeats - 1
                self._run_phase(phase, step, observe)
        self.steps += 1
        for average in self.averages.values():
            average.update(self.options.batch, self.steps * self.options.batch)

    def _next_batch(self) -> Batch:
        batch = self.loader.next()
        if self.speed.channels_last:
            for k, v in batch.items():
                if v.dim() == 4:
                    batch[k] = v.contiguous(memory_format=torch.channels_last)
        return batch

    def _run_phase(self, phase: Phase, step: Step, observe: bool) -> None:
        with self.speed.float32() if phase.double else self.speed.autocast():
            loss, report = self.family.objective(phase.name, self.nets, step)
        params = self.params[phase.trains]
        gradients = torch.autograd.grad(loss * self.share, params, allow_unused=True)
        present = [g for g in gradients if g is not None]
        self.sync.sum_gradients(present)
        if observe:
            report = {**report, f"grad_{phase.name}": torch.stack(torch._foreach_norm(present)).norm()}
        self.reports.update(report)
        optimiser = self.optimisers[phase.trains]
        _set_hyperparameters(optimiser, phase.optimiser, step.progress)
        for p, g in zip(params, gradients, strict=True):
            p.grad = g
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        self.family.after(phase.name, self.nets)

    def sampling_nets(self) -> Networks:
        """The networks to sample from: averages where there are any."""
        return {
            name: self.averages[name].network if name in self.averages else n for name, n in self.nets.items()
        }

    def state(self) -> State:
        """Everything a faithful resume needs. A collective call where the family keeps memory."""
        return {
            "networks": {name: net.state_dict() for name, net in self.nets.items()},
            "averages": {name: a.network.state_dict() for name, a in self.averages.items()},
            "optimisers": {"+".join(k): o.state_dict() for k, o in self.optimisers.items()},
            "memory": {k: self.sync.gather_rows(v) for k, v in self.memory.items()},
            "position": {"step": self.steps, "cursor": self.loader.cursor, "seconds": self.seconds},
            "batch": {k: self.sync.gather_rows(v) for k, v in self.batch.items()},
        }

    def load(self, state: State, monitor: Monitor | None) -> None:
        """Take up `state` at any world size."""
        for name, net in self.nets.items():
            net.load_state_dict(state["networks"][name])
        for name, average in self.averages.items():
            average.network.load_state_dict(state["averages"][name])
        for key, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"]["+".join(key)])
        rows = shard(self.options.batch, self.sync.rank, self.sync.world)
        self.memory = {k: v[rows].to(self.speed.device) for k, v in state["memory"].items()}
        self.batch = {k: v[rows].to(self.speed.device) for k, v in state["batch"].items()}
        position = state["position"]
        self.steps, self.seconds = position["step"], position["seconds"]
        self.loader.cursor = position["cursor"]
        if monitor is not None and "monitor" in state:
            monitor.load(state["monitor"])


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

    def _metrics(self) -> dict[str, float]:
        """The last step's reports, averaged over the global batch, in one device-to-host copy."""
        t = self.training
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


def _parameters(nets: Networks, names: tuple[str, ...]) -> list[nn.Parameter]:
    return [p for name in names for p in nets[name].parameters()]


def _optimiser(spec: Optimiser, params: list[nn.Parameter], speed: Speed) -> torch.optim.Optimizer:
    lr = at(spec.lr, 0.0)
    if spec.kind == "rmsprop":
        return torch.optim.RMSprop(params, lr=lr)
    betas = (at(spec.betas[0], 0.0), at(spec.betas[1], 0.0))
    return torch.optim.Adam(params, lr=lr, betas=betas, fused=speed.fused)


def _set_hyperparameters(optimiser: torch.optim.Optimizer, spec: Optimiser, progress: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = at(spec.lr, progress)
        if "betas" in group:
            group["betas"] = (at(spec.betas[0], progress), at(spec.betas[1], progress))

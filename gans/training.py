"""One run on one rank: networks, optimisers, averages, and the step that is written once for every family.

It knows phases, optimisers and ranks, and nothing of ticks, verdicts or figures.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor, nn

from gans.data.base import Batch, Dataset
from gans.data.loader import Loader, shard
from gans.draws import Draws
from gans.ema import Average
from gans.errors import ConfigError
from gans.family import Family, Networks, Optimiser, Phase, Step
from gans.memory import keep_freed_memory
from gans.nn import bind_sync
from gans.options import Speed, Train
from gans.schedule import at
from gans.sync import Sync

State = dict[str, Any]


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
        if device.type == "cpu":
            keep_freed_memory()
        nets = build(family, dataset, seed)
        self.speed = Speed.resolve(options, device, dataset.spec.fields[family.imitates], nets)
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
        while self.options.progress(self.steps, self.seconds) < 1.0:
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

    def load(self, state: State) -> None:
        """Take up `state`, which stays the caller's, at any world size."""
        for name, net in self.nets.items():
            net.load_state_dict(state["networks"][name])
        for name, average in self.averages.items():
            average.network.load_state_dict(state["averages"][name])
        for key, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"]["+".join(key)])
        rows = shard(self.options.batch, self.sync.rank, self.sync.world)
        self.memory = {k: v[rows].to(self.speed.device, copy=True) for k, v in state["memory"].items()}
        self.batch = {k: v[rows].to(self.speed.device) for k, v in state["batch"].items()}
        position = state["position"]
        self.steps, self.seconds = position["step"], position["seconds"]
        self.loader.cursor = position["cursor"]


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

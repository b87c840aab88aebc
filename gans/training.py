"""One run on one rank: networks, optimisers, averages, and the step that is written once for every family.

It knows phases, optimisers and ranks, and nothing of ticks, verdicts or figures.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from gans import optimise
from gans.data.base import Batch, Dataset
from gans.data.loader import Loader, cut, shards
from gans.draws import Draws
from gans.ema import Average
from gans.errors import ConfigError
from gans.family import Family, Networks, Phase, Step
from gans.memory import keep_freed_memory
from gans.nn import bind_sync
from gans.options import Speed, Train
from gans.sync import Gradients, Sync, summed

State = dict[str, Any]
Pace = dict[str, float]
PACE = ("images_per_second", "data_wait", "sync_wait", "cpu_use", "gpu_memory")
"""Metrics of how fast a run goes, which no two runs share: images a second; the shares of the time in which this
rank waits for data, and for other ranks; cores in use; the most bytes held on a GPU."""


def build(family: Family, dataset: Dataset, seed: int) -> Networks:
    """The family's networks for this data, initialised by `seed` alone. Raises ConfigError."""
    if problems := family.check(dataset.spec):
        raise ConfigError("; ".join(problems))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return family.built(dataset.spec)


class Company(Protocol):
    """Others that a training runs with."""

    def run(self, training: Training) -> Pace:
        """Bring `training` to its next tick; returns how fast it went."""
        ...

    def rewind(self, training: Training) -> None:
        """Take `training` back to the last tick asked for."""
        ...


class Player(Protocol):
    """What runs the phases of a step: a training, or several as one."""

    @property
    def reuses(self) -> bool: ...

    def batch_for(self, phase: Phase) -> Batch: ...

    def run_phase(self, phase: Phase, step: Step, observe: bool) -> None: ...


def run_phases(player: Player, due: Sequence[Phase], step: Step, observe: bool) -> None:
    """The due phases of a step, in order."""
    for i, phase in enumerate(due):
        reusable = player.reuses and any(p.reuses for p in due[i + 1 :])
        for repeat in range(phase.repeats):
            step.batch = player.batch_for(phase)
            step.keep = reusable and repeat == phase.repeats - 1
            player.run_phase(phase, step, observe)


class Training:
    """Networks, optimisers, averages and position of one run on one rank."""

    def __init__(
        self,
        family: Family,
        dataset: Dataset,
        options: Train,
        seed: int,
        device: torch.device,
        sync: Sync,
        start: State | None = None,
    ) -> None:
        self.family, self.options, self.seed, self.sync, self.start = family, options, seed, sync, start
        self.spec = dataset.spec
        if device.type == "cpu":
            keep_freed_memory()
        nets = build(family, dataset, seed)
        self.speed = Speed.resolve(options, device, dataset.spec.fields[family.imitates], nets)
        self.nets: Networks = {name: self.speed.place(net).train() for name, net in nets.items()}
        self.averages = {name: Average(self.nets[name]) for name in family.averaged} if options.ema else {}
        bind_sync(self.nets, sync)  # not those of the averages, which would copy it
        self.phases = family.phases()
        self.params = {p.trains: _parameters(self.nets, p.trains) for p in self.phases}
        self.optimisers = {
            p.trains: optimise.made(p.optimiser, self.params[p.trains], self.speed.fused) for p in self.phases
        }
        self._deal(dataset, family.rows(0.0, options.batch, dataset.spec))
        memory = family.memory(dataset.spec, options.batch)
        self.memory = {k: cut(v, self._rows).to(device) for k, v in memory.items()}
        self.steps = self.images = 0
        self.seconds = 0.0
        self.reports: dict[str, Tensor] = {}  # scalars, or one value a row of this rank
        self.batch: Batch = {}
        self.pack: Company | None = None
        self._fetched = 0.0  # seconds waited for data
        if start is not None:
            self._begin_with(start)

    def _deal(self, dataset: Dataset, rows: int, cursor: int = 0) -> None:
        """Deal out global batches of `rows` rows to the ranks, from place `cursor` of the data on."""
        device, unit, pieces = self.speed.device, self.family.unit, self.options.accumulate
        ranks = self.sync.rank, self.sync.world
        self.rows = rows
        self.loader = Loader(dataset, rows, self.seed, *ranks, device, pieces, unit)
        self.loader.cursor = cursor
        self.draws = Draws(self.seed, rows, device, *ranks, pieces, unit)
        self._rows = shards(rows, *ranks, pieces, unit)
        self.share = sum(piece.stop - piece.start for piece in self._rows) / rows

    def _resize(self, rows: int) -> None:
        """Go on with global batches of `rows` rows. A family that keeps memory of rows has one size."""
        if rows != self.rows:
            assert not self.memory
            self.loader.close()
            self._deal(self.loader.dataset, rows, self.loader.cursor)
            self.batch = {}

    def run_until_tick(self) -> Pace:
        """Run to the next multiple of `log_every` or the end of the budget; returns how fast that went."""
        return self.run_alone() if self.pack is None else self.pack.run(self)

    def rewind(self) -> None:
        """Go back to the last tick asked for, if the company went further than that."""
        if self.pack is not None:
            self.pack.rewind(self)

    def run_alone(self) -> Pace:
        """`run_until_tick` without the company of a pack."""
        num = self.steps_to_tick
        begun, fetched, waited, used = self._clocks()
        seen = self.images
        for i in range(num):
            self.run_step(observe=i == num - 1)
        if self.speed.device.type == "cuda":
            torch.cuda.synchronize(self.speed.device)
        spent, fetched, waited, used = (
            b - a for a, b in zip((begun, fetched, waited, used), self._clocks(), strict=True)
        )
        self.seconds += self.sync.agree(int(spent * 1e6)) / 1e6  # schedules must not differ by rank
        spent = max(spent, 1e-9)
        pace = {
            "images_per_second": (self.images - seen) / spent,
            "data_wait": fetched / spent,
            "sync_wait": waited / spent,
            "cpu_use": used / spent,
        }
        if self.speed.device.type == "cuda":
            pace["gpu_memory"] = float(torch.cuda.max_memory_allocated(self.speed.device))
        return pace

    def _clocks(self) -> tuple[float, float, float, float]:
        """Seconds so far: on the wall, waiting for data, waiting for other ranks, on this process's cores."""
        return time.perf_counter(), self._fetched, self.sync.waited, time.process_time()

    @property
    def reuses(self) -> bool:
        """Whether a phase may keep what it generated for a later one. Of micro-batches only the last would be left."""
        return self.speed.reuse and self.options.accumulate == 1

    @property
    def progress(self) -> float:
        """Share of the budget used."""
        return self.options.progress(self.steps, self.images, self.seconds)

    @property
    def steps_to_tick(self) -> int:
        """Steps to the next multiple of `log_every` or the end of the budget."""
        if self.progress >= 1.0:
            return 0
        num = self.options.log_every - self.steps % self.options.log_every
        left = self.options.steps_left(self.steps, self.images, self.rows)
        return num if left is None else min(num, left)

    def run_step(self, observe: bool = False) -> None:
        """One step: every due phase in order. `observe` also measures gradient norms."""
        self._resize(self.family.rows(self.progress, self.options.batch, self.spec))
        self.draws.restart(self.steps)
        self.reports = {}
        due = [p for p in self.phases if p.due(self.steps)]
        step = Step(
            {}, self.draws, self.sync, self.steps, self.progress, self.memory, autocast=self.speed.autocast
        )
        run_phases(self, due, step, observe)
        self.end_step()

    def end_step(self) -> None:
        """Count the step and let the averages follow."""
        self.steps += 1
        self.images += self.rows
        for average in self.averages.values():
            average.update(self.rows, self.images)

    def batch_for(self, phase: Phase) -> Batch:
        """This rank's rows of the batch that `phase` looks at: a fresh one, or the one before."""
        if phase.data == "fresh" or not self.batch:
            begun = time.perf_counter()
            self.batch = self.loader.next()
            self._fetched += time.perf_counter() - begun
            if self.speed.channels_last:
                for k, v in self.batch.items():
                    if v.dim() == 4:
                        self.batch[k] = v.contiguous(memory_format=torch.channels_last)
        return self.batch

    def run_phase(self, phase: Phase, step: Step, observe: bool) -> None:
        """One update of the networks that `phase` trains."""
        gradients, report = self._gradients(phase, step)
        self.reports.update(report)
        if observe:
            present = [g for g in gradients if g is not None]
            self.reports[f"grad_{phase.name}"] = torch.stack(torch._foreach_norm(present)).norm()
        self.update(phase, gradients, step)

    def _gradients(self, phase: Phase, step: Step) -> tuple[Gradients, dict[str, Tensor]]:
        """Those of the global batch, computed piece by piece, and what the family reports of this rank's rows."""
        params, reports, before = self.params[phase.trains], [], None
        num = self.options.accumulate
        for i, piece in enumerate(step.pieces() if num > 1 else (step,), 1):
            with self.speed.float32() if phase.double else self.speed.autocast():
                loss, report = self.family.objective(phase.name, self.nets, piece)
            loss = loss * (self.share * piece.share)
            reports.append((report, piece.share))
            if i < num:
                before = summed(torch.autograd.grad(loss, params, allow_unused=True), before)
        return self.sync.gradients(loss, params, before), _merged(reports)

    def update(self, phase: Phase, gradients: Sequence[Tensor | None], step: Step) -> None:
        """Step the optimiser of `phase` by the gradients of the parameters that it trains."""
        optimiser = self.optimisers[phase.trains]
        optimise.follow(optimiser, phase.optimiser, step.progress)
        optimise.step(optimiser, self.params[phase.trains], gradients)
        self.family.after(phase.name, self.nets, step)

    def sampling_nets(self) -> Networks:
        """The networks to sample from: averages where there are any."""
        return {
            name: self.averages[name].network if name in self.averages else n for name, n in self.nets.items()
        }

    def state(self) -> State:
        """Everything a faithful resume needs. A collective call where the family keeps memory."""
        self.rewind()
        return {
            "networks": {name: _owned(net.state_dict()) for name, net in self.nets.items()},
            "averages": {name: a.network.state_dict() for name, a in self.averages.items()},
            "optimisers": {"+".join(k): o.state_dict() for k, o in self.optimisers.items()},
            "memory": {k: self._gathered(v) for k, v in self.memory.items()},
            "position": {
                "step": self.steps,
                "images": self.images,
                "rows": self.rows,
                "cursor": self.loader.cursor,
                "seconds": self.seconds,
            },
            "batch": {k: self._gathered(v) for k, v in self.batch.items()},
        }

    def initial(self) -> State:
        """The state this run began with, made anew. A collective call where the family keeps memory."""
        fresh = Training(
            self.family,
            self.loader.dataset,
            self.options,
            self.seed,
            self.speed.device,
            self.sync,
            self.start,
        )
        return fresh.state()

    def load(self, state: State) -> None:
        """Take up `state`, which stays the caller's, at any world size."""
        self._load_weights(state)
        position = state["position"]
        self._resize(position["rows"])
        self.batch = {k: cut(v, self._rows).to(self.speed.device) for k, v in state["batch"].items()}
        self.steps, self.images, self.seconds = position["step"], position["images"], position["seconds"]
        self.loader.cursor = position["cursor"]

    def turn(self, family: Family | None, weights: State | None) -> None:
        """Go on as `family`, with the same networks, and from `weights`, if given. The position stays."""
        if family is not None:
            phases = family.phases()
            assert {p.trains for p in phases} == self.optimisers.keys()
            self.family, self.phases = family, phases
        if weights is not None:
            self._load_weights(weights)

    def _begin_with(self, start: State) -> None:
        """Take up the weights of another run. Raises ConfigError where they are of another shape."""
        try:
            self._load_weights(start)
        except (KeyError, RuntimeError, ValueError) as error:
            said = " ".join(str(error).split())[:300]
            raise ConfigError(
                f"field `start`: these weights do not fit {type(self.family).__name__} with this config and data: "
                f"{said}"
            ) from error

    def _load_weights(self, state: State) -> None:
        for name, net in self.nets.items():
            net.load_state_dict(state["networks"][name])
        for name, average in self.averages.items():
            average.network.load_state_dict(state["averages"][name])
        for key, optimiser in self.optimisers.items():
            # torch takes over the tensors it is given, and would step them
            optimiser.load_state_dict(copy.deepcopy(state["optimisers"]["+".join(key)]))
        self.memory = {
            k: cut(v, self._rows).to(self.speed.device, copy=True) for k, v in state["memory"].items()
        }

    def _gathered(self, rows: Tensor) -> Tensor:
        """All ranks' rows, in the order of the global batch."""
        found, pieces = self.sync.gather_rows(rows), self.options.accumulate
        if pieces == 1:
            return found
        every, unit, world = torch.arange(len(found), device=found.device), self.family.unit, self.sync.world
        held = [cut(every, shards(len(every), r, world, pieces, unit)) for r in range(world)]
        return torch.empty_like(found).index_copy_(0, torch.cat(held), found)


def _owned(tensors: State) -> State:
    """The tensors themselves, and copies of those that are pieces of larger ones, as in a pack."""
    return {k: t.clone() if t.nbytes < t.untyped_storage().nbytes() else t for k, t in tensors.items()}


def _merged(reports: list[tuple[dict[str, Tensor], float]]) -> dict[str, Tensor]:
    """The reports of all pieces, each with its share of the rows, as one: values a row are strung together."""
    if len(reports) == 1:
        return reports[0][0]
    return {
        name: torch.cat([report[name] for report, _ in reports])
        if value.dim()
        else torch.stack([report[name] * share for report, share in reports]).sum()
        for name, value in reports[0][0].items()
    }


def _parameters(nets: Networks, names: tuple[str, ...]) -> list[nn.Parameter]:
    return [p for name in names for p in nets[name].parameters()]

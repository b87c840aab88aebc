"""Trainings of one structure as one model: the rows of all in one pass, each one's gradient to its own optimisers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gans.adversarial import Adversarial
from gans.data.base import Batch
from gans.draws import Draws
from gans.family import Family, Phase, Step
from gans.losses import joined, named
from gans.packed_layers import stacked
from gans.schedule import Cosine, at
from gans.sync import Alone
from gans.training import Pace, Training, run_phases


class Group:
    """Trainings of one structure as one model whose rows are theirs, one member after another."""

    def __init__(self, members: tuple[Training, ...]) -> None:
        first = members[0]
        self.members, self.speed, self.rows = members, first.speed, first.options.batch
        self.reuses = first.reuses
        self.nets = {name: stacked([m.nets[name] for m in members], self.rows) for name in first.nets}
        self.params = {
            trains: [p for name in trains for p in self.nets[name].parameters()] for trains in first.params
        }
        self._family: tuple[Any, Family] | None = None
        self._progress: list[float] = []
        self._batches: list[Batch] = []
        self._batch: Batch = {}

    def run(self, steps: int) -> Pace:
        """Run `steps` steps; returns how fast that was, by a member's share of the time."""
        begun, used = time.perf_counter(), time.process_time()
        for i in range(steps):
            self._run_step(observe=i == steps - 1)
        if self.speed.device.type == "cuda":
            torch.cuda.synchronize(self.speed.device)
        spent = max(time.perf_counter() - begun, 1e-9)
        share = int(spent * 1e6 / len(self.members)) / 1e6
        for member in self.members:
            member.seconds += share
        cores = (time.process_time() - used) / spent
        return {"images_per_second": steps * self.rows / max(share, 1e-9), "cpu_use": cores}

    def _run_step(self, observe: bool) -> None:
        first = self.members[0]
        for member in self.members:
            member.draws.restart(member.steps)
            member.reports = {}
        self._progress = [member.progress for member in self.members]
        step = Step(
            {}, Together(self.members), Alone(), first.steps, first.progress, autocast=self.speed.autocast
        )
        run_phases(self, [p for p in first.phases if p.due(first.steps)], step, observe)
        for member in self.members:
            member.end_step()

    def batch_for(self, phase: Phase) -> Batch:
        """The members' batches, one after another."""
        batches = [member.batch_for(phase) for member in self.members]
        if not self._batches or any(a is not b for a, b in zip(batches, self._batches, strict=True)):
            self._batch = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
            self._batches = batches
        return self._batch

    def run_phase(self, phase: Phase, step: Step, observe: bool) -> None:
        """One update of every member."""
        params = self.params[phase.trains]
        with self._fixed(phase.trains if not step.keep else tuple(self.nets)):
            with self.speed.float32() if phase.double else self.speed.autocast():
                loss, report = self._joined().objective(phase.name, self.nets, step)
            # The mean over all rows, times the number of members: each one's gradient is that of its own mean.
            gradients = torch.autograd.grad(loss * len(self.members), params, allow_unused=True)
        if observe:
            self._report(phase, report, [g for g in gradients if g is not None])
        pieces = [[None] * len(self.members) if g is None else g.unbind() for g in gradients]
        for member, progress, *mine in zip(self.members, self._progress, *pieces, strict=True):
            own = next(p for p in member.phases if p.name == phase.name)
            member.update(own, mine, replace(step, progress=progress))

    @contextmanager
    def _fixed(self, trains: tuple[str, ...]) -> Iterator[None]:
        """Networks other than `trains` have no gradient: packed layers would compute it, whether asked for or not."""
        fixed = [net for name, net in self.nets.items() if name not in trains]
        for net in fixed:
            net.requires_grad_(False)
        try:
            yield
        finally:
            for net in fixed:
                net.requires_grad_(True)

    def _report(self, phase: Phase, report: dict[str, Tensor], gradients: Sequence[Tensor]) -> None:
        """Deal out the reports, one value a row, and the gradients' norms."""
        num = len(self.members)
        means = {name: rows.float().view(num, -1).mean(1) for name, rows in report.items()}
        squares = [g.float().flatten(1).square().sum(1) for g in gradients]
        means[f"grad_{phase.name}"] = torch.stack(squares).sum(0).sqrt()
        for name, values in means.items():
            for member, value in zip(self.members, values.unbind(), strict=True):
                member.reports[name] = value

    def _joined(self) -> Family:
        """The family with the members' scalars at their own progress: one value a row where they differ."""
        families = [m.family for m in self.members]
        values: dict[str, Any] = {}
        for name in sorted(families[0].scalars):
            own = [getattr(f, name) for f in families]
            if all(isinstance(v, float | int | Cosine) for v in own):
                values[name] = tuple(at(v, p) for v, p in zip(own, self._progress, strict=True))
        if isinstance(families[0], Adversarial):
            values["loss"] = tuple(f.loss for f in families)  # type: ignore[attr-defined]
        if self._family is None or self._family[0] != values:
            changes = {name: self._scalar(name, of) for name, of in values.items()}
            self._family = values, families[0].model_copy(update=changes)
        return self._family[1]

    def _scalar(self, name: str, values: tuple[Any, ...]) -> Any:
        if len(set(values)) == 1:
            return values[0]
        if name == "loss":
            return joined([named(loss) for loss in values], self.rows)
        return torch.tensor(values, device=self.speed.device).repeat_interleave(self.rows)


class Together(Draws):
    """The members' draws, one after another."""

    def __init__(self, members: Sequence[Training]) -> None:
        self._draws = [member.draws for member in members]

    def normal(self, *shape: int) -> Tensor:
        return torch.cat([d.normal(*shape) for d in self._draws])

    def uniform(self, *shape: int) -> Tensor:
        return torch.cat([d.uniform(*shape) for d in self._draws])

    def integers(self, high: int, *shape: int) -> Tensor:
        return torch.cat([d.integers(high, *shape) for d in self._draws])

"""Several small trainings of one structure as one batched computation, on one device.

Members of a `Pack` are ordinary trainings with weights, optimisers, data order, verdict and end of their own. Where
their structure is the same, one pass over all their rows replaces one pass each: their weights are stacked
(gans/packed_layers.py), the family's objective is computed once on the rows of all, row by row, and its gradient by
the stacks is dealt out to the members' optimisers. What cannot be packed trains by itself, and `Pack.reasons` says
why.

A member that asks for its next tick takes all that could go along with it to theirs. Those have gone ahead of what
they were asked for: should one change course at the tick that it last gave, it is taken back to it first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gans.adversarial import Adversarial
from gans.data.base import Batch
from gans.family import Optimiser
from gans.losses import named
from gans.packed_group import Group
from gans.packed_layers import freed, obstacle
from gans.training import Pace, Training


class Pack:
    """Trainings that go along with one another where they can.

    They may begin and end at any time, and be consumed in any order; fastest in turns, each tick being done with
    (its `state()` taken) before the next member is resumed. The device's time is charged to members in equal shares.
    """

    def __init__(self) -> None:
        self._members: dict[Training, str] = {}
        self._ahead: dict[Training, tuple[Pace, Snapshot]] = {}
        self._groups: dict[Training, Group] = {}

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why some of the members train by themselves."""
        return tuple(dict.fromkeys(filter(None, self._members.values())))

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many members each packed model has at present."""
        return tuple(len(group.members) for group in dict.fromkeys(self._groups.values()))

    @contextmanager
    def joined(self, training: Training) -> Iterator[None]:
        """`training` is a member within this context."""
        self._members[training] = why_not(training)
        training.pack = self
        try:
            yield
        finally:
            training.pack = None
            del self._members[training]
            self._ahead.pop(training, None)
            self._part(training)

    def run(self, training: Training) -> Pace:
        """Bring `training` to its next tick, and others along with it; returns how fast it went."""
        if training in self._ahead:
            return self._ahead.pop(training)[0]
        company = self._company(training)
        if len(company) == 1:
            return training.run_alone()
        group = self._groups.get(training)
        if group is None or group.members != company:
            group = self._regroup(company)
        before = [Snapshot.of(member) for member in company]
        try:
            pace = group.run(training.steps_to_tick)
        except BaseException:
            for member, snapshot in zip(company, before, strict=True):
                snapshot.restore(member)
            raise
        for member, snapshot in zip(company, before, strict=True):
            self._ahead[member] = (pace, snapshot)
        return self._ahead.pop(training)[0]

    def rewind(self, training: Training) -> None:
        """Take `training` back to the tick that it last gave, if others have taken it further."""
        if training in self._ahead:
            self._ahead.pop(training)[1].restore(training)

    def _company(self, training: Training) -> tuple[Training, ...]:
        """Those that can go to their next tick together with `training`, itself included, in the order they came."""
        if self._members[training] or not training.steps_to_tick:
            return (training,)
        like = structure(training)
        return tuple(
            other
            for other, reason in self._members.items()
            if not reason and other not in self._ahead and structure(other) == like
        )

    def _regroup(self, company: tuple[Training, ...]) -> Group:
        for member in company:
            self._part(member)
        group = Group(company)
        self._groups.update(dict.fromkeys(company, group))
        return group

    def _part(self, training: Training) -> None:
        """Dissolve the group that `training` is in."""
        group = self._groups.get(training)
        if group is not None:
            for member in group.members:
                del self._groups[member]
                for net in member.nets.values():
                    freed(net)


def why_not(training: Training) -> str:
    """Why `training` cannot be packed, empty where it can."""
    family = type(training.family).__name__
    if training.sync.world > 1:
        return "a data-parallel training is not packed"
    if training.speed.compile:
        return "compiled networks are not packed: set train.compile=false"
    if training.options.accumulate > 1:
        return "micro-batches are not packed: set train.accumulate=1"
    if training.memory:
        return f"{family} keeps a memory of rows"
    if not training.family.row_wise:
        return f"{family} does not say that its objective treats rows apart (row_wise)"
    if training.family.coupled:
        return f"{family} couples rows by its present options"
    for name, net in training.nets.items():
        if why := obstacle(net):
            return f"the {name} of {family} is not packed: {why}"
    if training.speed.bf16:
        return "bf16 rounds otherwise in a pack than alone: set train.precision=fp32"
    return ""


def structure(training: Training) -> str:
    """What trainings must have in common to go to their next tick as one."""
    t, family = training, training.family
    free = set(family.scalars) | ({"loss"} if isinstance(family, Adversarial) else set())
    # The Wasserstein estimate is a figure that other losses do not report.
    paired = (
        (named(family.loss).paired, family.loss == "wasserstein") if isinstance(family, Adversarial) else None
    )
    phases = [replace(p, optimiser=Optimiser(0.0, kind=p.optimiser.kind)) for p in t.phases]
    due = [[p.due(step) for p in t.phases] for step in range(t.steps, t.steps + t.steps_to_tick)]
    fields = family.model_dump_json(exclude=free)
    return repr(
        (type(family), fields, paired, phases, due, t.spec.fields, t.options.batch, t.options.ema, t.speed)
    )


@dataclass(frozen=True)
class Snapshot:
    """A training at a tick, kept on its device."""

    tensors: list[Tensor]
    optimisers: dict[tuple[str, ...], dict[Any, dict[str, Any]]]
    steps: int
    images: int
    seconds: float
    cursor: int
    batch: Batch
    reports: dict[str, Tensor]

    @classmethod
    def of(cls, t: Training) -> Snapshot:
        """`t` as it is."""
        moments = {
            key: {p: {k: _kept(v) for k, v in state.items()} for p, state in optimiser.state.items()}
            for key, optimiser in t.optimisers.items()
        }
        tensors = [tensor.detach().clone() for tensor in _tensors(t)]
        return cls(tensors, moments, t.steps, t.images, t.seconds, t.loader.cursor, t.batch, t.reports)

    def restore(self, t: Training) -> None:
        """Take `t` back to it."""
        with torch.no_grad():
            for tensor, kept in zip(_tensors(t), self.tensors, strict=True):
                tensor.copy_(kept)
        for key, optimiser in t.optimisers.items():
            optimiser.state.clear()
            optimiser.state.update(self.optimisers[key])
        t.steps, t.images, t.seconds = self.steps, self.images, self.seconds
        t.loader.cursor = self.cursor
        t.batch, t.reports = self.batch, self.reports


def _tensors(t: Training) -> list[Tensor]:
    nets = [*t.nets.values(), *(average.network for average in t.averages.values())]
    return [tensor for net in nets for tensor in (*net.parameters(), *net.buffers())]


def _kept(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value

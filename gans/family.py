"""What a GAN family is: a frozen config that knows its networks, its phases, and the loss of a phase.

The training loop is written once and knows only this. A family is one file that can be held beside its paper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from gans.config import Config
from gans.data.base import Batch, DataSpec
from gans.draws import Draws
from gans.errors import ConfigError
from gans.remedies import Remedy
from gans.schedule import Schedule, powered, scaled
from gans.sync import Sync

Networks = dict[str, nn.Module]
Terms = tuple[Tensor, dict[str, Tensor]]


@dataclass(frozen=True)
class Optimiser:
    """Hyperparameters of one player's optimiser; schedules are read at every step."""

    lr: Schedule
    betas: tuple[Schedule, Schedule] = (0.0, 0.9)
    kind: Literal["adam", "rmsprop"] = "adam"

    def lazy(self, every: int) -> Optimiser:
        """The same for a player that has a lazy phase each `every` steps: lr * c and betas^c, c = i / (i + 1).

        Karras et al. 2020 (StyleGAN2), appendix B. The lazy phase's loss is to be multiplied by `every`.
        """
        c = every / (every + 1)
        return replace(
            self, lr=scaled(self.lr, c), betas=(powered(self.betas[0], c), powered(self.betas[1], c))
        )


@dataclass(frozen=True)
class Phase:
    """One kind of update within a step.

    Phases with equal `trains` share one optimiser. `every` makes a phase lazy, `repeats` makes it run k times a
    step, `start` is its first step (a critic warm-up is a generator phase that starts late), `stop` the first step
    that it no longer runs in (a pre-training is a phase that stops). `data` says whether each run of the phase takes
    a fresh real batch or the one before it. `double` marks a phase that is differentiated twice and therefore runs in
    float32. `reuses` allows the phase to take over the rows that an earlier phase of the step generated
    (`Step.detached`), saving one generator forward.
    """

    name: str
    trains: tuple[str, ...]
    optimiser: Optimiser
    every: int = 1
    repeats: int = 1
    start: int = 0
    stop: int | None = None
    data: Literal["fresh", "same"] = "fresh"
    double: bool = False
    reuses: bool = False

    def due(self, step: int) -> bool:
        """Whether the phase runs in `step` (counted from 0)."""
        over = self.stop is not None and step >= self.stop
        return step >= self.start and not over and step % self.every == 0


@dataclass
class Step:
    """What the loss of a phase may look at: this rank's rows of the batch, seeded draws, progress, memory."""

    batch: Batch
    draws: Draws
    sync: Sync
    step: int = 0
    progress: float = 0.0
    memory: dict[str, Tensor] = field(default_factory=dict)
    keep: bool = False
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext
    share: float = 1.0
    _kept: dict[str, Tensor] = field(default_factory=dict)

    def pieces(self) -> Iterator[Step]:
        """Each micro-batch of this rank's rows: its rows of batch, draws and memory, and its `share` of the rows.

        They are to be used one after another.
        """
        for rows, draws in self.draws.pieces():
            batch = {name: values[rows] for name, values in self.batch.items()}
            memory = {name: values[rows] for name, values in self.memory.items()}
            share = (rows.stop - rows.start) / max(map(len, self.batch.values()))
            yield replace(self, batch=batch, draws=draws, memory=memory, share=share, keep=False)

    def detached(self, key: str, make: Callable[[], Tensor]) -> Tensor:
        """Generated rows without their graph; where the loop allows it the graph is kept for `attached`."""
        with self.autocast(), torch.set_grad_enabled(self.keep):
            rows = make()
        if self.keep:
            self._kept[key] = rows
        return rows.detach()

    def attached(self, key: str, make: Callable[[], Tensor]) -> Tensor:
        """Generated rows with their graph: the forward pass kept by `detached`, if there is one."""
        kept = self._kept.pop(key, None)
        return make() if kept is None else kept


class Family(Config):
    """Base of every family. Fields of a subclass are its hyperparameters, with the paper's defaults.

    `imitates`: the data field whose distribution the samples' `x` should match. `scalars`: fields that shape neither
    networks nor phases, so that they may change while training goes on; in a pack `objective` meets them as tensors of
    one value a row where members differ. `row_wise`: it treats rows apart. `folder`: the kind of data that a person's
    own folder of pictures is to it.
    """

    imitates: ClassVar[str] = "x"
    folder: ClassVar[str] = "images"
    scalars: ClassVar[frozenset[str]] = frozenset()
    row_wise: ClassVar[bool] = False

    @property
    def inputs(self) -> tuple[str, ...]:
        """The batch fields `sample` needs (none for an unconditional generator). A subclass may name a constant."""
        return ()

    @property
    def averaged(self) -> tuple[str, ...]:
        """The networks with a moving average, used to sample. A subclass may name a constant."""
        return ("generator",)

    @property
    def coupled(self) -> bool:
        """Whether the present values couple rows of a family that otherwise is `row_wise`."""
        return self.unit > 1

    @property
    def unit(self) -> int:
        """Rows that are judged together: so many consecutive rows of the global batch, whose size is a multiple of
        it, are never split over ranks or micro-batches."""
        return 1

    def rows(self, progress: float, batch: int, spec: DataSpec) -> int:
        """Rows of the global batch of a step at `progress` in [0, 1] of the budget: all `batch`, or fewer."""
        return batch

    def check(self, spec: DataSpec) -> list[str]:
        """Every reason, one line each, why this family cannot train on such data."""
        return []

    def networks(self, spec: DataSpec) -> Networks:
        """Freshly initialised networks by name (global RNG: the loop seeds it)."""
        raise NotImplementedError

    def built(self, spec: DataSpec) -> Networks:
        """The networks as they train and sample: those of `networks`, with what options add to them."""
        return self.networks(spec)

    def phases(self) -> tuple[Phase, ...]:
        """The phases of a step, in order."""
        raise NotImplementedError

    def objective(self, phase: str, nets: Networks, step: Step) -> Terms:
        """The scalar to minimise in `phase` (a mean over this rank's rows) and scalars to report."""
        raise NotImplementedError

    def after(self, phase: str, nets: Networks, step: Step) -> None:
        """Called once the phase's optimiser has stepped: weight clipping, running means.

        What a step saw of its rows lies in `step.memory`; `step.sync.total` makes of it what all ranks saw.
        """

    def memory(self, spec: DataSpec, rows: int) -> dict[str, Tensor]:
        """State that belongs to rows of the global batch: tensors with `rows` first, sharded like the batch.

        State of the whole run (a running mean, an augmentation probability) is a buffer of a network instead.
        """
        return {}

    def sample(self, nets: Networks, inputs: Batch, draws: Draws) -> Batch:
        """`draws.num` generated rows as a batch whose `x` imitates the data field `imitates`."""
        raise NotImplementedError

    def pictures(self, inputs: Batch, samples: Batch) -> list[Tensor]:
        """What a sample grid shows: image tensors of equal length, drawn side by side per sample."""
        return [samples["x"]]

    def figures(self, nets: Networks, draws: Draws) -> dict[str, float]:
        """Figures of the networks themselves that are reported beside those of samples. Rank 0 alone asks for them."""
        return {}

    def exported(self, nets: Networks, spec: DataSpec) -> tuple[nn.Module, Batch]:
        """The module that ONNX files hold, and two example rows for its arguments by name, in order.

        Its single output is a sample's `x`. Raises ConfigError: a family whose sampling is not one module has none.
        """
        name = type(self).__name__
        raise ConfigError(
            f"{name} cannot be exported to ONNX: it does not define `exported`; export safetensors instead"
        )

    def remedies(self, kind: str) -> tuple[Remedy, ...]:
        """What to try for a verdict of `kind` (gans.health.Kind), the least effort first; empty without advice.

        It follows from the present values and leaves out what would change nothing, so that a family whose first
        remedy was applied advises the next one.
        """
        return ()

    def with_changes(self, changes: Mapping[str, Any]) -> Self:
        """The family with some fields replaced, validated. Raises ConfigError."""
        try:
            return type(self).model_validate({**self.model_dump(exclude={"family"}), **changes})
        except ValidationError as error:
            raise ConfigError(f"{type(self).__name__} does not take {dict(changes)}: {error}") from error

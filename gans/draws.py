"""Randomness as a function of (seed, step, sample): the same global batch at every world size, and on resume.

Each draw is made for the *global* batch from a generator seeded by (seed, step) and cut down to this rank's rows,
so no random state has to be saved and no two ranks draw the same latents.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from gans.data.loader import cut, shards


class Draws:
    """Seeded draws for `num` rows, of which this rank keeps its own, micro-batch after micro-batch."""

    def __init__(
        self,
        seed: int,
        num: int,
        device: torch.device,
        rank: int = 0,
        world: int = 1,
        pieces: int = 1,
        unit: int = 1,
    ) -> None:
        self.num = num
        self.device = device
        self._rows = shards(num, rank, world, pieces, unit)
        self._seed = seed
        self._generator = torch.Generator(device)
        self.restart(0)

    def restart(self, step: int) -> None:
        """Begin the sequence of draws that belongs to `step`."""
        self._generator.manual_seed(int(np.random.SeedSequence([self._seed, step]).generate_state(1)[0]))

    def pieces(self) -> Iterator[tuple[slice, Draws]]:
        """Each micro-batch: which of this rank's rows it is, and draws for it. To be used one after another: each sees
        the draws to come anew, so that the rows' values are those without micro-batches."""
        begun, start = self._generator.get_state(), 0
        for rows in self._rows:
            piece = copy.copy(self)
            piece._rows = (rows,)
            self._generator.set_state(begun)
            yield slice(start, start := start + rows.stop - rows.start), piece

    def normal(self, *shape: int) -> Tensor:
        """Standard normal, (rows, *shape) float32."""
        return cut(torch.randn(self.num, *shape, generator=self._generator, device=self.device), self._rows)

    def uniform(self, *shape: int) -> Tensor:
        """Uniform on [0, 1), (rows, *shape) float32."""
        return cut(torch.rand(self.num, *shape, generator=self._generator, device=self.device), self._rows)

    def integers(self, high: int, *shape: int) -> Tensor:
        """Uniform on {0, ..., high - 1}, (rows, *shape) int64."""
        drawn = torch.randint(high, (self.num, *shape), generator=self._generator, device=self.device)
        return cut(drawn, self._rows)

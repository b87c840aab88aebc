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

from gans.data.loader import shard


class Draws:
    """Seeded draws for `num` rows, of which this rank keeps its `shard`."""

    def __init__(self, seed: int, num: int, device: torch.device, rank: int = 0, world: int = 1) -> None:
        self.num = num
        self.device = device
        self._rows = shard(num, rank, world)
        self._seed = seed
        self._generator = torch.Generator(device)
        self.restart(0)

    def restart(self, step: int) -> None:
        """Begin the sequence of draws that belongs to `step`."""
        self._generator.manual_seed(int(np.random.SeedSequence([self._seed, step]).generate_state(1)[0]))

    @property
    def rows(self) -> int:
        """How many rows this rank draws."""
        return self._rows.stop - self._rows.start

    def pieces(self, num: int) -> Iterator[tuple[slice, Draws]]:
        """This rank's rows in `num` pieces, to be drawn for one after another: each sees the same draws to come."""
        begun = self._generator.get_state()
        for i in range(num):
            rows = shard(self.rows, i, num)
            piece = copy.copy(self)
            piece._rows = slice(self._rows.start + rows.start, self._rows.start + rows.stop)
            self._generator.set_state(begun)
            yield rows, piece

    def normal(self, *shape: int) -> Tensor:
        """Standard normal, (rows, *shape) float32."""
        return torch.randn(self.num, *shape, generator=self._generator, device=self.device)[self._rows]

    def uniform(self, *shape: int) -> Tensor:
        """Uniform on [0, 1), (rows, *shape) float32."""
        return torch.rand(self.num, *shape, generator=self._generator, device=self.device)[self._rows]

    def integers(self, high: int, *shape: int) -> Tensor:
        """Uniform on {0, ..., high - 1}, (rows, *shape) int64."""
        return torch.randint(high, (self.num, *shape), generator=self._generator, device=self.device)[
            self._rows
        ]

"""Draws whose values a test says beforehand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gans.draws import Draws

CPU = torch.device("cpu")


class Scripted(Draws):
    """Gives the tensors of `values` one after another, whatever is asked for; rows are repeated to `num`."""

    def __init__(self, num: int, values: Sequence[Tensor]) -> None:
        super().__init__(0, num, CPU)
        self._values = list(values)

    def _next(self, *shape: int) -> Tensor:
        value = self._values.pop(0)
        value = value.expand(self.num, *value.shape[1:]) if len(value) == 1 else value
        assert value.shape == (self.num, *shape)
        return value

    def normal(self, *shape: int) -> Tensor:
        return self._next(*shape)

    def uniform(self, *shape: int) -> Tensor:
        return self._next(*shape)

    def integers(self, high: int, *shape: int) -> Tensor:
        value = self._next(*shape)
        assert ((value >= 0) & (value < high)).all()
        return value

"""Samples with known answers for the tests of the metrics, and a cache in memory."""

from __future__ import annotations

import math

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from gans.data.base import DataSpec, Field, Modes, Resident, to_float


class Memory:
    """A cache in memory that counts what is put."""

    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}
        self.puts = 0

    def get(self, key: str) -> bytes | None:
        return self.entries.get(key)

    def put(self, key: str, data: bytes) -> None:
        self.entries[key] = data
        self.puts += 1


def normal(num: int, dim: int, seed: int, mean: float = 0.0) -> Tensor:
    return mean + torch.randn(num, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def digits(start: int = 0, stop: int = 1400, labelled: bool = True) -> Resident:
    data = load_digits()
    # Its order goes by writer: shuffled, any slice is a fair sample.
    rows = np.random.default_rng(0).permutation(len(data.images))[start:stop]
    x = torch.from_numpy(data.images[rows] * (255 / 16)).round().to(torch.uint8)[:, None]
    fields = {"x": Field("image", (1, 8, 8))}
    tensors = {"x": x}
    if labelled:
        fields["label"] = Field("label", (), 10)
        tensors["label"] = torch.from_numpy(data.target[rows]).long()
    return Resident(tensors, DataSpec(fields))


def points(x: Tensor, modes: Modes | None = None) -> Resident:
    return Resident({"x": x.float()}, DataSpec({"x": Field("vector", (x.shape[1],))}), modes)


def ring() -> Modes:
    angles = torch.arange(8) * (2 * math.pi / 8)
    return Modes(torch.stack([angles.cos(), angles.sin()], 1), 0.01)


def grid() -> Modes:
    side = torch.arange(-4.0, 5.0, 2.0)
    return Modes(torch.cartesian_prod(side, side), 0.05)


def draw(modes: Modes, num: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    which = torch.randint(len(modes.centres), (num,), generator=generator)
    return modes.centres[which] + modes.sigma * torch.randn(num, 2, generator=generator)


def real_digits(num: int = 397) -> tuple[Tensor, Tensor]:
    batch = to_float(digits().tensors)
    return batch["x"][:num], batch["label"][:num]

"""Synthetic 2-D densities with known modes, after PacGAN's protocol (Lin et al. 2018, section 4.1)."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pydantic
import torch
from torch import Tensor

from gans.data.base import DataConfig, DataSpec, Field, Files, Modes, Resident, Split

_SEEDS: dict[Split, int] = {"train": 0, "held_out": 1}


class Ring(DataConfig):
    """8 Gaussians of sigma 0.01 on the unit circle: `x` (2,). Held out: `num` fresh draws."""

    kind: Literal["ring"] = "ring"
    num: int = pydantic.Field(100_000, ge=1)

    def load(self, split: Split, files: Files | None = None) -> Resident:
        """Draw the split; `files` is not used."""
        # k/8 of a turn: linspace(0, 2*pi, 8) would count both ends and give 7 distinct modes.
        angle = torch.arange(8, dtype=torch.float64) * (2 * math.pi / 8)
        return _mixture(torch.stack([angle.cos(), angle.sin()], dim=1), 0.01, self.num, _SEEDS[split])


class Grid(DataConfig):
    """25 Gaussians of sigma 0.05 on {-4, -2, 0, 2, 4}^2: `x` (2,). Held out: `num` fresh draws."""

    kind: Literal["grid"] = "grid"
    num: int = pydantic.Field(100_000, ge=1)

    def load(self, split: Split, files: Files | None = None) -> Resident:
        """Draw the split; `files` is not used."""
        axis = torch.arange(-4, 5, 2, dtype=torch.float64)
        return _mixture(torch.cartesian_prod(axis, axis), 0.05, self.num, _SEEDS[split])


def _mixture(centres: Tensor, sigma: float, num: int, seed: int) -> Resident:
    rng = np.random.default_rng(seed)
    mode = rng.integers(len(centres), size=num)
    points = centres.numpy()[mode] + sigma * rng.standard_normal((num, centres.shape[1]))
    spec = DataSpec({"x": Field("vector", (centres.shape[1],))})
    return Resident({"x": torch.from_numpy(points).float()}, spec, Modes(centres.float(), sigma))

"""A view for super-resolution: each picture of another data set beside its low-resolution version."""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gans.data.base import (
    Batch,
    DataConfig,
    Dataset,
    DataSpec,
    Field,
    Files,
    Resident,
    Split,
    chunks,
)
from gans.data.kinds import AnyData
from gans.data.views import View
from gans.errors import DataError

_CHUNK = 1_024  # pictures of a resident set scaled at a time


class LowRes(DataConfig):
    """The pictures `x` of the data set `of`, and `low`, uint8 (C, height / factor, width / factor), beside them.

    `low` is the anti-aliased bicubic reduction of Ledig et al. 2017 (SRGAN), section 3.2. Other fields of `of` stay.
    """

    kind: Literal["lowres"] = "lowres"
    of: AnyData
    factor: Literal[2, 4] = 4

    @property
    def path(self) -> str:
        """Where the files of `of` are; empty where it has none."""
        return getattr(self.of, "path", "")

    def load(self, split: Split, files: Files | None = None) -> Dataset:
        """In memory where `of` is; otherwise scaled when fetched. Raises DataError: no pictures to scale."""
        whole = self.of.load(split, files)
        spec = self._spec(whole.spec)
        if isinstance(whole, Resident):
            pieces = [reduced(whole.tensors["x"][rows], self.factor) for rows in chunks(len(whole), _CHUNK)]
            return Resident(whole.tensors | {"low": torch.cat(pieces)}, spec, whole.modes, whole.skipped)
        return Reduced(whole, self.factor, spec)

    def _spec(self, spec: DataSpec) -> DataSpec:
        x = spec.fields.get("x")
        if x is None or x.kind != "image":
            fields = ", ".join(f"{name} ({field.kind})" for name, field in spec.fields.items())
            raise DataError(f"data.of of kind {self.of.kind!r} has no pictures `x`; its fields: {fields}")
        channels, height, width = x.shape
        if min(height, width) < self.factor:
            raise DataError(
                f"data.factor {self.factor} is larger than the pictures of data.of, {height} x {width}: "
                "give larger pictures or a smaller factor"
            )
        if height % self.factor or width % self.factor:
            raise DataError(
                f"data.factor {self.factor} does not divide the pictures of data.of, {height} x {width}: "
                f"give pictures whose sides are multiples of {self.factor}"
            )
        low = Field("image", (channels, height // self.factor, width // self.factor))
        return DataSpec({**spec.fields, "low": low})


def reduced(x: Tensor, factor: int) -> Tensor:
    """Pictures uint8 (N, C, H, W) by anti-aliased bicubic reduction, rounded: uint8 (N, C, H / f, W / f)."""
    size = (x.shape[-2] // factor, x.shape[-1] // factor)
    low = F.interpolate(x.float(), size=size, mode="bicubic", align_corners=False, antialias=True)
    return low.round().clamp(0, 255).to(torch.uint8)


class Reduced(View):
    """`dataset` with the field `low`, made of `x` when it is fetched."""

    def __init__(self, dataset: Dataset, factor: int, spec: DataSpec) -> None:
        super().__init__(dataset, spec)
        self.factor = factor

    def fetch(self, indices: np.ndarray) -> Batch:
        rows = self.dataset.fetch(indices)
        return rows | {"low": reduced(rows["x"], self.factor)}

    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.dataset.fingerprint()} / {self.factor}".encode()).hexdigest()[:16]

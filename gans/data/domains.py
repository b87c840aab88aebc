"""Two unpaired domains: batches with the fields `a` and `b`, which are drawn independently of each other."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor

from gans.data.base import (
    DataConfig,
    Dataset,
    DataSpec,
    Files,
    Modes,
    Resident,
    Skipped,
    Split,
    shuffled,
    to_float,
)
from gans.data.digits import Digits
from gans.data.kinds import AnyData


class Domains(DataConfig):
    """The `x` of two data sets as the fields `a` and `b`. A pairing between them is never used."""

    kind: Literal["domains"] = "domains"
    a: AnyData
    b: AnyData

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        paths = [path for side in (self.a, self.b) if (path := getattr(side, "path", ""))]
        if len({path.partition("://")[0] if "://" in path else "" for path in paths}) > 1:
            raise ValueError(
                f"a.path and b.path are {' and '.join(paths)}: both here, or both in object storage"
            )
        return self

    @property
    def path(self) -> str:
        """Where the files of either domain are; empty where neither has any."""
        return getattr(self.a, "path", "") or getattr(self.b, "path", "")

    def load(self, split: Split, files: Files | None = None) -> Dataset:
        return Unpaired(self.a.load(split, files), self.b.load(split, files))


class DigitDomains(DataConfig):
    """Digits (`a`) and *other* digits in black with a shadow on white (`b`): none occurs in both domains.

    The true map from a to b is `transform`.
    """

    kind: Literal["digit_domains"] = "digit_domains"
    size: Literal[16, 32, 64] = 16

    def load(self, split: Split, files: Files | None = None) -> Dataset:
        """Both domains in memory; `files` is not used."""
        digits = Digits(size=self.size, labelled=False).load(split)
        a, b = np.array_split(shuffled(len(digits), seed=0, epoch=0), 2)
        inverted = transform(to_float(digits.fetch(b))["x"])
        pixels = inverted.add(1).mul(127.5).round().to(torch.uint8)
        return Unpaired(Resident(digits.fetch(a), digits.spec), Resident({"x": pixels}, digits.spec))


def transform(x: Tensor) -> Tensor:
    """The map from domain a of `DigitDomains` to b: cast a grey shadow down and right, invert the contrast.

    x: (N, 1, size, size) in [-1, 1]. It is local and the same at every place, so that a small
    convolutional generator can learn it.
    """
    size = x.shape[-1]
    ink = (x + 1) / 2
    shadow = F.pad(ink, (size // 8, 0, size // 8, 0))[..., :size, :size] / 2
    return 1 - 2 * torch.maximum(ink, shadow)


class Unpaired:
    """Two data sets side by side; an epoch visits each slot of the longer one once, and none twice.

    An index is `slot + len * shift`: it stands for sample `slot` of `a` beside sample
    `slot + len // 2 + shift` of `b` (each modulo its own length). So `order` can pair the two afresh in
    each epoch, and a plain `arange(len)` is valid too.
    """

    modes: Modes | None = None

    def __init__(self, a: Dataset, b: Dataset) -> None:
        self.a = a
        self.b = b
        self.spec = DataSpec({"a": a.spec.x, "b": replace(b.spec.x, independent=True)})

    @property
    def skipped(self) -> Skipped:
        """What either domain could not decode, so far."""
        a, b = self.a.skipped, self.b.skipped
        return Skipped(a.count + b.count, a.named + b.named)

    def __len__(self) -> int:
        return max(len(self.a), len(self.b))

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """Indices of two independent shuffles, in which no slot stands beside itself."""
        num = len(self)
        slot_a, slot_b = np.random.default_rng([seed, epoch]).permuted(
            np.tile(np.arange(num), (2, 1)), axis=1
        )
        for i in np.flatnonzero(slot_a == slot_b).tolist() if num > 1 else []:
            if slot_a[i] == slot_b[i]:  # the swap before may have mended it
                j = (i + 1) % num
                slot_b[i], slot_b[j] = slot_b[j], slot_b[i]
        return slot_a + num * ((slot_b - slot_a - num // 2) % num)

    def fetch(self, indices: np.ndarray) -> dict[str, Tensor]:
        num = len(self)
        shift, slot = np.divmod(indices, num)
        slot_b = (slot + num // 2 + shift) % num
        return {
            "a": self.a.fetch(slot % len(self.a))["x"],
            "b": self.b.fetch(slot_b % len(self.b))["x"],
        }

    def fingerprint(self) -> str:
        told = self.a.fingerprint() + self.b.fingerprint()
        return hashlib.sha256(told.encode()).hexdigest()[:16]

"""scikit-learn's 1,797 handwritten digits: real images that need no download."""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import field_validator
from torch import Tensor

from gans.data.base import Batch, DataConfig, DataSpec, Field, Files, Resident, Split

NUM_CLASSES = 10
HELD_OUT_PER_CLASS = 40  # 400 of 1,797
_SPLIT_SEED = 20_240_501


class Digits(DataConfig):
    """Handwritten digits: `x` uint8 (1, size, size) and, where `labelled`, `label`.

    `classes` keeps some digits only; `label` is then the position in `classes`, so that every class of the
    spec occurs in the data. 400 digits, 40 a class, are held out by a fixed seed.
    """

    kind: Literal["digits"] = "digits"
    size: Literal[8, 16, 32, 64] = 8
    labelled: bool = True
    classes: tuple[int, ...] | None = None

    @field_validator("classes")
    @classmethod
    def _some_distinct_digits(cls, classes: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if classes is None:
            return classes
        if not classes or len(set(classes)) < len(classes) or not set(classes) <= set(range(NUM_CLASSES)):
            raise ValueError(f"classes {classes}: one or more distinct digits 0..9 are allowed")
        return classes

    def load(self, split: Split, files: Files | None = None) -> Resident:
        """The split in memory. `files` is not used: scikit-learn carries the digits."""
        images, labels = _raw()
        rows = _split_rows(labels, split)
        classes = range(NUM_CLASSES) if self.classes is None else self.classes
        rows = rows[np.isin(labels[rows], list(classes))]
        tensors: Batch = {"x": _upscaled(torch.from_numpy(images[rows]), self.size)}
        fields = {"x": Field("image", (1, self.size, self.size))}
        if self.labelled:
            position = {digit: i for i, digit in enumerate(classes)}
            tensors["label"] = torch.tensor([position[d] for d in labels[rows].tolist()])
            fields["label"] = Field("label", (), len(position))
        return Resident(tensors, DataSpec(fields))


@cache
def _raw() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits  # takes about a second to import

    bunch = load_digits()
    return bunch.images.astype(np.float32), bunch.target.astype(np.int64)


def _split_rows(labels: np.ndarray, split: Split) -> np.ndarray:
    rng = np.random.default_rng(_SPLIT_SEED)
    by_class = [rng.permutation(np.flatnonzero(labels == digit)) for digit in range(NUM_CLASSES)]
    held = np.sort(np.concatenate([rows[:HELD_OUT_PER_CLASS] for rows in by_class]))
    return held if split == "held_out" else np.setdiff1d(np.arange(len(labels)), held)


def _upscaled(images: Tensor, size: int) -> Tensor:
    """(N, 8, 8) floats in [0, 16] → (N, 1, size, size) uint8 in [0, 255]."""
    x = images[:, None] * (255 / 16)
    if size != 8:
        x = F.interpolate(x, size=(size, size), mode="bicubic", align_corners=False)
    return x.round().clamp(0, 255).to(torch.uint8)

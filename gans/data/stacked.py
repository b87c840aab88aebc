"""Three random digits as the colours of one picture: 1,000 modes that can be counted.

Metz et al. 2017 (Unrolled GAN), section 3.3.1, as set up by Srivastava et al. 2017 (VEEGAN), section 4.2.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np
import pydantic
import torch
import torch.nn.functional as F
from torch import Tensor

from gans.data import mnist
from gans.data.base import (
    Batch,
    DataConfig,
    Dataset,
    DataSpec,
    Field,
    Files,
    LocalFiles,
    Modes,
    Resident,
    Skipped,
    Split,
    shuffled,
)
from gans.data.digits import NUM_CLASSES, Digits

NUM_MODES = NUM_CLASSES**3
HELD_OUT = 5_000
RESIDENT_BYTES = 100 * 2**20  # up to this size the stacked pictures are kept in memory
_SEEDS: dict[Split, int] = {"train": 0, "held_out": 1}


class StackedData(DataConfig):
    """What both kinds of stacked digits have in common.

    num: rows of the training split; 5,000 rows, of digits that occur in no training row, are held out. seed: of the
    triples, each of which is drawn uniformly and independently. labelled: whether the field `label` tells the mode,
    100 * red + 10 * green + blue of 1,000. size: in px.
    """

    num: int = pydantic.Field(26_000, ge=1)
    seed: int = pydantic.Field(0, ge=0)
    labelled: bool = False

    def single_digits(self, split: Split, files: Files | None = None) -> Resident:
        """The digits that are stacked, one a row: `x` uint8 (1, size, size) and `label`.

        The protocol's classifier, which judges each channel, is trained on these.
        """
        raise NotImplementedError

    def load(self, split: Split, files: Files | None = None) -> Dataset:
        """The split: in memory up to 100 MiB, otherwise stacked when fetched."""
        digits = self.single_digits(split, files)
        rng = np.random.default_rng([self.seed, _SEEDS[split]])
        num = self.num if split == "train" else HELD_OUT
        stacked = Stacked(digits, torch.from_numpy(rng.integers(len(digits), size=(num, 3))), self.labelled)
        if num * int(np.prod(stacked.spec.x.shape)) > RESIDENT_BYTES:
            return stacked
        return Resident(stacked.fetch(np.arange(num)), stacked.spec)


class StackedDigits(StackedData):
    """Three of scikit-learn's digits a picture: `x` uint8 (3, size, size), with `labelled` the mode as `label`.

    num, seed, labelled: as in `StackedData`. Both splits stack digits of the same split of `Digits`.
    """

    kind: Literal["stacked_digits"] = "stacked_digits"
    size: Literal[8, 16, 32] = 16

    def single_digits(self, split: Split, files: Files | None = None) -> Resident:
        """`Digits` of this size; `files` is not used."""
        return Digits(size=self.size).load(split)


class StackedMnist(StackedData):
    """Three of MNIST's digits a picture: `x` uint8 (3, size, size), with `labelled` the mode as `label`.

    path: a folder or file of MNIST, local or a URL that the `Files` given to `load` understands: idx-ubyte files
    (gzipped or not), an .npz archive, or Parquet as on Hugging Face. size: 28, or 32 by a black border. num, seed,
    labelled: as in `StackedData`; held-out rows stack MNIST's test digits.
    """

    kind: Literal["stacked_mnist"] = "stacked_mnist"
    path: str
    size: Literal[28, 32] = 32

    def single_digits(self, split: Split, files: Files | None = None) -> Resident:
        """The split's digits in memory. Raises DataError where files are missing or malformed."""
        train, test = mnist.read(self.path, files or LocalFiles())
        digits = train if split == "train" else test
        border = (self.size - mnist.SIDE) // 2
        x = F.pad(torch.from_numpy(digits.images.copy())[:, None], [border] * 4)
        fields = {"x": Field("image", (1, self.size, self.size)), "label": Field("label", (), NUM_CLASSES)}
        return Resident({"x": x, "label": torch.from_numpy(digits.labels)}, DataSpec(fields))


class Stacked:
    """Triples of the rows of `digits`, stacked when they are fetched.

    digits: `x` (1, H, W) and `label`. triples: row numbers, int64 (N, 3).
    """

    modes: Modes | None = None

    def __init__(self, digits: Resident, triples: Tensor, labelled: bool) -> None:
        self.digits = digits
        self.triples = triples
        self.skipped = Skipped()
        _, height, width = digits.spec.x.shape
        fields = {"x": Field("image", (3, height, width))}
        if labelled:
            fields["label"] = Field("label", (), NUM_MODES)
        self.spec = DataSpec(fields)

    def __len__(self) -> int:
        return len(self.triples)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        return shuffled(len(self), seed, epoch)

    def fetch(self, indices: np.ndarray) -> Batch:
        triples = self.triples[torch.from_numpy(indices)]
        batch = {"x": self.digits.tensors["x"][triples, 0]}
        if "label" in self.spec.fields:
            batch["label"] = mode(self.digits.tensors["label"][triples])
        return batch

    def fingerprint(self) -> str:
        digest = hashlib.sha256(self.digits.fingerprint().encode())
        digest.update(self.triples.numpy().tobytes())
        digest.update(repr(self.spec).encode())
        return digest.hexdigest()[:16]


def mode(digits: Tensor) -> Tensor:
    """Digits int64 (N, 3) of the channels → numbers (N,) of their modes, 0 to 999."""
    return digits @ torch.tensor([100, 10, 1], device=digits.device)

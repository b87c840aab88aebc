"""What a data set is to the rest of the house. It knows nothing of networks, devices' speed, or object stores.

A *batch* is a dict of named fields, each a tensor whose first axis is the sample. Images are float NCHW in
[-1, 1], points are (N, D), labels are int64 (N,). `DataSpec` names the fields and their shapes, so that
networks take their shapes from the data and nobody types `channels=3`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from gans.config import Config
from gans.errors import DataError

Batch = dict[str, Tensor]
Split = Literal["train", "held_out"]


@dataclass(frozen=True)
class Field:
    """One field of a batch: its kind and the shape of one sample (labels have shape `()`).

    `independent`: it is drawn apart from the other fields of its row, so that nothing pairs them.
    """

    kind: Literal["image", "vector", "label"]
    shape: tuple[int, ...]
    num_classes: int | None = None
    independent: bool = False


@dataclass(frozen=True)
class DataSpec:
    """The fields of a batch by name. `x` is the generated quantity wherever there is just one."""

    fields: Mapping[str, Field]

    @property
    def x(self) -> Field:
        """The field the generator imitates. Raises DataError where there is none."""
        if "x" not in self.fields:
            raise DataError(
                f"this family learns from the field x, and the data has the fields {', '.join(self.fields)}: "
                "set another data.kind"
            )
        return self.fields["x"]

    @property
    def num_classes(self) -> int | None:
        """Number of classes, where the data is labelled."""
        return self.fields["label"].num_classes if "label" in self.fields else None


@dataclass(frozen=True)
class Modes:
    """Known modes of a synthetic density: centres (K, D) and the common standard deviation."""

    centres: Tensor
    sigma: float


@dataclass
class Skipped:
    """Items that could not be decoded: how many, and the first few by name with the reason."""

    count: int = 0
    named: list[str] = field(default_factory=list)


class Dataset(Protocol):
    """Random access to samples; the order of an epoch is a pure function of (seed, epoch)."""

    spec: DataSpec
    modes: Modes | None

    @property
    def skipped(self) -> Skipped:
        """What could not be decoded so far."""
        ...

    def __len__(self) -> int: ...

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """The permutation (int64, shape (len,)) in which epoch `epoch` visits the samples."""
        ...

    def fetch(self, indices: np.ndarray) -> Batch:
        """The samples at `indices`. Images may be uint8 NCHW; `to_float` makes them float in [-1, 1]."""
        ...

    def fingerprint(self) -> str:
        """A hex digest of the content: equal data, equal digest."""
        ...


class Files(Protocol):
    """How a data set reaches files: locally here, through object storage in `orchestrator`."""

    def list(self, url: str) -> list[str]:
        """Every file below `url` (recursive), sorted. Raises DataError where `url` does not exist."""
        ...

    def open(self, path: str) -> BinaryIO:
        """A seekable binary file."""
        ...

    def size(self, path: str) -> int:
        """The file's size in bytes."""
        ...


class LocalFiles:
    """`Files` on this machine's disk."""

    def list(self, url: str) -> list[str]:
        root = Path(url).expanduser()
        if not root.exists():
            raise DataError(f"data path {url!r} does not exist on this machine")
        if root.is_file():
            return [str(root)]
        return sorted(str(p) for p in root.rglob("*") if p.is_file())

    def open(self, path: str) -> BinaryIO:
        return Path(path).expanduser().open("rb")

    def size(self, path: str) -> int:
        return Path(path).expanduser().stat().st_size


class DataConfig(Config):
    """Where data comes from. A subclass adds its fields and a literal `kind`."""

    kind: str

    def load(self, split: Split, files: Files | None = None) -> Dataset:
        """Open the given split. The held-out split shares no sample with the training split."""
        raise NotImplementedError


def to_float(batch: Batch) -> Batch:
    """uint8 images [0, 255] → float32 in [-1, 1]; everything else is left as it is."""
    return {k: v.float().div_(127.5).sub_(1.0) if v.dtype == torch.uint8 else v for k, v in batch.items()}


def shuffled(num: int, seed: int, epoch: int) -> np.ndarray:
    """The house's epoch order: a permutation of range(num) that depends on (seed, epoch) alone."""
    return np.random.default_rng([seed, epoch]).permutation(num)


class Resident:
    """A data set that lives in memory as one tensor a field."""

    def __init__(
        self, tensors: Batch, spec: DataSpec, modes: Modes | None = None, skipped: Skipped | None = None
    ) -> None:
        self.tensors = tensors
        self.spec = spec
        self.modes = modes
        self.skipped = skipped or Skipped()

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def order(self, seed: int, epoch: int) -> np.ndarray:
        return shuffled(len(self), seed, epoch)

    def fetch(self, indices: np.ndarray) -> Batch:
        rows = torch.from_numpy(indices)
        return {k: v[rows.to(v.device)] for k, v in self.tensors.items()}

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for name in sorted(self.tensors):
            tensor = self.tensors[name].cpu().contiguous()
            digest.update(f"{name}:{tuple(tensor.shape)}:{tensor.dtype}".encode())
            digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()[:16]

    def to(self, device: torch.device) -> Resident:
        """The same data with its tensors on `device`."""
        return Resident(
            {k: v.to(device) for k, v in self.tensors.items()}, self.spec, self.modes, self.skipped
        )


def chunks(num: int, size: int) -> Iterator[np.ndarray]:
    """range(num) in consecutive pieces of at most `size`."""
    for start in range(0, num, size):
        yield np.arange(start, min(num, start + size))

"""A trained family ready to sample, without its data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from gans.checkpoint import restore_networks
from gans.data.base import Batch, DataSpec
from gans.errors import ConfigError, DataError
from gans.family import Family, Networks
from gans.pictures import to_uint8
from gans.sampling import draw


@dataclass(frozen=True)
class Model:
    """A family, the shapes of the data it was trained on, and its trained networks."""

    family: Family
    spec: DataSpec
    networks: Networks

    @classmethod
    def restore(
        cls, family: Family, spec: DataSpec, files: Mapping[str, bytes], averaged: bool = True
    ) -> Model:
        """The model in a checkpoint's files. Raises what `restore_networks` raises."""
        return cls(family, spec, restore_networks(family, spec, files, averaged))

    def to(self, device: torch.device) -> Model:
        """The same model, its networks moved to `device`."""
        return Model(self.family, self.spec, {k: n.to(device) for k, n in self.networks.items()})

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        weights = (p for n in self.networks.values() for p in n.parameters())
        return next((p.device for p in weights), torch.device("cpu"))

    @property
    def asks(self) -> tuple[str, ...]:
        """The data fields other than the label that `sample` needs as `inputs`."""
        return tuple(name for name in self.family.inputs if name != "label")

    def truncated(self, by: float) -> Model:
        """The same model, sampled with another truncation. Raises ConfigError where the family has none."""
        name = type(self.family).__name__
        if "truncation" not in type(self.family).model_fields:
            raise ConfigError(f"{name} has no truncation: it does not draw latents; leave it out")
        family = self.family.with_changes({"truncation": by})
        if problems := family.check(self.spec):
            raise ConfigError("; ".join(problems))
        return replace(self, family=family)

    def sample(
        self,
        num: int,
        seed: int = 0,
        labels: Sequence[int] | Tensor | None = None,
        inputs: Batch | None = None,
    ) -> Batch:
        """`num` samples as a batch; equal seeds give equal first samples whatever `num` is.

        labels: classes to cycle through (default 0..K-1), for a family that takes labels. inputs: rows to map, for
        a family that maps data (fields `asks`), cycling where there are fewer than `num`; with `label` in it, that
        is used. Raises ConfigError for labels that cannot be, DataError for missing or misshapen inputs.
        """
        if num < 1:
            raise ConfigError(f"num {num}: ask for at least one sample")
        rows = {name: self._input(name, num, inputs or {}) for name in self.asks}
        if "label" in self.family.inputs:
            given = (inputs or {}).get("label") if labels is None else labels
            rows["label"] = self._labels(num, given)
        elif labels is not None:
            raise ConfigError(f"{type(self.family).__name__} takes no labels: leave them out, or train cgan")
        return draw(self.family, self.networks, num, seed, rows, self.device)

    def to_uint8(self, x: Tensor) -> np.ndarray:
        """Float NCHW in [-1, 1] → uint8 NHWC."""
        return to_uint8(x)

    def _labels(self, num: int, labels: Sequence[int] | Tensor | None) -> Tensor:
        classes = self.spec.num_classes
        assert classes is not None
        chosen = torch.arange(classes) if labels is None else torch.as_tensor(labels, dtype=torch.int64)
        if not len(chosen) or int(chosen.min()) < 0 or int(chosen.max()) >= classes:
            wrong = sorted({int(c) for c in chosen} - set(range(classes)))
            raise ConfigError(f"labels {wrong}: this model's classes are 0..{classes - 1}")
        return _cycled(chosen.to(self.device), num)

    def _input(self, name: str, num: int, inputs: Batch) -> Tensor:
        shape = self.spec.fields[name].shape
        if name not in inputs or not len(inputs[name]):
            needs = ", ".join(self.asks)
            raise DataError(
                f"{type(self.family).__name__} maps data: it needs inputs {needs}, and {name} is missing"
            )
        rows = inputs[name]
        if tuple(rows.shape[1:]) != shape:
            raise DataError(
                f"input {name} has samples of shape {tuple(rows.shape[1:])}; the model takes {shape}"
            )
        return _cycled(rows.to(self.device), num)


def _cycled(rows: Tensor, num: int) -> Tensor:
    """`num` rows, from the first again where there are fewer."""
    return rows[torch.arange(num, device=rows.device) % len(rows)]

"""Feature extractors: what turns samples into the vectors that the metrics compare.

All are seeded or trained here and work offline, apart from Inception-v3, whose weights a person brings.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from gans.data.base import Batch, Dataset, chunks, to_float

#: Samples a forward pass, in every extractor.
BATCH = 256


class Extractor(Protocol):
    """Samples → features. Images are float NCHW in [-1, 1], vectors (N, D). Results stay on the device."""

    @property
    def name(self) -> str:
        """A short name that is stored beside figures: figures of two names are not comparable."""
        ...

    def features(self, x: Tensor) -> Tensor:
        """Features (N, D), float32."""
        ...

    def probabilities(self, features: Tensor) -> Tensor | None:
        """Class probabilities (N, K) over the data set's own classes, of samples with these features (N, D); None for
        an extractor without them."""
        ...


class Cache(Protocol):
    """Where trained extractors are kept, by content: a folder or the results store."""

    def get(self, key: str) -> bytes | None:
        """The bytes under `key`, or None."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Keep `data` under `key`. Equal keys carry equivalent data, so the first or the last may win."""
        ...


class PointsExtractor:
    """The identity on vectors."""

    name = "points"

    def features(self, x: Tensor) -> Tensor:
        """`x` (N, D) as float32; trailing axes are flattened."""
        return x.flatten(1).float()

    def probabilities(self, features: Tensor) -> None:
        """Points carry no classes."""
        return None


def points_extractor() -> PointsExtractor:
    """The extractor for vector data: the vectors themselves."""
    return PointsExtractor()


def fetch_subset(dataset: Dataset, num: int, seed: int) -> Batch:
    """At most `num` samples of `dataset`, drawn by `seed`; floats on the CPU, in a random order."""
    rows = dataset.order(seed, 0)[:num]
    parts = [to_float(dataset.fetch(rows[piece])) for piece in chunks(len(rows), 1024)]
    return {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}


def extract(extractor: Extractor, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Features (N, D) and, where there are any, probabilities (N, K) of `x`, in pieces, on the CPU."""
    features, probabilities = [], []
    for rows in chunks(len(x), BATCH):
        found = extractor.features(x[int(rows[0]) : int(rows[-1]) + 1])
        features.append(found.cpu())
        shares = extractor.probabilities(found)
        if shares is not None:
            probabilities.append(shares.cpu())
    return torch.cat(features), torch.cat(probabilities) if probabilities else None

"""Crops of the two photos that scikit-learn carries, china.jpg and flower.jpg: natural images without a download."""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
import pydantic
import torch
import torch.nn.functional as F
from torch import Tensor

from gans.data.base import Batch, DataConfig, DataSpec, Field, Files, Resident, Split, to_float
from gans.data.domains import Unpaired

HEIGHT, WIDTH = 427, 640  # of both photos
# Columns left of these are held out. They halve the pagoda and the flower, each of which is nearly its mirror image,
# and crops are mirrored at random: so both splits show the same sort of picture and share no pixel.
EDGES = (208, 304)
HELD_OUT = 1_000
_SEEDS: dict[Split, int] = {"train": 0, "held_out": 1}
_SPAN = 128  # px of the photo that a crop shows where `scale` is not given


class Crops(DataConfig):
    """What both kinds of photo crops have in common.

    size: of a crop in px. scale: the photos are averaged down by it before crops are taken; None scales so that a
    crop shows 128 px of the photo, but not by more than 4. num: crops of the training split (of each domain), all
    from different places, each mirrored or not. Up to 1,000 more are held out: they lie in the left third to half of a
    photo, which no training crop touches.
    """

    size: Literal[16, 32, 64, 128] = 32
    scale: int | None = pydantic.Field(None, ge=1, le=8)
    num: int = pydantic.Field(4_000, ge=1)
    seed: int = pydantic.Field(0, ge=0)

    @pydantic.model_validator(mode="after")
    def _crops_fit(self) -> Crops:
        if not len(self._places("held_out")):
            raise ValueError(
                f"size {self.size} at scale {self._scale}: a crop does not fit into the held-out part of the photos, "
                f"{max(EDGES)} x {HEIGHT} px before scaling; lower `scale` or `size`"
            )
        if self.num > (most := len(self._places("train")) // self._domains):
            raise ValueError(
                f"num {self.num}: there are {most} different crops of size {self.size} at scale {self._scale}"
                f"{' for each domain' if self._domains > 1 else ''}; 1 to {most} are allowed"
            )
        return self

    @property
    def _domains(self) -> int:
        return 1

    @property
    def _scale(self) -> int:
        return self.scale or max(1, min(4, _SPAN // self.size))

    def _places(self, split: Split) -> np.ndarray:
        """Every place (N, 3) of a crop: photo, top row, left column."""
        rows, scale, places = HEIGHT // self._scale, self._scale, []
        for photo, edge in enumerate(EDGES):
            begin, end = (0, edge // scale) if split == "held_out" else (-(-edge // scale), WIDTH // scale)
            tops, lefts = np.arange(rows - self.size + 1), np.arange(begin, end - self.size + 1)
            places.append(np.stack(np.meshgrid([photo], tops, lefts, indexing="ij"), axis=-1).reshape(-1, 3))
        return np.concatenate(places)

    def _drawn(self, split: Split) -> list[tuple[np.ndarray, Tensor]]:
        """For each domain, which photo its crops are of, int64 (N,), and the crops, uint8 (N, 3, size, size)."""
        places, domains = self._places(split), self._domains
        num = self.num if split == "train" else min(HELD_OUT, len(places) // domains)
        rng = np.random.default_rng([self.seed, _SEEDS[split]])
        chosen = rng.choice(places, num * domains, replace=False)
        plain = crops(chosen, self._scale, self.size)
        mirrored = torch.from_numpy(rng.integers(2, size=len(plain))).bool().view(-1, 1, 1, 1)
        pictures = torch.where(mirrored, plain.flip(-1), plain)
        return [(chosen[i::domains, 0], pictures[i::domains]) for i in range(domains)]


class Photos(Crops):
    """Crops of both photos: `x` uint8 (3, size, size) and, where `labelled`, which photo as `label`.

    size, scale, num, seed: as in `Crops`.
    """

    kind: Literal["photos"] = "photos"
    labelled: bool = False

    def load(self, split: Split, files: Files | None = None) -> Resident:
        """The split in memory; `files` is not used: scikit-learn carries the photos."""
        [(photo, pictures)] = self._drawn(split)
        tensors: Batch = {"x": pictures}
        fields = {"x": Field("image", (3, self.size, self.size))}
        if self.labelled:
            tensors["label"] = torch.from_numpy(photo)
            fields["label"] = Field("label", (), 2)
        return Resident(tensors, DataSpec(fields))


class PhotoDomains(Crops):
    """Photo crops by day (`a`) and *other* crops at dusk (`b`), both uint8 (3, size, size): no place is in both.

    size, scale, num, seed: as in `Crops`, `num` for each domain. The true map from a to b is `transform`.
    """

    kind: Literal["photo_domains"] = "photo_domains"

    @property
    def _domains(self) -> int:
        return 2

    def load(self, split: Split, files: Files | None = None) -> Unpaired:
        """Both domains in memory; `files` is not used."""
        (_, day), (_, other) = self._drawn(split)
        spec = DataSpec({"x": Field("image", (3, self.size, self.size))})
        dusk = transform(to_float({"x": other})["x"]).add(1).mul(127.5).round().to(torch.uint8)
        return Unpaired(Resident({"x": day}, spec), Resident({"x": dusk}, spec))


def transform(x: Tensor) -> Tensor:
    """The map from domain a of `PhotoDomains` to b: swap red and blue, then keep three quarters of the light.

    x: (N, 3, size, size) in [-1, 1]. It acts on each pixel alone and can be undone.
    """
    return 0.75 * (x.flip(1) + 1) - 1


@cache
def _photos(scale: int) -> Tensor:
    """Both photos as uint8 (2, 3, height, width), averaged down by `scale`; what is left over at the edges is cut."""
    from sklearn.datasets import load_sample_images  # takes about a second to import

    photos = torch.from_numpy(np.stack(load_sample_images().images)).permute(0, 3, 1, 2)
    assert photos.shape == (2, 3, HEIGHT, WIDTH)
    return F.avg_pool2d(photos.float(), scale).round().to(torch.uint8)


def crops(places: np.ndarray, scale: int, size: int) -> Tensor:
    """The crops uint8 (N, 3, size, size) at `places` (N, 3): photo, top row, left column."""
    photos = _photos(scale)
    return torch.stack([photos[i, :, y : y + size, x : x + size] for i, y, x in places.tolist()])

"""Pairs of pictures of one's own for translation: two folders of them, or pictures that hold both side by side."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import ClassVar, Literal, TypeVar

import numpy as np
import torch

from gans.data.base import Batch, DataSpec, Field, Files
from gans.data.encoded import Decoder, EncodedImages, Source
from gans.data.images import EXTENSIONS, FolderSource
from gans.data.paths import matching, relative
from gans.errors import DataError

Side = TypeVar("Side")

_NAMED = 5  # pictures without a partner told by name


class Pairs(EncodedImages):
    """Pictures `a` and what they are to become, `b`, both uint8 (C, H, W), of one height and width.

    layout: "folders": below `path` are the folders a and b (or A and B), and pictures of equal names in them, whatever
    their endings, are pairs; "aligned": each picture below `path` holds both, A in its left half, as the published data
    sets of pix2pix do. direction: which side is translated to which.

    All else is as for `images`: `size` and `channels` are those of each side, and a pair is held out, or skipped, as a
    whole.
    """

    kind: Literal["pairs"] = "pairs"
    layout: Literal["folders", "aligned"] = "folders"
    direction: Literal["AtoB", "BtoA"] = "AtoB"

    def source(self, files: Files) -> Source:
        return (
            PairSource(self.path, files)
            if self.layout == "folders"
            else FolderSource(self.path, False, files)
        )

    def decoder(self, source: Source) -> Decoder:
        return Sides(self, source) if isinstance(source, PairSource) else Halves(self, source)


class PairSource(FolderSource):
    """The pictures of the folder a, and in `partner` those of b, in the same order. Raises DataError: not all have one
    partner."""

    def __init__(self, path: str, files: Files) -> None:
        found = matching(files, path, EXTENSIONS, "image")
        a, b = (_by_stem(path, found, side) for side in "ab")
        _require_pairs(path, a, b)
        stems = sorted(a)
        super().__init__(path, False, files, [a[stem][0] for stem in stems])
        self.partner = FolderSource(path, False, files, [b[stem][0] for stem in stems])

    def _told(self) -> list[tuple[str, int]]:
        sides = zip(super()._told(), self.partner._told(), strict=True)
        return [(f"{name} {size_b} {partner}", size) for (name, size), (partner, size_b) in sides]


def _by_stem(path: str, found: list[str], side: str) -> dict[str, list[str]]:
    """The paths of the pictures in the folder `side`, by their names in it without endings."""
    stems: dict[str, list[str]] = {}
    for full in found:
        name = PurePosixPath(relative(path, full))
        if len(name.parts) > 1 and name.parts[0].lower() == side:
            stems.setdefault(str(PurePosixPath(*name.parts[1:]).with_suffix("")), []).append(full)
    return stems


def _require_pairs(path: str, a: dict[str, list[str]], b: dict[str, list[str]]) -> None:
    if empty := [side for side, stems in (("a", a), ("b", b)) if not stems]:
        raise DataError(
            f"data.layout=folders wants pictures in the folders a and b of data.path {path!r}, and there is none in "
            f"{' and '.join(empty)}: put them there, or set data.layout=aligned for pictures that hold both halves"
        )
    problems = {
        "in a without a partner in b": a.keys() - b.keys(),
        "in b without a partner in a": b.keys() - a.keys(),
        "in a more than once": {stem for stem, paths in a.items() if len(paths) > 1},
        "in b more than once": {stem for stem, paths in b.items() if len(paths) > 1},
    }
    told = [f"{len(stems)} {what} ({_bounded(stems)})" for what, stems in problems.items() if stems]
    if told:
        raise DataError(
            f"pictures of data.path {path!r} are not all in pairs of one name: {'; '.join(told)}: add what is "
            "missing, or take out the others"
        )


def _bounded(stems: set[str]) -> str:
    more = f" and {len(stems) - _NAMED} more" if len(stems) > _NAMED else ""
    return ", ".join(sorted(stems)[:_NAMED]) + more


class PairDecoder(Decoder):
    """Decodes the pairs of a source to one array, the channels of A before those of B."""

    @property
    def depth(self) -> int:
        """Channels of A."""
        raise NotImplementedError

    def spec(self) -> DataSpec:
        channels, *size = self.shape
        a, b = self._directed(self.depth, channels - self.depth)
        return DataSpec({"a": Field("image", (a, *size)), "b": Field("image", (b, *size))})

    def rows(self, pixels: np.ndarray) -> Batch:
        a, b = self._directed(pixels[:, : self.depth], pixels[:, self.depth :])
        return {"a": torch.from_numpy(a), "b": torch.from_numpy(b)}

    def told(self) -> str:
        return f"{super().told()} {self._directed('A', 'B')}"

    def _directed(self, a: Side, b: Side) -> tuple[Side, Side]:
        """What is translated, and what to, of sides A and B."""
        assert isinstance(self.config, Pairs)
        return (a, b) if self.config.direction == "AtoB" else (b, a)


class Halves(PairDecoder):
    """Of images that hold both sides."""

    across: ClassVar[int] = 2

    @property
    def depth(self) -> int:
        return self.shape[0] // 2


class Sides(PairDecoder):
    """Of images in two folders."""

    def __init__(self, config: EncodedImages, source: PairSource) -> None:
        self._a = Decoder(config, source)
        self._b = Decoder(config, source.partner, beside=self._a)
        super().__init__(config, source, beside=self._a)

    @property
    def depth(self) -> int:
        return self._a.shape[0]

    def decode(self, positions: np.ndarray) -> list[np.ndarray | None]:
        pairs = zip(self._a.decode(positions), self._b.decode(positions), strict=True)
        return [None if a is None or b is None else np.concatenate([a, b]) for a, b in pairs]

    def _common_shape(self) -> tuple[int, ...]:
        (channels_a, *size_a), (channels_b, *size_b) = self._a.shape, self._b.shape
        if size_a != size_b:
            a, b = (f"{width}x{height}" for height, width in (size_a, size_b))
            raise DataError(
                f"pictures in a of data.path {self.config.path!r} are {a}, those in b {b}: set data.size=N to scale "
                "and crop all to NxN"
            )
        return (channels_a + channels_b, *size_a)

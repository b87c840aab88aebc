"""Pairs for translation: a map of shapes (`a`) and the textured picture that follows from it (`b`)."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
import pydantic
import torch
import torch.nn.functional as F
from torch import Tensor

from gans.data.base import DataConfig, DataSpec, Field, Files, Resident, Split, chunks
from gans.data.forms import FORMS, coverage, distances, outlined, pixel_centres

HELD_OUT = 1_000
MOST = 3  # shapes a picture
_SEEDS: dict[Split, int] = {"train": 0, "held_out": 1}
_CHUNK = 256  # pictures drawn at a time
_LINE = 0.04  # width of an edge in `a`, in widths of the picture

# One row a form in the order of FORMS: its flat colour in the map, and the two colours of its texture in the picture.
_MAP = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 1.0, 0.0))
_LIGHT = ((0.98, 0.82, 0.45), (0.85, 0.45, 0.3), (0.45, 0.75, 0.35), (0.8, 0.85, 0.92))
_DARK = ((0.9, 0.5, 0.15), (0.6, 0.22, 0.15), (0.15, 0.45, 0.2), (0.4, 0.47, 0.6))
_SKY, _GROUND = (0.55, 0.75, 0.95), (0.9, 0.88, 0.8)


class ShapePairs(DataConfig):
    """1 to 3 shapes a picture: `a` is their map, `b` uint8 (3, size, size) the same shapes textured, shaded and lit.

    source: "labels" makes `a` a segmentation, uint8 (3, size, size) with one flat colour a form on black;
    "edges" the visible outlines, uint8 (1, size, size) in white on black. size: in px. num: pictures of the training
    split; 1,000 more are held out, drawn from another seed. Colours, texture and shadow in `b` follow from form and
    place, so that `a` tells all of `b` but where two shapes of one form overlap on a map.
    """

    kind: Literal["shape_pairs"] = "shape_pairs"
    source: Literal["labels", "edges"] = "labels"
    size: Literal[16, 32, 64, 128] = 32
    num: int = pydantic.Field(4_000, ge=1)
    seed: int = pydantic.Field(0, ge=0)

    def load(self, split: Split, files: Files | None = None) -> Resident:
        """Draw the split; `files` is not used."""
        rng = np.random.default_rng([self.seed, _SEEDS[split]])
        scenes = _drawn(rng, self.num if split == "train" else HELD_OUT)
        channels = 3 if self.source == "labels" else 1
        draw = _segmented if self.source == "labels" else _edges
        a = torch.empty(len(scenes.form), channels, self.size, self.size, dtype=torch.uint8)
        b = torch.empty(len(scenes.form), 3, self.size, self.size, dtype=torch.uint8)
        for piece in chunks(len(a), _CHUNK):
            rows = torch.from_numpy(piece)
            part = _Scenes(*(v[rows] for v in scenes))
            seen = _distances(part, self.size)
            a[rows], b[rows] = _bytes(draw(part, seen)), _bytes(_picture(part, seen))
        fields = {name: Field("image", tuple(v.shape[1:])) for name, v in {"a": a, "b": b}.items()}
        return Resident({"a": a, "b": b}, DataSpec(fields))


class _Scenes(NamedTuple):
    """The shapes of N pictures, from the hindmost to the foremost."""

    form: Tensor  # (N, MOST) int64, numbers of FORMS
    shown: Tensor  # (N, MOST) bool
    centre: Tensor  # (N, MOST, 2) x, y
    radius: Tensor  # (N, MOST)
    angle: Tensor  # (N, MOST)


def _drawn(rng: np.random.Generator, num: int) -> _Scenes:
    """Shapes at random; the second and third lie on other sides of the middle than the first."""
    form = torch.from_numpy(rng.integers(len(FORMS), size=(num, MOST)))
    shown = torch.from_numpy(np.arange(MOST) < rng.integers(1, MOST + 1, size=(num, 1)))
    start = rng.uniform(0, 2 * math.pi, (num, 1))
    angle = start + np.arange(MOST) * (2 * math.pi / MOST) + rng.uniform(-0.4, 0.4, (num, MOST))
    far = rng.uniform(0.16, 0.27, (num, MOST))
    centre = 0.5 + far[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    radius = rng.uniform(0.16, 0.24, (num, MOST))
    turn = rng.uniform(-0.5, 0.5, (num, MOST))
    return _Scenes(form, shown, *(torch.from_numpy(v).float() for v in (centre, radius, turn)))


def _distances(scenes: _Scenes, size: int) -> Tensor:
    """Signed distances (N, MOST, size, size); far outside of what is not shown."""
    n = scenes.form.numel()
    flat = distances(
        scenes.form.view(n), scenes.centre.view(n, 2), scenes.radius.view(n), scenes.angle.view(n), size
    )
    return flat.view(-1, MOST, size, size).masked_fill(~scenes.shown[..., None, None], 9.0)


def _segmented(scenes: _Scenes, seen: Tensor) -> Tensor:
    """The flat colour of the foremost shape over each pixel's centre, else black: (N, 3, size, size)."""
    picture = torch.zeros(len(seen), 3, *seen.shape[2:])
    for i in range(MOST):
        colour = torch.tensor(_MAP)[scenes.form[:, i]][:, :, None, None]
        picture = torch.where(seen[:, i : i + 1] < 0, colour, picture)
    return picture


def _edges(scenes: _Scenes, seen: Tensor) -> Tensor:
    """White lines along the edges that no shape before them covers: (N, 1, size, size)."""
    size = seen.shape[-1]
    picture = torch.zeros(len(seen), 1, size, size)
    for i in range(MOST):
        distance = seen[:, i : i + 1]
        picture = torch.lerp(picture, torch.ones(()), coverage(outlined(distance, _LINE), size))
        hole = coverage(distance + _LINE, size)
        picture = picture * (1 - hole)
    return picture


def _picture(scenes: _Scenes, seen: Tensor) -> Tensor:
    """Textured, bevelled shapes with soft shadows on a light slope of colour: (N, 3, size, size) in [0, 1]."""
    size = seen.shape[-1]
    x, y = pixel_centres(size)
    sky, ground = (torch.tensor(c).view(1, 3, 1, 1) for c in (_SKY, _GROUND))
    picture = torch.lerp(sky, ground, y[:, None]).expand(len(seen), 3, size, size)
    for i in range(MOST):
        distance = seen[:, i : i + 1]
        shadow = _moved(coverage(distance, size), max(1, size // 16))
        light, dark = (torch.tensor(c)[scenes.form[:, i]][:, :, None, None] for c in (_LIGHT, _DARK))
        weave = _texture(x, y)[0, scenes.form[:, i]][:, None]
        bevel = 0.7 + 0.3 * (-distance / 0.06).clamp(0, 1)
        picture = picture * (1 - 0.45 * shadow)
        picture = torch.lerp(picture, torch.lerp(dark, light, weave) * bevel, coverage(distance, size))
    return picture


def _texture(x: Tensor, y: Tensor) -> Tensor:
    """The share (1, 4, size, size) of the light colour in each form's texture, fixed to the picture's frame."""
    turn = 2 * math.pi * 6  # waves a picture: five pixels each at 32 px
    wave_x, wave_y = ((1 + torch.sin(turn * v)) / 2 for v in (x, y))
    smooth = (1.2 - (x + y) / 1.4).clamp(0, 1)  # lit from the top left
    rows = wave_y.expand_as(smooth)
    checks = (1 + torch.sin(turn * x) * torch.sin(turn * y)) / 2
    columns = wave_x.expand_as(smooth)
    return torch.stack([smooth, rows, checks, columns], dim=1)


def _moved(mask: Tensor, by: int) -> Tensor:
    """The mask `by` pixels further down and right."""
    size = mask.shape[-1]
    return F.pad(mask, (by, 0, by, 0))[..., :size, :size]


def _bytes(picture: Tensor) -> Tensor:
    return (255 * picture).round().clamp(0, 255).to(torch.uint8)

"""Procedural shapes: one shape a picture, every attribute known, so that conditional tasks need no download."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import chain
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np
import pydantic
import torch
from torch import Tensor

from gans.data.base import Batch, DataConfig, DataSpec, Field, Files, Resident, Split, chunks
from gans.data.forms import FORMS, coverage, distances, outlined, pixel_centres

Attribute = Literal["colour", "form", "size", "place", "fill", "rotation"]

CLASSES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "colour": ("red", "green", "blue", "yellow", "magenta"),
        "form": tuple(FORMS),
        "size": ("small", "large"),
        "place": (
            *("top left", "top", "top right"),
            *("left", "centre", "right"),
            *("bottom left", "bottom", "bottom right"),
        ),
        "fill": ("filled", "outlined"),
        "rotation": ("upright", "turned"),
    }
)
"""Attribute → the names of its classes, in the order of their numbers."""

HELD_OUT = 1_000
_SEEDS: dict[Split, int] = {"train": 0, "held_out": 1}
_CHUNK = 512  # pictures drawn at a time

# Red, green, blue of each colour class, in [0, 1].
_COLOURS = ((0.95, 0.2, 0.18), (0.2, 0.85, 0.3), (0.25, 0.45, 1.0), (1.0, 0.88, 0.2), (0.95, 0.3, 0.9))
# Radii and the distance of the 3 x 3 cells, in widths of the picture; the jitters are uniform in +- these.
_RADII, _RADIUS_JITTER = (0.185, 0.285), 0.012
_CELL, _PLACE_JITTER = 0.18, 0.025
_TURN, _ANGLE_JITTER = math.pi / 4, math.radians(5)
_RIM = 0.05


class Shapes(DataConfig):
    """One shape a picture on a dark ground: `x` uint8 (3, size, size), `label`, and further labels by name.

    size: of the pictures in px. num: pictures of the training split; 1,000 more are held out, drawn from another
    seed. label: the attribute that is the field `label`. attributes: those that are fields under their own
    names (`CLASSES` names their classes). Attributes are independent and uniform; centre, radius, angle, brightness
    and ground vary a little beside them.

    sets: two or more sets of attributes that no picture is labelled with at once, as in StarGAN's joint
    training (Choi et al. 2018, section 3.2). Picture i carries the labels of set i % len(sets) alone, whose
    number is the field `set`; the labels of the other sets are 0, which says nothing.
    """

    kind: Literal["shapes"] = "shapes"
    size: Literal[16, 32, 64, 128] = 32
    num: int = pydantic.Field(6_000, ge=1)
    seed: int = pydantic.Field(0, ge=0)
    label: Attribute = "form"
    attributes: tuple[Attribute, ...] = ()
    sets: tuple[tuple[Attribute, ...], ...] = ()

    @pydantic.field_validator("attributes")
    @classmethod
    def _distinct(cls, attributes: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(attributes)) < len(attributes):
            raise ValueError(f"attributes {attributes}: each attribute may be named once")
        return attributes

    @pydantic.model_validator(mode="after")
    def _disjoint_sets(self) -> Shapes:
        named = list(chain.from_iterable(self.sets))
        if self.sets and (len(self.sets) < 2 or not all(self.sets) or len(set(named)) < len(named)):
            raise ValueError(
                f"sets {self.sets}: two or more sets without a common attribute are allowed, or ()"
            )
        if self.label in named:
            raise ValueError(
                f"label {self.label!r} is in sets, so that half the pictures lack it: `label` may be "
                f"{', '.join(a for a in CLASSES if a not in named)}"
            )
        return self

    def load(self, split: Split, files: Files | None = None) -> Resident:
        """Draw the split; `files` is not used."""
        rng = np.random.default_rng([self.seed, _SEEDS[split]])
        drawn = _drawn(rng, self.num if split == "train" else HELD_OUT)
        names = dict.fromkeys([*self.attributes, *chain.from_iterable(self.sets)])
        tensors: Batch = {"x": _rendered(drawn, self.size), "label": drawn.attributes[self.label]}
        tensors |= {name: drawn.attributes[name] for name in names}
        fields = {"x": Field("image", (3, self.size, self.size)), "label": _label(self.label)}
        fields |= {name: _label(name) for name in names}
        if self.sets:
            member = torch.arange(len(tensors["x"])) % len(self.sets)
            for number, name in ((i, name) for i, names in enumerate(self.sets) for name in names):
                tensors[name] = tensors[name] * (member == number)
            tensors["set"], fields["set"] = member, Field("label", (), len(self.sets))
        return Resident(tensors, DataSpec(fields))

    def captions(self, rows: Batch) -> list[str]:
        """A caption of each row of a batch, of the attributes that it carries and of nothing else."""
        known = {self.label: rows["label"]} | {name: rows[name] for name in CLASSES if name in rows}
        number = len(rows["label"])
        member = rows["set"].tolist() if "set" in rows else [0] * number
        foreign = [{name for i, s in enumerate(self.sets) if i != own for name in s} for own in member]
        return [
            caption({name: int(v[i]) for name, v in known.items() if name not in foreign[i]})
            for i in range(number)
        ]


def caption(attributes: Mapping[str, int]) -> str:
    """Such as "a large red outlined cross at the top left, upright", of class numbers by attribute.

    What is not given is not told of.
    """
    words = {name: CLASSES[name][number] for name, number in attributes.items()}
    adjectives = [words[name] for name in ("size", "colour", "fill") if name in words]
    noun = words.get("form", "shape")
    first = adjectives[0] if adjectives else noun
    place = f" at the {words['place']}" if "place" in words else ""
    rotation = f", {words['rotation']}" if "rotation" in words else ""
    return f"{'an' if first[0] in 'aeiou' else 'a'} {' '.join([*adjectives, noun])}{place}{rotation}"


class _Drawn(NamedTuple):
    """What decides the pictures: class numbers (N,) by attribute, and uniform jitters (N, 11) in [-1, 1]."""

    attributes: Batch
    jitter: Tensor


def _drawn(rng: np.random.Generator, num: int) -> _Drawn:
    attributes = {
        name: torch.from_numpy(rng.integers(len(classes), size=num)) for name, classes in CLASSES.items()
    }
    return _Drawn(attributes, torch.from_numpy(rng.uniform(-1, 1, (num, 11))).float())


def _label(attribute: str) -> Field:
    return Field("label", (), len(CLASSES[attribute]))


def _rendered(drawn: _Drawn, size: int) -> Tensor:
    """The pictures as uint8 (N, 3, size, size)."""
    pictures = torch.empty(len(drawn.jitter), 3, size, size, dtype=torch.uint8)
    for piece in chunks(len(pictures), _CHUNK):
        rows = torch.from_numpy(piece)
        part = _Drawn({name: v[rows] for name, v in drawn.attributes.items()}, drawn.jitter[rows])
        pictures[rows] = _picture(part, size).mul_(255).round_().clamp_(0, 255).to(torch.uint8)
    return pictures


def _picture(drawn: _Drawn, size: int) -> Tensor:
    """Pictures (n, 3, size, size) in [0, 1]: the shape's colour over the ground, by coverage."""
    of, jitter = drawn.attributes, drawn.jitter
    cell = torch.stack([of["place"] % 3 - 1, of["place"] // 3 - 1], dim=1)
    distance = distances(
        of["form"],
        0.5 + _CELL * cell + _PLACE_JITTER * jitter[:, :2],
        torch.tensor(_RADII)[of["size"]] + _RADIUS_JITTER * jitter[:, 2],
        _TURN * of["rotation"] + _ANGLE_JITTER * jitter[:, 3],
        size,
    )
    rim = (of["fill"] == CLASSES["fill"].index("outlined")).view(-1, 1, 1)
    inside = coverage(torch.where(rim, outlined(distance, _RIM), distance), size)[:, None]
    colour = torch.tensor(_COLOURS)[of["colour"]] * (0.9 + 0.1 * jitter[:, 4:5])
    return torch.lerp(_ground(jitter[:, 5:], size), colour[:, :, None, None], inside)


def _ground(jitter: Tensor, size: int) -> Tensor:
    """Dark grounds (n, 3, size, size) of varied grey, a varied tint, and a slope in a varied direction."""
    x, y = pixel_centres(size)
    slope_x, slope_y = (0.07 * jitter[:, i].view(-1, 1, 1) for i in (0, 1))
    level = (0.13 + 0.04 * jitter[:, 2]).view(-1, 1, 1) + slope_x * (x - 0.5) + slope_y * (y - 0.5)
    return (level[:, None] + 0.02 * jitter[:, 3:6, None, None]).clamp(min=0)

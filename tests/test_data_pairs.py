"""Pairs for translation: the picture follows from the map."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gans.data.forms import FORMS
from gans.data.pairs import ShapePairs
from tests.support.pictures import rows


def test_pairs_are_the_same_each_time_and_the_splits_share_none() -> None:
    config = ShapePairs(num=200)
    train, again, held = (config.load(s) for s in ("train", "train", "held_out"))  # type: ignore[arg-type]
    assert train.fingerprint() == again.fingerprint() != held.fingerprint()
    assert (len(train), len(held)) == (200, 1_000)
    assert not rows(train, "b") & rows(held, "b")
    assert ShapePairs(num=200, seed=3).load("train").fingerprint() != train.fingerprint()


@pytest.mark.parametrize("size", [16, 32, 64, 128])
@pytest.mark.parametrize(("source", "channels"), [("labels", 3), ("edges", 1)])
def test_maps_and_pictures_have_the_asked_shapes(size: Any, source: Any, channels: int) -> None:
    data = ShapePairs(size=size, source=source, num=4).load("train")
    shapes = {name: field.shape for name, field in data.spec.fields.items()}
    assert shapes == {"a": (channels, size, size), "b": (3, size, size)}
    for name, tensor in data.tensors.items():
        assert tensor.dtype == torch.uint8
        assert tuple(tensor.shape[1:]) == shapes[name]


def test_a_map_has_one_flat_colour_a_form_and_every_form_occurs() -> None:
    a = ShapePairs(num=300).load("train").tensors["a"]
    colours = a.permute(0, 2, 3, 1).reshape(-1, 3).unique(dim=0)
    assert len(colours) == len(FORMS) + 1
    shown = (a.amax(1) > 0).float().mean((1, 2))
    assert shown.min() > 0.02
    assert shown.max() < 0.5


def test_the_picture_follows_from_the_map() -> None:
    """One colour of the map is one mixture of colours in the picture, and the ground is the same everywhere."""
    data = ShapePairs(num=300, size=64).load("train").tensors
    a, b = data["a"].float().permute(0, 2, 3, 1), data["b"].float().permute(0, 2, 3, 1)
    red, green, blue, yellow = (
        b[(a == torch.tensor(c)).all(-1)].mean(0)
        for c in ([255.0, 0, 0], [0, 255.0, 0], [0, 0, 255.0], [255.0, 255.0, 0])
    )
    assert red[0] > red[1] > red[2]  # ovals are orange
    assert green[0] > 2 * green[2]  # squares are brick
    assert blue[1] > 1.3 * blue[0]  # triangles are leaves
    assert yellow[2] > yellow[0]  # crosses are steel
    assert b[:, :2].std(0).median() < 1  # above all shapes


def test_a_pair_shows_the_same_shapes_and_another_row_does_not() -> None:
    data = ShapePairs(num=100, size=64).load("train").tensors
    inside = (data["a"].amax(1) > 0).float()
    ground = data["b"].float().median(0).values
    differs = ((data["b"].float() - ground).abs().amax(1) > 40).float()

    def overlap(x: torch.Tensor, y: torch.Tensor) -> float:
        return float(((x * y).sum((1, 2)) / x.sum((1, 2))).mean())

    assert overlap(inside, differs) > 0.9
    assert overlap(inside, differs.roll(1, 0)) < 0.75


def test_both_sources_draw_the_same_scenes_and_edges_surround_the_map() -> None:
    maps = ShapePairs(num=50, size=64).load("train").tensors
    edges = ShapePairs(num=50, size=64, source="edges").load("train").tensors
    assert torch.equal(maps["b"], edges["b"])
    line, inside = edges["a"][:, 0] > 128, maps["a"].amax(1) > 0
    assert (line & inside).sum() > 0.9 * line.sum()
    assert 0.2 < line.sum() / inside.sum() < 0.6


def test_bad_options_are_told_with_what_is_allowed() -> None:
    with pytest.raises(ValueError, match="'labels' or 'edges'"):
        ShapePairs(source="sketch")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        ShapePairs(num=0)

"""Procedural shapes: what is seen in a picture is what its labels and its caption say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gans.data import to_float
from gans.data.forms import FORMS, coverage, distances
from gans.data.shapes import CLASSES, Shapes, caption
from tests.support.pictures import everything, rows

ALL: Any = tuple(CLASSES)


def ink(x: Tensor) -> Tensor:
    """How far each pixel (N, H, W) of uint8 pictures stands out from the dark ground, in [0, 1]."""
    return ((x.float() / 255).amax(1) - 0.3).clamp(min=0) / 0.7


def centred(mask: Tensor, size: int) -> Tensor:
    """Crops (N, size, size) of masks about their centres of mass."""
    height = mask.shape[-1]
    line = torch.arange(height).float()
    mass = mask.sum((1, 2))
    tops = ((mask.sum(2) * line).sum(1) / mass - (size - 1) / 2).round().long()
    lefts = ((mask.sum(1) * line).sum(1) / mass - (size - 1) / 2).round().long()
    padded = torch.nn.functional.pad(mask, [size] * 4)
    cuts = [m[y : y + size, x : x + size] for m, y, x in zip(padded, tops + size, lefts + size, strict=True)]
    return torch.stack(cuts)


@pytest.fixture(scope="module")
def shapes() -> dict[str, Tensor]:
    return Shapes(num=2_000, size=64, attributes=ALL).load("train").tensors


def test_shapes_are_the_same_each_time_and_the_splits_share_none() -> None:
    config = Shapes(num=300)
    train, again, held = (config.load(s) for s in ("train", "train", "held_out"))  # type: ignore[arg-type]
    assert train.fingerprint() == again.fingerprint() != held.fingerprint()
    assert train.fingerprint() != Shapes(num=300, seed=1).load("train").fingerprint()
    assert (len(train), len(held)) == (300, 1_000)
    assert len(rows(train)) == 300
    assert not rows(train) & rows(held)


@pytest.mark.parametrize("size", [16, 32, 64, 128])
def test_shapes_have_the_asked_size_and_named_labels(size: Any) -> None:
    data = Shapes(num=8, size=size, label="colour", attributes=("fill", "place")).load("train")
    assert data.spec.x.shape == tuple(data.tensors["x"].shape[1:]) == (3, size, size)
    assert data.tensors["x"].dtype == torch.uint8
    classes = {name: field.num_classes for name, field in data.spec.fields.items() if name != "x"}
    assert classes == {"label": 5, "fill": 2, "place": 9}
    assert data.tensors.keys() == data.spec.fields.keys()


def test_every_class_of_every_attribute_is_equally_frequent(shapes: dict[str, Tensor]) -> None:
    for name, classes in CLASSES.items():
        counts = shapes[name].bincount(minlength=len(classes)) / len(shapes["x"])
        assert torch.allclose(counts, torch.tensor(1 / len(classes)), atol=0.04), name
    assert torch.equal(shapes["label"], shapes["form"])


def test_colour_label_is_the_hue_that_is_seen(shapes: dict[str, Tensor]) -> None:
    x, mask = shapes["x"].float(), ink(shapes["x"])[:, None]
    seen = (x * mask).sum((2, 3)) / mask.sum((2, 3))
    pure = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1]])
    likeness = torch.cosine_similarity(
        seen[:, None] - seen.mean(1)[:, None, None], pure - pure.mean(1)[:, None], -1
    )
    assert (likeness.argmax(1) == shapes["colour"]).float().mean() > 0.999


def test_place_size_and_fill_are_where_and_how_much_ink_there_is(shapes: dict[str, Tensor]) -> None:
    mask = (ink(shapes["x"]) > 0.3).float()
    line = (torch.arange(64) + 0.5) / 64 - 0.5
    column = (mask.sum(1) * line).sum(1) / mask.sum((1, 2))
    row = (mask.sum(2) * line).sum(1) / mask.sum((1, 2))
    cell = (3 * (row / 0.18).round().clamp(-1, 1) + (column / 0.18).round().clamp(-1, 1) + 4).long()
    assert (cell == shapes["place"]).float().mean() > 0.99
    extent = torch.maximum((mask.amax(1) > 0).sum(1), (mask.amax(2) > 0).sum(1)) / 64
    upright = shapes["rotation"] == 0
    assert ((extent > 0.42).long() == shapes["size"])[upright].float().mean() > 0.99
    middle = centred(mask, 5).mean((1, 2))
    assert ((middle < 0.5).long() == shapes["fill"]).float().mean() > 0.99


def test_form_and_rotation_are_those_of_the_nearest_template(shapes: dict[str, Tensor]) -> None:
    kinds = [(form, turned) for form in range(len(FORMS)) for turned in range(2)]
    form, turned = (torch.tensor(v) for v in zip(*kinds, strict=True))
    num = len(kinds)
    middle, radius = torch.full((num, 2), 0.5), torch.full((num,), 0.285)
    templates = coverage(distances(form, middle, radius, turned * torch.pi / 4, 64), 64)
    some = (shapes["fill"] == 0) & (shapes["size"] == 1)
    likeness = torch.cosine_similarity(
        centred(ink(shapes["x"][some]), 48).flatten(1)[:, None], centred(templates, 48).flatten(1), -1
    )
    found = likeness.argmax(1)
    assert (form[found] == shapes["form"][some]).float().mean() > 0.99
    assert (turned[found] == shapes["rotation"][some]).float().mean() > 0.98


def test_edges_are_smooth_and_a_picture_shrinks_to_the_smaller_one() -> None:
    large, small = (Shapes(num=50, size=s).load("train").tensors["x"].float() for s in (64, 32))  # type: ignore[arg-type]
    shrunk = torch.nn.functional.avg_pool2d(large, 2)
    assert (shrunk - small).abs().mean() < 1.0
    assert len(small.unique()) > 100


def test_captions_say_what_the_labels_say() -> None:
    config = Shapes(num=40, label="colour", attributes=ALL)
    batch = everything(config.load("train"))
    for i, text in enumerate(config.captions(batch)):
        for name in CLASSES:
            assert CLASSES[name][int(batch[name][i])] in text
    numbers = {"size": 1, "colour": 0, "fill": 1, "form": 3, "place": 0, "rotation": 0}
    assert caption(numbers) == "a large red outlined cross at the top left, upright"
    assert caption({"form": 0}) == "an oval"
    assert caption({"fill": 1, "place": 4}) == "an outlined shape at the centre"


def test_captions_of_equal_attributes_are_equal_whatever_the_picture() -> None:
    config = Shapes(num=400, label="form")
    told = config.captions(everything(config.load("train")))
    assert sorted(set(told)) == ["a cross", "a square", "a triangle", "an oval"]


def test_a_row_of_several_sets_carries_the_labels_of_its_own_set_alone() -> None:
    config = Shapes(num=60, attributes=("fill", "size"), sets=(("colour", "rotation"), ("fill",)))
    data, full = config.load("train"), Shapes(num=60, attributes=ALL).load("train").tensors
    member = data.tensors["set"]
    assert data.spec.fields["set"].num_classes == 2
    assert member.tolist() == [0, 1] * 30
    for own, names in enumerate(config.sets):
        for name in names:
            assert torch.equal(data.tensors[name], full[name] * (member == own))
    assert torch.equal(data.tensors["size"], full["size"])  # in no set: always known
    assert torch.equal(data.tensors["x"], full["x"])
    first, second = config.captions(everything(data))[:2]
    assert "upright" in first or "turned" in first
    assert "filled" in second or "outlined" in second
    assert not set(CLASSES["fill"]) & set(first.split())
    assert not {*CLASSES["colour"], *CLASSES["rotation"]} & set(second.replace(",", "").split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attributes": ("fill", "fill")}, "may be named once"),
        ({"sets": (("fill",),)}, "two or more sets"),
        ({"sets": (("fill",), ())}, "two or more sets"),
        ({"sets": (("fill", "colour"), ("fill",))}, "without a common attribute"),
        ({"sets": (("form",), ("fill",))}, "label 'form' is in sets.*`label` may be colour, size"),
        ({"label": "shade"}, "'colour', 'form', 'size'"),
        ({"size": 24}, "16, 32, 64 or 128"),
    ],
)
def test_bad_options_are_told_with_what_is_allowed(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Shapes(**options)


def test_the_ground_varies_and_stays_dark() -> None:
    x = to_float(Shapes(num=200).load("train").tensors)["x"]
    corner = x[:, :, -1, -1]
    dark = corner[corner.amax(1) < -0.3]
    assert len(dark) > 150
    assert (dark.std(0) > 0.03).all()
    assert np.isfinite(x.numpy()).all()

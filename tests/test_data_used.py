"""The procedural and derived data sets in the house: overrides, checks before a run, sample inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gans.data import DataConfig
from gans.data.images import Images
from gans.data.lowres import LowRes
from gans.data.pairs import ShapePairs
from gans.data.photos import PhotoDomains, Photos
from gans.data.shapes import Shapes
from gans.data.stacked import StackedDigits
from gans.family import Family
from gans.sampling import balanced, real_inputs
from orchestrator.errors import ConfigError, DataError
from orchestrator.experiment import parse
from orchestrator.preflight import check_data
from orchestrator.recipes import load
from tests.support.pictures import folder, truncate

CPU = torch.device("cpu")


class Conditional(Family):
    """Inputs alone; it is never trained."""


@pytest.mark.parametrize(
    ("data", "inputs"),
    [
        (Shapes(num=20, attributes=("colour",), sets=(("fill",), ("size",))), ("x", "colour", "set")),
        (ShapePairs(num=20), ("a",)),
        (LowRes(of=Photos(num=20), factor=2), ("low",)),
        (PhotoDomains(num=20), ("a", "b")),
        (StackedDigits(num=20, labelled=True), ("x",)),
    ],
)
def test_sample_inputs_are_rows_of_the_held_out_data(
    data: DataConfig, inputs: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out = data.load("held_out")
    monkeypatch.setattr(Conditional, "inputs", inputs)
    family = Conditional()
    rows = real_inputs(family, held_out, 6, CPU)
    assert rows.keys() == set(inputs)
    assert all(len(v) == 6 for v in rows.values())
    for name, values in rows.items():
        image = held_out.spec.fields[name].kind == "image"
        assert values.dtype == (torch.float32 if image else torch.int64)
        assert tuple(values.shape[1:]) == held_out.spec.fields[name].shape
    assert balanced(family, held_out.spec, 6, held_out, CPU).keys() == set(inputs)


@pytest.mark.parametrize(
    ("recipe", "data"),
    [
        ("vanilla.digits", {"kind": "shapes", "num": 30, "label": "colour"}),
        ("vanilla.digits", {"kind": "photos", "num": 30, "size": 16}),
        ("vanilla.digits", {"kind": "stacked_digits", "num": 30, "size": 8}),
        ("vanilla.digits", {"kind": "lowres", "of": {"kind": "photos", "num": 30}, "factor": 2}),
        ("cyclegan.digits", {"kind": "photo_domains", "num": 30, "size": 16}),
        ("cyclegan.digits", {"kind": "shape_pairs", "num": 30, "size": 16}),
    ],
)
def test_data_survives_json_and_passes_the_checks_before_a_run(recipe: str, data: dict[str, Any]) -> None:
    document = load(recipe).override({"train.batch": 8}).document() | {"data": data}
    experiment = parse(document)
    assert parse(experiment.document()) == experiment
    check_data(experiment)


def test_a_mistake_within_data_is_told_with_its_field() -> None:
    document = load("vanilla.digits").document()
    with pytest.raises(ConfigError, match=r"num 99999: there are 9750 different crops"):
        parse(document | {"data": {"kind": "photos", "num": 99_999}})
    with pytest.raises(ConfigError, match="unknown data kind 'photo'; did you mean `photos`"):
        parse(document | {"data": {"kind": "lowres", "of": {"kind": "photo"}}})


def test_checks_decode_nothing_of_data_within_data(tmp_path: Path) -> None:
    for path in folder(tmp_path, 40).rglob("*.png"):
        truncate(path)  # the headers stay readable
    data = LowRes(of=Images(path=str(tmp_path), held_out=0.5), factor=2)
    document = load("vanilla.digits").override({"train.batch": 2}).document()
    check_data(parse(document | {"data": data.model_dump()}))


def test_too_few_held_out_for_metrics_is_told_before_a_run(tmp_path: Path) -> None:
    document = load("vanilla.digits").override({"train.batch": 2}).document()
    data = Images(path=str(folder(tmp_path, 30)), held_out=0.1).model_dump()
    with pytest.raises(DataError, match=r"the held-out split has \d samples; metrics need at least 8"):
        check_data(parse(document | {"data": data}))

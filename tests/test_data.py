"""The data sets that need no files: digits, points, and pairs of domains."""

from __future__ import annotations

import json

import pytest
import torch

from gans.data import KINDS, DataConfig, data_config, to_float
from gans.data.digits import Digits
from gans.data.domains import DigitDomains, Domains, transform
from gans.data.points import Grid, Ring
from gans.errors import ConfigError
from tests.support.pictures import (
    everything,
    rows,
)


@pytest.mark.parametrize("tag", KINDS)
def test_every_kind_names_a_config_class_with_that_kind(tag: str) -> None:
    config = data_config(tag)
    assert issubclass(config, DataConfig)
    assert config.model_fields["kind"].default == tag


def test_unknown_kind_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="did you mean `digits`"):
        data_config("digit")


def test_digits_hold_out_40_of_each_class_and_share_none_with_training() -> None:
    train, held = Digits().load("train"), Digits().load("held_out")
    assert (len(train), len(held)) == (1397, 400)
    assert torch.equal(held.tensors["label"].bincount(), torch.full((10,), 40))
    digits = torch.cat([train.tensors["x"], held.tensors["x"]]).float().flatten(1)
    from sklearn.datasets import load_digits

    real = torch.from_numpy(load_digits().data).float() * (255 / 16)
    assert torch.equal(digits.round().sum(1).sort()[0], real.round().sum(1).sort()[0])


@pytest.mark.parametrize("size", [8, 16, 32, 64])
def test_digits_have_the_asked_size_and_use_the_whole_range(size: int) -> None:
    data = Digits(size=size).load("held_out")  # type: ignore[arg-type]
    x = to_float(data.tensors)["x"]
    assert data.spec.x.shape == tuple(x.shape[1:]) == (1, size, size)
    assert data.tensors["x"].dtype == torch.uint8
    assert (x.min(), x.max()) == (-1, 1)


def test_digits_of_some_classes_number_them_in_the_order_given() -> None:
    data = Digits(classes=(7, 1)).load("train")
    full = Digits().load("train")
    assert data.spec.num_classes == 2
    sevens = full.tensors["x"][full.tensors["label"] == 7]
    assert torch.equal(data.tensors["x"][data.tensors["label"] == 0], sevens)
    assert "label" not in Digits(labelled=False).load("train").spec.fields


def test_digits_refuse_a_class_that_is_no_digit() -> None:
    with pytest.raises(ValueError, match=r"distinct digits 0\.\.9"):
        Digits(classes=(3, 10))


@pytest.mark.parametrize(("config", "num_modes", "sigma"), [(Ring(), 8, 0.01), (Grid(), 25, 0.05)])
def test_points_lie_around_distinct_modes_as_in_pacgan(
    config: DataConfig, num_modes: int, sigma: float
) -> None:
    data = config.load("train")
    assert data.modes is not None
    assert data.modes.centres.shape == (num_modes, 2)
    gaps = torch.cdist(data.modes.centres, data.modes.centres).fill_diagonal_(9)
    assert gaps.min() > 0.7
    x = everything(data)["x"]
    assert x.shape == (100_000, 2)
    distance, mode = torch.cdist(x, data.modes.centres).min(dim=1)
    assert torch.allclose(mode.bincount() / len(x), torch.tensor(1 / num_modes), rtol=0.1)
    assert (distance.square().mean() / 2).sqrt().item() == pytest.approx(sigma, rel=0.01)
    assert (distance < 3 * sigma).float().mean().item() == pytest.approx(0.989, abs=0.002)


def test_ring_has_radius_one_and_grid_spans_minus_four_to_four() -> None:
    ring, grid = Ring(num=1).load("train").modes, Grid(num=1).load("train").modes
    assert ring is not None
    assert grid is not None
    assert torch.allclose(ring.centres.norm(dim=1), torch.ones(8))
    assert grid.centres.unique().tolist() == [-4, -2, 0, 2, 4]


def test_points_are_the_same_each_time_and_fresh_in_the_held_out_split() -> None:
    first, again, held = (Ring(num=50).load(s) for s in ("train", "train", "held_out"))  # type: ignore[arg-type]
    assert first.fingerprint() == again.fingerprint() != held.fingerprint()
    assert not rows(first) & rows(held)


def test_digit_domains_share_no_digit_and_transform_is_the_true_map() -> None:
    data = DigitDomains().load("train")
    batch = everything(data)
    assert set(data.spec.fields) == {"a", "b"}
    mapped = transform(to_float(batch)["a"]).add(1).mul(127.5).round().to(torch.uint8)
    assert not {m.numpy().tobytes() for m in mapped} & rows(data, "b")
    source = to_float(everything(Digits(size=16, labelled=False).load("train")))["x"]
    true = {m.numpy().tobytes() for m in transform(source).add(1).mul(127.5).round().to(torch.uint8)}
    assert rows(data, "b") < true
    assert len(rows(data, "a")) + len(rows(data, "b")) == 1397


def test_domains_never_show_a_pair_and_visit_every_sample_once_an_epoch() -> None:
    digits = Digits(labelled=False)
    data = Domains(a=digits, b=digits).load("held_out")  # as paired as can be
    assert (everything(data)["a"] != everything(data)["b"]).flatten(1).any(1).all()
    pairs = []
    for epoch in range(5):
        batch = data.fetch(data.order(seed=1, epoch=epoch))
        assert (batch["a"] != batch["b"]).flatten(1).any(1).all()
        one_of_each = {sample.numpy().tobytes() for sample in batch["a"]}
        assert one_of_each == {sample.numpy().tobytes() for sample in batch["b"]}
        pairs.append(
            {a.numpy().tobytes() + b.numpy().tobytes() for a, b in zip(*batch.values(), strict=True)}
        )
    assert len(pairs[0] & pairs[1]) < 20  # paired afresh in each epoch


def test_domains_of_unequal_length_visit_the_longer_one_once() -> None:
    data = Domains(a=Ring(num=3), b=Ring(num=10)).load("train")
    batch = data.fetch(data.order(seed=0, epoch=0))
    assert len(data) == 10
    assert len({tuple(x) for x in batch["b"].tolist()}) == 10
    assert len({tuple(x) for x in batch["a"].tolist()}) == 3


def test_domains_are_rebuilt_from_their_json() -> None:
    config = Domains(a=Digits(size=16), b=Grid(num=7))
    told = json.loads(config.model_dump_json())
    assert told["a"] == {"kind": "digits", "size": 16, "labelled": True, "classes": None}
    assert data_config(told["kind"]).model_validate(told) == config
    with pytest.raises(ValueError, match="unknown data kind 'grd'; did you mean `grid`"):
        Domains.model_validate({"a": told["a"], "b": {"kind": "grd"}})

"""Photo crops, domains made of them, and low-resolution views."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gans.data import DataConfig, Loader, Resident, to_float
from gans.data.digits import Digits
from gans.data.images import Images
from gans.data.lowres import LowRes, Reduced, reduced
from gans.data.photos import EDGES, PhotoDomains, Photos, crops, transform
from gans.data.points import Ring
from gans.errors import DataError
from tests.support.pictures import everything, folder, rows


@pytest.mark.parametrize("config", [Photos(num=300), PhotoDomains(num=300)])
def test_crops_are_the_same_each_time_and_differ_by_seed(config: DataConfig) -> None:
    train, again, held = (config.load(s) for s in ("train", "train", "held_out"))  # type: ignore[arg-type]
    assert train.fingerprint() == again.fingerprint() != held.fingerprint()
    assert config.model_copy(update={"seed": 1}).load("train").fingerprint() != train.fingerprint()
    assert (len(train), len(held)) == (300, 1_000)


@pytest.mark.parametrize("size", [16, 32, 64, 128])
def test_crops_have_the_asked_size_and_are_pieces_of_the_photos(size: Any) -> None:
    data = Photos(size=size, num=10, scale=1, labelled=True).load("train")
    assert data.spec.x.shape == tuple(data.tensors["x"].shape[1:]) == (3, size, size)
    assert data.spec.num_classes == 2
    from sklearn.datasets import load_sample_images

    photos = load_sample_images().images
    for crop, label in zip(data.tensors["x"], data.tensors["label"].tolist(), strict=True):
        pixels = crop.permute(1, 2, 0).numpy()
        assert any(found(photos[label][:, EDGES[label] :], p) for p in (pixels, pixels[:, ::-1]))


def found(photo: np.ndarray, crop: np.ndarray) -> bool:
    size = len(crop)
    starts = np.argwhere((photo == crop[0, 0]).all(-1))
    return any(np.array_equal(photo[y : y + size, x : x + size], crop) for y, x in starts)


@pytest.mark.parametrize("options", [{}, {"size": 16}, {"size": 64}, {"size": 128}, {"scale": 3}])
def test_held_out_crops_share_no_column_with_training_crops(options: dict[str, Any]) -> None:
    config = Photos(num=10, **options)
    train, held = config._places("train"), config._places("held_out")
    for photo, edge in enumerate(EDGES):
        last = held[held[:, 0] == photo][:, 2].max() + config.size  # one beyond
        first = train[train[:, 0] == photo][:, 2].min()
        assert last * config._scale <= edge <= first * config._scale
    assert not rows(config.load("train")) & rows(config.load("held_out"))


def test_scale_averages_blocks_of_the_photo() -> None:
    from sklearn.datasets import load_sample_images

    config = Photos(num=5, scale=4, labelled=True)
    blocks = np.stack(load_sample_images().images)[:, :424].reshape(2, 106, 4, 160, 4, 3).mean((2, 4))
    data = config.load("train").tensors
    for crop, label in zip(data["x"], data["label"].tolist(), strict=True):
        pixels, photo = crop.permute(1, 2, 0).numpy(), blocks[label].round().astype(np.uint8)
        assert any(found(photo, p) for p in (pixels, pixels[:, ::-1]))


def test_photo_domains_share_no_crop_and_transform_is_the_true_map() -> None:
    data = PhotoDomains(num=500).load("train")
    batch = everything(data)
    assert set(data.spec.fields) == {"a", "b"}
    mapped = transform(to_float(batch)["a"]).add(1).mul(127.5).round().to(torch.uint8)
    assert not {m.numpy().tobytes() for m in mapped} & rows(data, "b")
    x = torch.rand(2, 3, 4, 4) * 2 - 1
    back = (transform(x) + 1) / 0.75 - 1
    assert torch.allclose(back.flip(1), x, atol=1e-6)
    assert transform(x).abs().max() <= 1
    every = crops(Photos()._places("train"), scale=4, size=32)
    every = torch.cat([every, every.flip(-1)])  # there is no more to draw from
    dusk = transform(to_float({"x": every})["x"]).add(1).mul(127.5).round().to(torch.uint8)
    assert rows(data, "b") < {m.numpy().tobytes() for m in dusk}
    assert rows(data, "a") < {m.numpy().tobytes() for m in every}


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Photos, {"size": 128, "scale": 4}, "does not fit into the held-out part.*lower `scale` or `size`"),
        (Photos, {"num": 9_751}, "num 9751: there are 9750 different crops"),
        (PhotoDomains, {"num": 4_876}, "4875 different crops .* for each domain"),
        (Photos, {"scale": 0}, "greater than or equal to 1"),
        (Photos, {"size": 48}, "16, 32, 64 or 128"),
    ],
)
def test_bad_options_are_told_with_what_is_allowed(
    kind: type[DataConfig], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**options)


# --- low resolution


@pytest.mark.parametrize("factor", [2, 4])
def test_low_is_the_rounded_bicubic_reduction_of_x(factor: Any) -> None:
    data = LowRes(of=Photos(num=20, labelled=True), factor=factor).load("train")
    assert isinstance(data, Resident)
    assert list(data.spec.fields) == ["x", "label", "low"]
    side = 32 // factor
    assert data.spec.fields["low"].shape == tuple(data.tensors["low"].shape[1:]) == (3, side, side)
    assert torch.equal(data.tensors["x"], Photos(num=20).load("train").tensors["x"])
    assert torch.equal(data.tensors["low"], reduced(data.tensors["x"], factor))
    flat = torch.full((1, 3, 32, 32), 77, dtype=torch.uint8)
    assert (reduced(flat, factor) == 77).all()
    means = [data.tensors[name].float().mean((1, 2, 3)) for name in ("x", "low")]
    assert torch.allclose(*means, atol=3)


def test_reduction_agrees_with_pillows_bicubic_which_the_field_uses() -> None:
    from PIL import Image

    x = everything(Photos(num=1, size=64).load("train"))["x"]
    small = Image.fromarray(x[0].permute(1, 2, 0).numpy()).resize((16, 16), Image.Resampling.BICUBIC)
    theirs = torch.from_numpy(np.asarray(small).copy()).permute(2, 0, 1)
    assert (reduced(x, 4)[0].int() - theirs.int()).abs().max() <= 1


def test_a_streamed_set_is_reduced_when_it_is_fetched(tmp_path: Path) -> None:
    path = str(folder(tmp_path, 12))
    held: DataConfig = LowRes(of=Images(path=path, held_out=0), factor=2)
    streamed = LowRes(of=Images(path=path, held_out=0, resident_bytes=0), factor=2)
    resident, stream = held.load("train"), streamed.load("train")
    assert streamed.path == path
    assert isinstance(resident, Resident)
    assert isinstance(stream, Reduced)
    assert stream.spec == resident.spec
    assert rows(stream, "low") == rows(resident, "low")
    assert stream.skipped.count == 0
    assert stream.fingerprint() == streamed.load("train").fingerprint()
    assert stream.fingerprint() != LowRes(of=streamed.of, factor=4).load("train").fingerprint()
    loader = Loader(stream, 4, seed=0)
    assert loader.next()["low"].shape == (4, 3, 4, 4)
    loader.close()


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (3, "data.factor 4 is larger than the pictures of data.of, 3 x 3"),
        (10, "data.factor 4 does not divide the pictures of data.of, 10 x 10"),
    ],
)
def test_pictures_that_do_not_fit_the_factor_are_refused(tmp_path: Path, size: int, message: str) -> None:
    images = Images(path=str(folder(tmp_path, 4, size=(size, size))), held_out=0)
    with pytest.raises(DataError, match=message):
        LowRes(of=images, factor=4).load("train")


def test_data_without_pictures_is_refused_and_json_rebuilds_the_view() -> None:
    with pytest.raises(DataError, match=r"kind 'ring' has no pictures `x`; its fields: x \(vector\)"):
        LowRes(of=Ring(num=4)).load("train")
    with pytest.raises(DataError, match=r"no pictures `x`; its fields: a \(image\), b \(image\)"):
        LowRes(of=PhotoDomains(num=4)).load("train")
    config = LowRes(of=Digits(size=16), factor=2)
    assert LowRes.model_validate_json(config.model_dump_json()) == config

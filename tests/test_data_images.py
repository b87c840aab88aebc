"""Folders of images: splits, classes, formats, and what bad files say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gans.data.decode import decode
from gans.data.images import Images
from gans.errors import DataError
from tests.support.pictures import (
    FakeBucket,
    encoded,
    everything,
    folder,
    picture,
    pixels,
    rows,
    truncate,
)


def test_folder_splits_are_disjoint_and_no_image_moves_when_files_are_added(tmp_path: Path) -> None:
    config = Images(path=str(folder(tmp_path, 40)), held_out=0.25)
    train, held = rows(config.load("train")), rows(config.load("held_out"))
    assert not train & held
    assert len(train) + len(held) == 40
    folder(tmp_path, 80)
    assert train < rows(config.load("train"))
    assert held < rows(config.load("held_out"))


def test_split_depends_on_the_path_below_the_folder_alone(tmp_path: Path) -> None:
    here, there = folder(tmp_path / "here"), folder(tmp_path / "there" / "deeper")
    trailing = Images(path=f"{there}/").load("held_out")
    assert rows(Images(path=str(here)).load("held_out")) == rows(trailing)


def test_folder_names_are_classes_that_both_splits_share(tmp_path: Path) -> None:
    config = Images(path=str(folder(tmp_path)), labels="folder")
    train = config.load("train")
    assert train.spec.num_classes == config.load("held_out").spec.num_classes == 2
    batch = everything(train)
    for image, label in zip(batch["x"], batch["label"].tolist(), strict=True):
        [name] = [p.parent.name for p in tmp_path.rglob("*.png") if torch.equal(pixels(p), image)]
        assert name == ("cat", "dog")[label]


@pytest.mark.parametrize(("form", "options"), [("WEBP", {"lossless": True}), ("JPEG", {"quality": 95})])
def test_webp_and_jpeg_are_read(tmp_path: Path, form: str, options: dict[str, Any]) -> None:
    image = Image.new("RGB", (8, 8), (200, 100, 50))
    (tmp_path / f"a.{form.lower()}").write_bytes(encoded(image, form, **options))
    (tmp_path / "notes.txt").write_text("no image")
    data = Images(path=str(tmp_path), held_out=0).load("train")
    assert data.spec.x.shape == (3, 8, 8)
    colour = everything(data)["x"].float().mean(dim=(0, 2, 3))
    assert torch.allclose(colour, torch.tensor([200.0, 100.0, 50.0]), atol=3)


def test_size_scales_the_shorter_side_and_crops_the_centre(tmp_path: Path) -> None:
    wide = Image.new("RGB", (64, 16), "red")
    wide.paste("blue", (20, 0, 44, 16))
    wide.save(tmp_path / "wide.png")
    data = Images(path=str(tmp_path), size=8, held_out=0).load("train")
    assert data.spec.x.shape == (3, 8, 8)
    red, _, blue = everything(data)["x"].float().mean(dim=(0, 2, 3))
    assert red < 5
    assert blue > 250


def test_exif_orientation_is_applied_to_size_andpixels(tmp_path: Path) -> None:
    image = Image.new("RGB", (12, 8), "black")
    image.paste("white", (0, 0, 4, 8))  # the left; orientation 6 shows it on top
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    data = Images(path=str(tmp_path), held_out=0).load("train")
    assert data.spec.x.shape == (3, 12, 8)
    x = everything(data)["x"].float()
    assert x[:, :, :3].mean() > 240
    assert x[:, :, 6:].mean() < 15


def test_alpha_is_composited_over_white_and_16_bit_grey_is_scaled() -> None:
    clear = Image.new("RGBA", (2, 2), (0, 0, 0, 0))
    assert (decode(encoded(clear), None, None) == 255).all()
    deep = Image.fromarray(np.array([[0, 257 * 128], [257 * 255, 257]], dtype=np.uint16))
    assert decode(encoded(deep), None, None).tolist() == [[[0, 128], [255, 1]]]


@pytest.mark.parametrize("resident_bytes", [0, 2**30])
def test_truncated_and_alien_files_are_skipped_counted_and_named(tmp_path: Path, resident_bytes: int) -> None:
    paths = sorted(folder(tmp_path).rglob("*.png"))
    truncate(paths[3])
    paths[7].write_text("this is no image")
    config = Images(path=str(tmp_path), held_out=0, max_skipped=0.05, resident_bytes=resident_bytes)
    data = config.load("train")
    good = {pixels(p).numpy().tobytes() for i, p in enumerate(paths) if i not in (3, 7)}
    assert rows(data) == good
    assert data.skipped.count == 2
    named = " ".join(sorted(data.skipped.named))
    assert paths[3].name in named
    assert f"{paths[7].name} (not an image)" in named


@pytest.mark.parametrize("resident_bytes", [0, 2**30])
def test_more_undecodable_images_than_allowed_stop_the_run(tmp_path: Path, resident_bytes: int) -> None:
    paths = sorted(folder(tmp_path).rglob("*.png"))
    for path in paths[:3]:
        truncate(path)
    config = Images(path=str(tmp_path), held_out=0, max_skipped=0.05, resident_bytes=resident_bytes)
    with pytest.raises(DataError, match=rf"3 of 40 images.*max_skipped=0\.05: .*{paths[0].name}"):
        everything(config.load("train"))


def test_streamed_undecodable_image_is_replaced_by_the_next_decodable_one(tmp_path: Path) -> None:
    paths = sorted(folder(tmp_path).rglob("*.png"))
    truncate(paths[-1])
    truncate(paths[3])
    data = Images(path=str(tmp_path), held_out=0, labels="folder", resident_bytes=0).load("train")
    batch = data.fetch(np.array([3, 39, 4]))
    wanted = [pixels(p) for p in (paths[4], paths[0], paths[4])]
    assert torch.equal(batch["x"], torch.stack(wanted))
    assert batch["label"].tolist() == [0, 0, 0]
    assert data.skipped.count == 2


def test_mixed_channels_are_an_error_that_names_examples_and_the_way_out(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "grey.png").write_bytes(encoded(picture(1, mode="L")))
    with pytest.raises(DataError, match=r"'grey\.png'.*data\.channels=3 or data\.channels=1"):
        Images(path=str(tmp_path)).load("train")
    for channels in (1, 3):
        data = Images(path=str(tmp_path), channels=channels, held_out=0).load("train")  # type: ignore[arg-type]
        assert everything(data)["x"].shape == (41, channels, 8, 8)


def test_mixed_sizes_are_an_error_that_lists_them(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "wide.png").write_bytes(encoded(picture(1, size=(12, 8))))
    with pytest.raises(DataError, match=r"8x8 \(40 images\), 12x8 \(1 images\): set data\.size"):
        Images(path=str(tmp_path)).load("train")


def test_empty_folder_and_missing_folder_are_errors_that_name_the_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"no image below data.path '{tmp_path}'.*\.png, \.jpg"):
        Images(path=str(tmp_path)).load("train")
    with pytest.raises(DataError, match="does not exist"):
        Images(path=str(tmp_path / "nowhere")).load("train")


def test_a_split_without_an_image_is_an_error(tmp_path: Path) -> None:
    folder(tmp_path, 1)
    with pytest.raises(DataError, match=r"held_out split \(1 images, data\.held_out=0\.0\)"):
        Images(path=str(tmp_path), held_out=0).load("held_out")


def test_a_file_that_vanished_is_one_clear_error_and_not_an_undecodable_image(tmp_path: Path) -> None:
    data = Images(path=str(folder(tmp_path)), held_out=0, resident_bytes=0).load("train")
    next(tmp_path.rglob("000.png")).unlink()
    with pytest.raises(DataError, match=r"cannot read '.*000\.png'"):
        everything(data)


def test_images_come_from_a_bucket_through_files(tmp_path: Path) -> None:
    root = folder(tmp_path)
    bucket = FakeBucket({f"s3://b/pets/{p.relative_to(root)}": p.read_bytes() for p in root.rglob("*.png")})
    remote = Images(path="s3://b/pets", labels="folder").load("train", bucket)
    local = Images(path=str(root), labels="folder").load("train")
    assert remote.fingerprint() == local.fingerprint()


def test_streamed_fingerprint_changes_with_the_files_and_the_split(tmp_path: Path) -> None:
    config = Images(path=str(folder(tmp_path)), resident_bytes=0)
    before = config.load("train").fingerprint()
    assert before == config.load("train").fingerprint() != config.load("held_out").fingerprint()
    folder(tmp_path, 41)
    assert config.load("train").fingerprint() != before

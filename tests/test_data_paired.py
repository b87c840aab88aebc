"""Pairs of one's own: folders of equal names, pictures that hold both sides, and what is told of those that do not."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gans.data.base import Dataset, LocalFiles
from gans.data.digits import Digits
from gans.data.domains import Domains
from gans.data.images import Images
from gans.data.paired import Pairs
from gans.errors import DataError
from tests.support.commands import ganctl, refused
from tests.support.pictures import FakeBucket, encoded, everything, picture, pixels, rows, truncate
from tests.support.threads import one_thread as one_thread
from tests.test_readme import ROOT, commands


def folders(root: Path, num: int = 20, b_mode: str = "RGB", **options: Any) -> Path:
    """`num` pairs below a and b, one of two in a folder deeper; picture i is of seed i in a and of 1000 + i in b."""
    for i in range(num):
        name = f"{'deep/' if i % 2 else ''}{i:03}.png"
        for side, image in (("a", picture(i, **options)), ("b", picture(1000 + i, mode=b_mode, **options))):
            path = root / side / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(image))
    return root


def aligned(root: Path, num: int = 20, size: tuple[int, int] = (8, 8)) -> Path:
    """The same pairs side by side."""
    root.mkdir(parents=True, exist_ok=True)
    for i in range(num):
        both = Image.new("RGB", (2 * size[0], size[1]))
        both.paste(picture(i, size), (0, 0))
        both.paste(picture(1000 + i, size), (size[0], 0))
        both.save(root / f"{i:03}.png")
    return root


def pairs(dataset: Dataset) -> set[tuple[bytes, bytes]]:
    batch = everything(dataset)
    return {(a.numpy().tobytes(), b.numpy().tobytes()) for a, b in zip(batch["a"], batch["b"], strict=True)}


def expected(num: int = 20) -> set[tuple[bytes, bytes]]:
    def blob(seed: int) -> bytes:
        return np.ascontiguousarray(np.asarray(picture(seed)).transpose(2, 0, 1)).tobytes()

    return {(blob(i), blob(1000 + i)) for i in range(num)}


@pytest.fixture(params=["folders", "aligned"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Pairs:
    """Twenty pairs of 8 px in either layout."""
    make = folders if request.param == "folders" else aligned
    return Pairs(path=str(make(tmp_path / "data")), layout=request.param, held_out=0.3)


@pytest.mark.parametrize("resident_bytes", [0, 2**30])
def test_each_picture_stands_beside_its_partner(config: Pairs, resident_bytes: int) -> None:
    data = config.model_copy(update={"resident_bytes": resident_bytes, "held_out": 0.0}).load("train")
    assert {name: field.shape for name, field in data.spec.fields.items()} == {"a": (3, 8, 8), "b": (3, 8, 8)}
    assert not any(field.independent for field in data.spec.fields.values())
    assert pairs(data) == expected()


@pytest.mark.parametrize("resident_bytes", [0, 2**30])
def test_the_other_direction_swaps_the_sides_and_nothing_else(config: Pairs, resident_bytes: int) -> None:
    config = config.model_copy(update={"resident_bytes": resident_bytes})
    there, back = config.load("train"), config.model_copy(update={"direction": "BtoA"}).load("train")
    assert pairs(back) == {(b, a) for a, b in pairs(there)}
    assert there.fingerprint() == config.load("train").fingerprint() != back.fingerprint()


def test_a_pair_is_held_out_as_a_whole_and_no_pair_moves_when_others_come(config: Pairs) -> None:
    train, held = (pairs(config.load(split)) for split in ("train", "held_out"))  # type: ignore[arg-type]
    assert train | held == expected()
    assert not train & held
    more = folders if config.layout == "folders" else aligned
    more(Path(config.path), 40)
    assert train < pairs(config.load("train"))
    assert held < pairs(config.load("held_out"))


def test_sides_may_differ_in_channels_and_in_endings(tmp_path: Path) -> None:
    folders(tmp_path, b_mode="L")
    (tmp_path / "b/000.png").rename(tmp_path / "b/000.webp")
    data = Pairs(path=str(tmp_path), held_out=0.0).load("train")
    assert {name: field.shape for name, field in data.spec.fields.items()} == {"a": (3, 8, 8), "b": (1, 8, 8)}
    batch = everything(data)
    assert (batch["a"].shape, batch["b"].shape) == ((20, 3, 8, 8), (20, 1, 8, 8))
    grey = everything(Pairs(path=str(tmp_path), held_out=0.0, channels=1).load("train"))
    assert (grey["a"].shape, grey["b"].shape) == ((20, 1, 8, 8), (20, 1, 8, 8))


def test_each_half_is_scaled_and_cropped_by_itself(tmp_path: Path) -> None:
    both = Image.new("RGB", (64, 16), "red")
    both.paste("blue", (32, 0, 64, 16))
    both.save(tmp_path / "1.png")
    for channels in ("auto", 3):
        config = Pairs(path=str(tmp_path), layout="aligned", size=8, channels=channels, held_out=0.0)  # type: ignore[arg-type]
        batch = everything(config.load("train"))
        for name, colour in (("a", (255, 0, 0)), ("b", (0, 0, 255))):
            flat = torch.tensor(colour, dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 8, 8)
            assert batch[name].equal(flat)


def test_pictures_of_other_sizes_are_brought_to_one(tmp_path: Path) -> None:
    folders(tmp_path, 4, size=(12, 10))
    (tmp_path / "b/000.png").write_bytes(encoded(picture(7, (16, 9))))
    data = Pairs(path=str(tmp_path), size=8, held_out=0.0).load("train")
    assert everything(data)["b"].shape == (4, 3, 8, 8)


@pytest.mark.parametrize("layout", ["folders", "aligned"])
@pytest.mark.parametrize("resident_bytes", [0, 2**30])
def test_a_pair_with_one_undecodable_side_is_skipped_counted_and_named(
    tmp_path: Path, layout: Any, resident_bytes: int
) -> None:
    root = (folders if layout == "folders" else aligned)(tmp_path / "data")
    truncate(root / ("b/002.png" if layout == "folders" else "002.png"))
    (root / ("a/deep/005.png" if layout == "folders" else "005.png")).write_text("no image")
    config = Pairs(
        path=str(root), layout=layout, held_out=0.0, max_skipped=0.1, resident_bytes=resident_bytes
    )
    data = config.load("train")
    left = {pair for i, pair in enumerate(sorted_pairs()) if i not in (2, 5)}
    assert pairs(data) == left
    assert data.skipped.count == 2
    named = " ".join(data.skipped.named)
    assert ("b/002.png" if layout == "folders" else "002.png") in named
    assert "005.png (not an image)" in named
    with pytest.raises(DataError, match=r"2 of 20 images.*max_skipped=0\.05"):
        everything(config.model_copy(update={"max_skipped": 0.05}).load("train"))


def sorted_pairs() -> list[tuple[bytes, bytes]]:
    """The pairs in the order of their numbers."""
    return [next(iter(expected(i + 1) - expected(i))) for i in range(20)]


def test_pictures_without_a_partner_are_all_told_at_once(tmp_path: Path) -> None:
    folders(tmp_path)
    for i in range(8):
        (tmp_path / f"a/only{i}.png").write_bytes(encoded(picture(i)))
    (tmp_path / "b/other.png").write_bytes(encoded(picture(0)))
    (tmp_path / "b/000.jpg").write_bytes(encoded(picture(0), "JPEG"))
    with pytest.raises(DataError) as told:
        Pairs(path=str(tmp_path)).load("train")
    text = str(told.value)
    assert "8 in a without a partner in b (only0, only1, only2, only3, only4 and 3 more)" in text
    assert "1 in b without a partner in a (other)" in text
    assert "1 in b more than once (000)" in text
    assert "in a more than once" not in text


def test_sides_of_two_sizes_are_told(tmp_path: Path) -> None:
    folders(tmp_path, 4)
    for path in (tmp_path / "b").rglob("*.png"):
        path.write_bytes(encoded(picture(0, (12, 8))))
    with pytest.raises(DataError, match=r"in a .* are 8x8, those in b 12x8: set data\.size=N"):
        Pairs(path=str(tmp_path)).load("train")


def test_a_width_without_two_halves_is_told(tmp_path: Path) -> None:
    (tmp_path / "odd.png").write_bytes(encoded(picture(0, (15, 8))))
    with pytest.raises(DataError, match=r"odd\.png \(15 px are not the width of 2 equal pictures\)"):
        Pairs(path=str(tmp_path), layout="aligned", held_out=0.0).load("train")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        ({}, r"no image below data\.path"),
        ({"1.png": (16, 8)}, r"folders a and b of data\.path .*none in a and b: .*set data\.layout=aligned"),
        ({"a/1.png": (8, 8)}, r"there is none in b: put them there"),
        (
            {"a/1.png": (8, 8), "a/2.png": (9, 8), "b/1.png": (8, 8), "b/2.png": (8, 8)},
            r"2 sizes: .*data\.size",
        ),
    ],
)
def test_a_folder_that_holds_no_pairs_is_told(tmp_path: Path, make: dict[str, Any], told: str) -> None:
    for name, size in make.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encoded(picture(0, size)))
    with pytest.raises(DataError, match=told):
        Pairs(path=str(tmp_path)).load("train")


def test_capital_folders_and_splits_below_them_are_found(tmp_path: Path) -> None:
    """The layout that pix2pix's own script makes pairs from."""
    for side in "AB":
        for split in ("train", "test"):
            path = tmp_path / side / split / "1.png"
            path.parent.mkdir(parents=True)
            path.write_bytes(encoded(picture(ord(side) + len(split))))
    data = Pairs(path=str(tmp_path), held_out=0.0).load("train")
    assert len(data) == 2
    assert rows(data, "a") == {pixels(p).numpy().tobytes() for p in (tmp_path / "A").rglob("*.png")}


def test_pairs_come_from_a_bucket_and_each_file_is_read_once(tmp_path: Path, config: Pairs) -> None:
    root = Path(config.path)
    bucket = FakeBucket({f"s3://b/x/{p.relative_to(root)}": p.read_bytes() for p in root.rglob("*.png")})
    remote = config.model_copy(update={"path": "s3://b/x", "size": 8, "channels": 3})
    assert remote.load("train", bucket).fingerprint() == config.load("train").fingerprint()
    wanted = len(config.load("train")) * (2 if config.layout == "folders" else 1)
    assert len(bucket.opened) == len(set(bucket.opened)) == wanted


def test_what_is_new_in_the_data_is_told_by_either_side(config: Pairs) -> None:
    before = config.source(LocalFiles()).digests()
    assert len(set(before.tolist())) == 20
    root = Path(config.path)
    path = root / ("b/004.png" if config.layout == "folders" else "004.png")
    path.write_bytes(encoded(picture(1, (9, 8))))
    after = config.source(LocalFiles()).digests()
    assert (before != after).sum() == 1


# --- what docs/own.md says to type


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the folders lie that docs/own.md speaks of."""
    folders(tmp_path / "pairs", 120)
    aligned(tmp_path / "facades", 120)
    for name, seed in (("horses", 0), ("zebras", 500)):
        (tmp_path / name).mkdir()
        for i in range(120):
            (tmp_path / name / f"{i}.png").write_bytes(encoded(picture(seed + i, (10, 9))))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_of_the_docs_train_on_ones_own_pictures(home: Path) -> None:
    lines = [line for line in commands((ROOT / "docs/own.md").read_text()) if "data." in line]
    assert len(lines) == 3
    quick = "train.steps=4 train.log_every=2 train.batch=8 gan.width=4 gan.width_d=4 --json"
    for line in lines:
        small = re.sub(r"size=\d+", "size=16", line)
        out = json.loads(ganctl(*shlex.split(f"{small} {quick} --store {home / 'store'}")[1:]).stdout)
        assert out["state"] == "completed", line


def test_a_folder_without_pairs_is_told_before_anything_starts(home: Path) -> None:
    line = refused("train", "pix2pix.labels", "--data", home / "horses", "--store", home / "store", code=3)
    assert "data.layout=folders wants pictures in the folders a and b" in line
    assert not (home / "store").exists()


def test_domains_of_two_places_are_refused() -> None:
    here, there = Images(path="./horses"), Images(path="s3://b/zebras")
    with pytest.raises(
        ValueError, match=r"\./horses and s3://b/zebras: both here, or both in object storage"
    ):
        Domains(a=here, b=there)
    assert Domains(a=there, b=Digits()).path == "s3://b/zebras"
    assert Domains(a=Digits(), b=here).path == "./horses"


def test_domains_come_from_a_bucket(tmp_path: Path) -> None:
    blobs = {f"s3://b/{side}/{i}.png": encoded(picture(i)) for side in ("x", "y") for i in range(20)}
    data = Domains(a=Images(path="s3://b/x"), b=Images(path="s3://b/y"))
    assert data.load("train", FakeBucket(blobs)).spec.fields.keys() == {"a", "b"}

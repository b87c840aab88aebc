"""Stacked digits: modes that can be counted, from scikit-learn's digits or from files of MNIST."""

from __future__ import annotations

import gzip
import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from gans.data import Resident
from gans.data.stacked import NUM_MODES, Stacked, StackedDigits, StackedMnist, mode
from gans.errors import DataError
from tests.support.pictures import FakeBucket, encoded, everything, rows

NUM_TRAIN, NUM_TEST = 40, 20


def test_stacked_digits_are_the_same_each_time_and_share_no_digit_with_the_held_out_ones() -> None:
    config = StackedDigits(num=500)
    train, again, held = (config.load(s) for s in ("train", "train", "held_out"))  # type: ignore[arg-type]
    assert train.fingerprint() == again.fingerprint() != held.fingerprint()
    assert config.model_copy(update={"seed": 1}).load("train").fingerprint() != train.fingerprint()
    assert (len(train), len(held)) == (500, 5_000)
    channels = [{c.numpy().tobytes() for c in everything(d)["x"].flatten(0, 1)} for d in (train, held)]
    assert not channels[0] & channels[1]


@pytest.mark.parametrize("size", [8, 16, 32])
def test_each_channel_is_a_digit_and_the_label_tells_all_three(size: Any) -> None:
    config = StackedDigits(num=60, size=size, labelled=True)
    data, singles = config.load("train"), config.single_digits("train").tensors
    assert data.spec.x.shape == (3, size, size)
    assert data.spec.num_classes == NUM_MODES == 1_000
    digit = {x.numpy().tobytes(): int(d) for x, d in zip(singles["x"], singles["label"], strict=True)}
    batch = everything(data)
    for x, label in zip(batch["x"], batch["label"].tolist(), strict=True):
        assert [digit[c.numpy().tobytes()] for c in x] == [label // 100, label // 10 % 10, label % 10]


def test_single_digits_are_what_the_classifier_of_a_channel_is_trained_on() -> None:
    singles = StackedDigits().single_digits("held_out")
    assert singles.spec.x.shape == (1, 16, 16)
    assert singles.spec.num_classes == 10
    assert len(singles) == 400


def test_the_protocols_rows_show_every_mode_uniformly() -> None:
    data = StackedDigits(labelled=True, size=8).load("train")
    counts = everything(data)["label"].bincount(minlength=NUM_MODES).double()
    assert len(data) == 26_000
    assert (counts > 0).all()
    frequencies = counts / counts.sum()
    # The facts' floor of a perfect sampler of uniform digits at 26,000 samples.
    assert float((frequencies * (frequencies * NUM_MODES).log()).sum()) == pytest.approx(0.0194, abs=0.002)


def test_large_sets_are_stacked_when_they_are_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    config = StackedDigits(num=50, labelled=True, size=8)
    resident = config.load("train")
    monkeypatch.setattr("gans.data.stacked.RESIDENT_BYTES", 1_000)
    lazy = config.load("train")
    assert isinstance(resident, Resident)
    assert isinstance(lazy, Stacked)
    assert lazy.spec == resident.spec
    assert rows(lazy) == rows(resident)
    assert torch.equal(everything(lazy)["label"], everything(resident)["label"])
    assert np.array_equal(lazy.order(0, 1), resident.order(0, 1))
    assert lazy.fingerprint() == config.load("train").fingerprint() != config.load("held_out").fingerprint()


def test_mode_counts_in_tens() -> None:
    assert mode(torch.tensor([[1, 2, 3], [0, 0, 0], [9, 9, 9]])).tolist() == [123, 0, 999]


# --- MNIST from files


def made(num: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (num, 28, 28), dtype=np.uint8), np.arange(num) % 10


def idx(array: np.ndarray) -> bytes:
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def as_idx(root: Path, zipped: bool = False, folder: str = "") -> Path:
    for name, (images, labels) in {"train": made(NUM_TRAIN, 0), "t10k": made(NUM_TEST, 1)}.items():
        for kind, array in {"images-idx3": images, "labels-idx1": labels}.items():
            path = root / folder / f"{name}-{kind}-ubyte{'.gz' if zipped else ''}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(gzip.compress(idx(array)) if zipped else idx(array))
    return root


def as_npz(root: Path) -> Path:
    (x, y), (x_test, y_test) = made(NUM_TRAIN, 0), made(NUM_TEST, 1)
    np.savez(root / "mnist.npz", x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    return root


def as_parquet(root: Path) -> Path:
    for name, (images, labels) in {"train": made(NUM_TRAIN, 0), "test": made(NUM_TEST, 1)}.items():
        blobs = [{"bytes": encoded(Image.fromarray(x)), "path": None} for x in images]
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        table = pa.table({"image": pa.array(blobs, kind), "label": labels})
        pq.write_table(table, root / f"{name}-00000-of-00001.parquet")
    return root


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "idx": as_idx,
    "idx.gz": lambda root: as_idx(root, zipped=True),
    "torchvision": lambda root: as_idx(root, folder="MNIST/raw"),
    "npz": as_npz,
    "npz file": lambda root: as_npz(root) / "mnist.npz",
    "parquet": as_parquet,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_mnist_gives_the_same_digits(layout: str, tmp_path: Path) -> None:
    config = StackedMnist(path=str(LAYOUTS[layout](tmp_path)), num=30, labelled=True, size=28)
    for split, num, seed in (("train", NUM_TRAIN, 0), ("held_out", NUM_TEST, 1)):
        images, labels = made(num, seed)
        singles = config.single_digits(split)  # type: ignore[arg-type]
        assert np.array_equal(singles.tensors["x"][:, 0].numpy(), images)
        assert singles.tensors["label"].tolist() == labels.tolist()
    train = config.load("train")
    assert (len(train), train.spec.x.shape) == (30, (3, 28, 28))
    padded = config.model_copy(update={"size": 32}).load("train")
    assert padded.spec.x.shape == (3, 32, 32)
    x = everything(padded)["x"]
    assert torch.equal(x[..., 2:-2, 2:-2], everything(train)["x"])
    assert (x[..., :2, :].max(), x[..., -2:].max()) == (0, 0)


def test_mnist_is_read_through_the_files_that_are_given(tmp_path: Path) -> None:
    bucket = FakeBucket({f"s3://b/m/{p.name}": p.read_bytes() for p in as_idx(tmp_path).iterdir()})
    data = StackedMnist(path="s3://b/m", num=10).load("train", bucket)
    assert len(data) == 10


def test_without_test_digits_a_seventh_of_the_training_digits_is_held_out(tmp_path: Path) -> None:
    images, labels = made(70, 0)
    np.savez(tmp_path / "mnist.npz", x_train=images, y_train=labels)
    config = StackedMnist(path=str(tmp_path), size=28)
    train, held = (config.single_digits(s) for s in ("train", "held_out"))  # type: ignore[arg-type]
    assert (len(train), len(held)) == (60, 10)
    assert not rows(train) & rows(held)


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def table(**columns: list[Any]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


IMAGES, LABELS = made(8, 0)
BAD: dict[str, tuple[dict[str, bytes], str]] = {
    "nothing": ({"readme.txt": b"hi"}, "no MNIST below data.path .*train-images-idx3-ubyte.*npz.*parquet"),
    "no labels": (
        {"train-images-idx3-ubyte": idx(IMAGES)},
        r"is there and train-labels-idx1-ubyte\[.gz\] beside it is not",
    ),
    "not idx": (
        {"train-images-idx3-ubyte": b"<html>", "train-labels-idx1-ubyte": idx(LABELS)},
        "no idx file of unsigned bytes: it begins with 3c 68 74 6d",
    ),
    "idx cut short": (
        {"train-images-idx3-ubyte": idx(IMAGES)[:-5], "train-labels-idx1-ubyte": idx(LABELS)},
        r"has 6267 bytes of data where its header tells of \(8, 28, 28\)",
    ),
    "gzip cut short": (
        {
            "train-images-idx3-ubyte.gz": gzip.compress(idx(IMAGES))[:-50],
            "train-labels-idx1-ubyte": idx(LABELS),
        },
        "no whole gzip file",
    ),
    "other size": (
        {"m.npz": npz(x_train=IMAGES[:, :20], y_train=LABELS)},
        r"images are uint8 of shape \(\d+, 20, 28\); they must be uint8 \(N, 28, 28\)",
    ),
    "other count": ({"m.npz": npz(x_train=IMAGES, y_train=LABELS[:5])}, "must be one integer an image"),
    "other labels": (
        {"m.npz": npz(x_train=IMAGES, y_train=LABELS + 5)},
        "labels run from 5 to 1[12]; 0 to 9",
    ),
    "other arrays": ({"m.npz": npz(images=IMAGES)}, "has no x_train and no y_train; its arrays: images"),
    "not npz": ({"m.npz": b"what"}, "no NumPy archive"),
    "not parquet": ({"train.parquet": b"what"}, "is not a Parquet file"),
    "other columns": ({"train.parquet": table(img=[b"x"])}, "no column image and no column label; .*: img"),
    "not an image": ({"train.parquet": table(image=[b"x"], label=[1])}, "row 0: not an image"),
    "no bytes": ({"train.parquet": table(image=[3], label=[1])}, "row 0: `image` holds int"),
    "a larger image": (
        {"train.parquet": table(image=[encoded(Image.new("L", (30, 28)))], label=[1])},
        r"shape \(28, 30\); MNIST's are 28 x 28",
    ),
    "empty": ({"m.npz": npz(x_train=IMAGES[:0], y_train=LABELS[:0])}, r"shape \(0, 28, 28\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_missing_and_malformed_files_are_told_of(case: str, tmp_path: Path) -> None:
    files, message = BAD[case]
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        StackedMnist(path=str(tmp_path)).load("train")


def test_a_path_that_is_not_there_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        StackedMnist(path=str(tmp_path / "nowhere")).load("train")

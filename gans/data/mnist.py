"""MNIST from files that a person has: idx-ubyte, with or without gzip, a NumPy archive, or Parquet."""

from __future__ import annotations

import gzip
import io
import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np

from gans.data.base import Files
from gans.data.decode import Undecodable, decode
from gans.data.paths import opened
from gans.errors import DataError

SIDE = 28
NUM_CLASSES = 10
_FORMS = (
    "train-images-idx3-ubyte and train-labels-idx1-ubyte (.gz or not), an .npz archive with x_train and y_train, or "
    ".parquet files with the columns image and label; t10k-…, x_test and y_test, or files named test… are the "
    "held-out digits"
)


class Digits(NamedTuple):
    """Images uint8 (N, 28, 28) and their labels int64 (N,)."""

    images: np.ndarray
    labels: np.ndarray


def read(path: str, files: Files) -> tuple[Digits, Digits]:
    """The training and the test digits below `path`, a folder or a file.

    Where there are no test digits, the last seventh of the training digits takes their place: MNIST's own ratio.
    Raises DataError where files are missing or malformed.
    """
    paths = {p: PurePosixPath(p).name for p in files.list(path)}
    for reader in (_idx, _npz, _parquet):
        if (parts := reader(paths, files)) is not None:
            train, test = parts
            if test is None:
                cut = max(1, len(train.labels) // 7)
                train, test = Digits(*(v[:-cut] for v in train)), Digits(*(v[-cut:] for v in train))
            return _checked(train, path), _checked(test, path)
    raise DataError(f"no MNIST below data.path {path!r}: looked for {_FORMS}")


_Parts = tuple[Digits, Digits | None] | None
_Paths = Mapping[str, str]


def _checked(digits: Digits, path: str) -> Digits:
    images, labels = digits
    if images.ndim != 3 or images.shape[1:] != (SIDE, SIDE) or images.dtype != np.uint8 or not len(images):
        raise DataError(
            f"MNIST below data.path {path!r}: images are {images.dtype} of shape {images.shape}; they must be uint8 "
            f"(N, {SIDE}, {SIDE})"
        )
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        raise DataError(
            f"MNIST below data.path {path!r}: labels are {labels.dtype} of shape {labels.shape} beside {len(images)} "
            "images; they must be one integer an image"
        )
    if labels.min() < 0 or labels.max() >= NUM_CLASSES:
        raise DataError(
            f"MNIST below data.path {path!r}: labels run from {labels.min()} to {labels.max()}; 0 to 9 are allowed"
        )
    return Digits(images, labels.astype(np.int64))


def _idx(paths: _Paths, files: Files) -> _Parts:
    """The files of LeCun's page; some copies write `.idx3-ubyte` for `-idx3-ubyte`."""
    found = {name.removesuffix(".gz").replace(".idx", "-idx"): path for path, name in sorted(paths.items())}

    def part(prefix: str) -> Digits | None:
        names = f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"
        there = [name for name in names if name in found]
        if len(there) == 1:
            missing = next(name for name in names if name not in found)
            raise DataError(f"MNIST: {found[there[0]]!r} is there and {missing}[.gz] beside it is not")
        return Digits(*(_idx_array(found[name], files) for name in names)) if there else None

    train = part("train")
    return None if train is None else (train, part("t10k"))


def _idx_array(path: str, files: Files) -> np.ndarray:
    """One idx file: 0, 0, type 8 (unsigned byte), number of axes, big-endian sizes, then the bytes."""
    with opened(files, path) as file:
        data = file.read()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path!r} is no whole gzip file: {error}") from error
    axes = data[3] if len(data) > 3 else 0
    begin = 4 + 4 * axes
    if data[:3] != b"\0\0\x08" or len(data) < begin:
        raise DataError(f"{path!r} is no idx file of unsigned bytes: it begins with {data[:4].hex(' ')}")
    shape = tuple(np.frombuffer(data, ">u4", axes, 4).tolist())
    if len(data) - begin != math.prod(shape):
        raise DataError(f"{path!r} has {len(data) - begin} bytes of data where its header tells of {shape}")
    return np.frombuffer(data, np.uint8, offset=begin).reshape(shape)


def _npz(paths: _Paths, files: Files) -> _Parts:
    """The first archive, as Keras lays it out."""
    path = min((p for p, name in paths.items() if name.endswith(".npz")), default=None)
    if path is None:
        return None
    try:
        with opened(files, path) as file, np.load(io.BytesIO(file.read()), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path!r} is no NumPy archive of plain arrays: {error}") from error
    if missing := [name for name in ("x_train", "y_train") if name not in arrays]:
        raise DataError(f"{path!r} has no {' and no '.join(missing)}; its arrays: {', '.join(arrays)}")
    test = Digits(arrays["x_test"], arrays["y_test"]) if {"x_test", "y_test"} <= arrays.keys() else None
    return Digits(arrays["x_train"], arrays["y_train"]), test


def _parquet(paths: _Paths, files: Files) -> _Parts:
    """The files as on Hugging Face, train-… and test-…; without such names all are training digits."""
    found = sorted(p for p, name in paths.items() if name.endswith(".parquet"))
    test = [p for p in found if paths[p].startswith("test")]
    train = [p for p in found if p not in test]
    if not train:
        return None
    return _rows(train, files), _rows(test, files) if test else None


def _rows(paths: list[str], files: Files) -> Digits:
    parts = [_parquet_file(path, files) for path in paths]
    return Digits(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def _parquet_file(path: str, files: Files) -> Digits:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with opened(files, path) as file:
        try:
            table = pq.read_table(file)
        except pa.ArrowInvalid as error:
            raise DataError(f"{path!r} is not a Parquet file: {str(error).splitlines()[0]}") from error
    if missing := [name for name in ("image", "label") if name not in table.column_names]:
        known = ", ".join(table.column_names)
        raise DataError(f"{path!r} has no column {' and no column '.join(missing)}; its columns: {known}")
    images = [_decoded(blob, path, row) for row, blob in enumerate(table["image"].to_pylist())]
    stacked = np.stack(images) if images else np.empty((0, SIDE, SIDE), np.uint8)
    return Digits(stacked, np.array(table["label"].to_pylist()))


def _decoded(blob: object, path: str, row: int) -> np.ndarray:
    """uint8 (28, 28) of encoded bytes, or of Hugging Face's struct<bytes, path>."""
    data = blob.get("bytes") if isinstance(blob, dict) else blob
    if not isinstance(data, bytes):
        raise DataError(f"{path!r} row {row}: `image` holds {type(data).__name__}; encoded bytes are wanted")
    try:
        pixels = decode(data, 1, None)[0]
    except Undecodable as reason:
        raise DataError(f"{path!r} row {row}: {reason}") from reason
    if pixels.shape != (SIDE, SIDE):
        raise DataError(f"{path!r} row {row}: an image of shape {pixels.shape}; MNIST's are {SIDE} x {SIDE}")
    return pixels

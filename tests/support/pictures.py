"""Small images, folders, Parquet files and a bucket of them, for tests of the data sets."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from gans.data import Batch, Dataset
from gans.data.decode import decode


def picture(seed: int, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> Image.Image:
    shape = (size[1], size[0], len(mode)) if len(mode) > 1 else (size[1], size[0])
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def folder(root: Path, num: int = 40, **options: Any) -> Path:
    """`num` PNG files in the folders cat and dog; options are `picture`'s."""
    for i in range(num):
        path = root / ("cat" if i % 2 else "dog") / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture(i, **options)))
    return root


def truncate(path: Path) -> None:
    """Cut the pixels short; the header stays readable."""
    path.write_bytes(path.read_bytes()[:-60])


def parquet_file(path: Path, num: int = 60, row_group_size: int = 7, **columns: list[Any]) -> Path:
    """Images as Hugging Face writes them: struct<bytes, path>."""
    images = [{"bytes": encoded(picture(i)), "path": f"{i}.png"} for i in range(num)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(
        pa.table({"image": pa.array(images, kind), **columns}), path, row_group_size=row_group_size
    )
    return path


def everything(dataset: Dataset) -> Batch:
    return dataset.fetch(np.arange(len(dataset)))


def rows(dataset: Dataset, field: str = "x") -> set[bytes]:
    return {sample.numpy().tobytes() for sample in everything(dataset)[field]}


class FakeBucket:
    """`Files` over a dict of s3:// keys; counts how often each was opened."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        self.objects = objects
        self.opened: list[str] = []

    def list(self, url: str) -> list[str]:
        return sorted(key for key in self.objects if key.startswith(url))

    def open(self, path: str) -> BinaryIO:
        self.opened.append(path)
        return io.BytesIO(self.objects[path])

    def size(self, path: str) -> int:
        return len(self.objects[path])


def pixels(path: Path) -> torch.Tensor:
    """The file decoded as it is, uint8 (C, H, W)."""
    return torch.from_numpy(decode(path.read_bytes(), None, None))

"""Parquet files of images, and that streaming gives what memory gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from gans.data import Resident
from gans.data.encoded import Streamed
from gans.data.images import Images
from gans.data.parquet import Parquet
from gans.errors import DataError
from tests.support.pictures import (
    FakeBucket,
    encoded,
    everything,
    folder,
    parquet_file,
    picture,
    rows,
)


@pytest.mark.parametrize("kind", ["images", "parquet"])
def test_streamed_content_equals_resident_content(tmp_path: Path, kind: str) -> None:
    if kind == "images":
        config: Any = Images(path=str(folder(tmp_path)), labels="folder")
    else:
        path = parquet_file(tmp_path / "a.parquet", label=[i % 3 for i in range(60)])
        config = Parquet(path=str(path), label="label")
    resident, streamed = config.load("train"), config.model_copy(update={"resident_bytes": 0}).load("train")
    assert isinstance(resident, Resident)
    assert isinstance(streamed, Streamed)
    assert resident.spec == streamed.spec
    some = np.random.default_rng(0).permutation(len(resident))
    for field, values in resident.fetch(some).items():
        assert torch.equal(values, streamed.fetch(some)[field])


@pytest.mark.parametrize("label", [list("cab" * 20), [7, 2, 5] * 20])
def test_parquet_labels_number_the_sorted_distinct_values(tmp_path: Path, label: list[Any]) -> None:
    path = parquet_file(tmp_path / "a.parquet", kind=label)
    data = Parquet(path=str(path), label="kind", held_out=0).load("train")
    assert data.spec.num_classes == 3
    assert everything(data)["label"].tolist() == [2, 0, 1] * 20
    assert torch.equal(everything(data)["x"][5], torch.from_numpy(np.array(picture(5)).transpose(2, 0, 1)))


def test_parquet_reads_plain_binary_columns_of_many_files_from_a_bucket(tmp_path: Path) -> None:
    objects = {}
    for part in range(3):
        blobs = [encoded(picture(part * 10 + i)) for i in range(10)]
        pq.write_table(pa.table({"png": blobs}), tmp_path / "part.parquet", row_group_size=4)
        objects[f"s3://b/set/{part}.parquet"] = (tmp_path / "part.parquet").read_bytes()
    data = Parquet(path="s3://b/set", column="png", held_out=0, resident_bytes=0)
    found = rows(data.load("train", FakeBucket(objects)))
    assert found == {np.array(picture(i)).transpose(2, 0, 1).tobytes() for i in range(30)}


def test_parquet_splits_are_disjoint_and_no_row_moves_when_files_are_added(tmp_path: Path) -> None:
    parquet_file(tmp_path / "b.parquet")
    config = Parquet(path=str(tmp_path), held_out=0.25)
    train, held = rows(config.load("train")), rows(config.load("held_out"))
    assert not train & held
    assert len(train | held) == 60
    pq.write_table(
        pa.table({"image": [encoded(picture(1000 + i)) for i in range(9)]}), tmp_path / "a.parquet"
    )
    assert train < rows(config.load("train"))
    assert held < rows(config.load("held_out"))


def test_streamed_parquet_reads_each_row_group_once_an_epoch_when_visited_in_order(tmp_path: Path) -> None:
    blob = parquet_file(tmp_path / "a.parquet", num=120, row_group_size=5).read_bytes()
    bucket = FakeBucket({"s3://b/a.parquet": blob})
    config = Parquet(path="s3://b/a.parquet", size=8, channels=3, held_out=0, resident_bytes=0)
    data = config.load("train", bucket)
    bucket.opened.clear()
    order = data.order(seed=3, epoch=0)
    for start in range(0, 120, 10):
        data.fetch(order[start : start + 10])
    assert len(bucket.opened) == 24
    assert (np.abs(np.diff(order)) > 5).mean() > 0.3  # rows of several groups are mixed


def test_null_images_in_parquet_are_skipped_and_named(tmp_path: Path) -> None:
    blobs = [encoded(picture(i)) for i in range(39)]
    pq.write_table(pa.table({"image": [*blobs, None]}), tmp_path / "a.parquet")
    data = Parquet(path=str(tmp_path), held_out=0).load("train")
    assert len(data) == 39
    assert data.skipped.named == ["a.parquet#39 (not an image)"]


def test_parquet_mistakes_name_the_column_and_what_there_is(tmp_path: Path) -> None:
    path = str(parquet_file(tmp_path / "a.parquet", label=[None] + [1] * 59))
    with pytest.raises(DataError, match=r"no column 'img' \(data\.column\); its columns: image, label"):
        Parquet(path=path, column="img").load("train")
    with pytest.raises(DataError, match="is int64; it must be binary"):
        Parquet(path=path, column="label").load("train")
    with pytest.raises(DataError, match=r"'label' \(data\.label\).*holds int, null"):
        Parquet(path=path, label="label").load("train")
    (tmp_path / "b.parquet").write_text("no Parquet at all")
    with pytest.raises(DataError, match="not a Parquet file"):
        Parquet(path=str(tmp_path)).load("train")


def test_streamed_parquet_refuses_a_later_image_of_another_shape(tmp_path: Path) -> None:
    blobs = [encoded(picture(i, size=(8 if i < 10 else 12, 8))) for i in range(20)]
    pq.write_table(pa.table({"image": blobs}), tmp_path / "a.parquet", row_group_size=10)
    data = Parquet(path=str(tmp_path), held_out=0, resident_bytes=0).load("train")
    with pytest.raises(DataError, match="12x8 with 3 channels where the data set is 8x8"):
        everything(data)

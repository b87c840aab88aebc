"""Orders and the loader: purity, ranks, epochs, resuming."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gans.data import Dataset, Loader, shard, to_float
from gans.data.digits import Digits
from gans.data.domains import Domains
from gans.data.images import Images
from gans.data.parquet import Parquet
from gans.data.points import Ring
from gans.errors import DataError
from tests.support.pictures import (
    folder,
    parquet_file,
)


@pytest.fixture(params=["resident", "streamed", "parquet", "domains"])
def dataset(request: pytest.FixtureRequest, tmp_path: Path) -> Dataset:
    if request.param == "resident":
        return Digits().load("held_out")
    if request.param == "streamed":
        return Images(path=str(folder(tmp_path)), labels="folder", resident_bytes=0).load("train")
    if request.param == "parquet":
        path = parquet_file(tmp_path / "a.parquet")
        return Parquet(path=str(path), resident_bytes=0).load("train")
    return Domains(a=Ring(num=30), b=Ring(num=41)).load("train")


def test_order_is_a_pure_function_of_seed_and_epoch(dataset: Dataset) -> None:
    first = dataset.order(seed=1, epoch=2)
    np.random.default_rng().permutation(9)
    torch.randperm(9)
    assert np.array_equal(first, dataset.order(seed=1, epoch=2))
    assert not np.array_equal(first, dataset.order(seed=1, epoch=3))
    assert not np.array_equal(first, dataset.order(seed=2, epoch=2))
    assert np.array_equal(np.sort(first % len(dataset)), np.arange(len(dataset)))


def test_loading_draws_nothing_from_global_random_states(dataset: Dataset) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1]  # type: ignore[index]
    Loader(dataset, 8, seed=0).next()
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # type: ignore[index]


@pytest.mark.parametrize("world", [2, 3])
def test_the_ranks_rows_joined_are_the_batch_of_one_rank(dataset: Dataset, world: int) -> None:
    alone = Loader(dataset, 10, seed=5)
    ranks = [Loader(dataset, 10, seed=5, rank=r, world=world) for r in range(world)]
    for _ in range(9):  # crosses an epoch
        whole, parts = alone.next(), [loader.next() for loader in ranks]
        for field, values in whole.items():
            assert torch.equal(values, torch.cat([part[field] for part in parts]))
    for loader in (alone, *ranks):
        loader.close()


def test_a_stream_is_its_epochs_one_after_the_other(dataset: Dataset) -> None:
    loader = Loader(dataset, 7, seed=9)
    num = len(dataset)
    got = [loader.next() for _ in range(2 * num // 7)]
    order = np.concatenate([dataset.order(9, 0), dataset.order(9, 1)])[: 2 * num // 7 * 7]
    wanted = to_float(dataset.fetch(order))
    for field, values in wanted.items():
        assert torch.equal(values, torch.cat([batch[field] for batch in got]))
    loader.close()


def test_setting_the_cursor_resumes_exactly(dataset: Dataset) -> None:
    loader = Loader(dataset, 8, seed=2)
    for _ in range(3):
        loader.next()
    cursor = loader.cursor
    assert cursor == 24
    wanted = [loader.next() for _ in range(6)]
    fresh = Loader(dataset, 8, seed=2)
    fresh.next()
    fresh.cursor = loader.cursor = cursor
    for batch in wanted:
        for again in (fresh.next(), loader.next()):
            assert all(torch.equal(values, again[field]) for field, values in batch.items())
    fresh.close()
    loader.close()


def test_batches_are_float_images_and_integer_labels_of_the_specs_shapes() -> None:
    loader = Loader(Digits().load("train"), 64, seed=0)
    batch = loader.next()
    assert batch["x"].dtype == torch.float32
    assert batch["x"].min() >= -1
    assert batch["x"].max() <= 1
    assert batch["label"].dtype == torch.int64
    for name, field in loader.spec.fields.items():
        assert tuple(batch[name].shape) == (64, *field.shape)


def test_large_resident_sets_stay_uint8_and_give_the_same_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    data = Digits().load("train")
    wanted = Loader(data, 64, seed=0).next()
    monkeypatch.setattr("gans.data.loader._FLOAT_BYTES", 0)
    assert torch.equal(Loader(data, 64, seed=0).next()["x"], wanted["x"])


def test_writing_into_a_batch_leaves_the_data_as_it_was() -> None:
    data = Ring(num=10).load("train")
    before = data.fingerprint()
    Loader(data, 10, seed=0).next()["x"].zero_()
    assert data.fingerprint() == before


@pytest.mark.parametrize(("batch", "world"), [(10, 3), (2, 2), (64, 5), (7, 1)])
def test_shards_are_those_of_array_split(batch: int, world: int) -> None:
    everyone = np.arange(batch)
    for rank, part in enumerate(np.array_split(everyone, world)):
        assert np.array_equal(everyone[shard(batch, rank, world)], part)


def test_a_batch_that_does_not_suit_data_or_workers_is_an_error_with_the_way_out() -> None:
    data = Ring(num=100).load("train")
    with pytest.raises(
        DataError, match=r"batch 256 is larger than the data set \(100 samples\): set train\.batch ≤ 100"
    ):
        Loader(data, 256, seed=0)
    with pytest.raises(DataError, match=r"batch 2 leaves some of 4 workers.*set train\.batch ≥ 4"):
        Loader(data, 2, seed=0, world=4)

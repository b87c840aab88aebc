"""What the data of an experiment is now, and by how many items it differs from what it was. Files are not decoded."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.errors import AlreadyExists, NotFound
from orchestrator.store.layout import seen_key
from orchestrator.store.objects import Objects

if TYPE_CHECKING:
    from gans.data.base import DataConfig, Dataset, Files
    from orchestrator.experiment import Experiment

CHUNK = 1_024  # rows of generated data fetched at a time


@dataclass(frozen=True, eq=False)
class DataVersion:
    """A state of a data set, both splits together: `digests` is uint64 (items,), sorted, one of each item."""

    fingerprint: str
    items: int
    digests: np.ndarray

    @staticmethod
    def of(digests: np.ndarray) -> DataVersion:
        """The state that has items of these digests, in any order."""
        digests = np.sort(digests.astype(np.uint64))
        told = hashlib.sha256(digests.astype("<u8").tobytes()).hexdigest()
        return DataVersion(told[:16], len(digests), digests)


def look(experiment: Experiment) -> DataVersion:
    """The data of `experiment` as it is now.

    An image file is told by its name below `data.path` and its size, a row of a Parquet file by what the file's footer
    says of its row group, a row of data that is made in memory by its content. Raises DataError where there is none,
    StoreError where a bucket cannot be reached.
    """
    return DataVersion.of(np.concatenate(list(_digests(experiment.data, "x"))))


def changed(old: DataVersion | None, new: DataVersion) -> int:
    """How many items were added or removed between the two; one that was replaced counts twice. None: no items."""
    before = np.empty(0, np.uint64) if old is None else old.digests
    both = np.concatenate([before, new.digests])
    _, which = np.unique(both, return_inverse=True)
    num = int(which.max(initial=-1)) + 1
    gone, there = (np.bincount(part, minlength=num) for part in np.split(which, [len(before)]))
    return int(np.abs(there - gone).sum())


def save(objects: Objects, name: str, version: DataVersion) -> None:
    """Keep the digests for retraining `name`, by the fingerprint; nothing is written where they are kept already."""
    sink = io.BytesIO()
    np.save(sink, version.digests, allow_pickle=False)
    with suppress(AlreadyExists):
        objects.create(seen_key(name, version.fingerprint, "npy"), sink.getvalue())


def load(objects: Objects, name: str, fingerprint: str) -> DataVersion | None:
    """What `save` kept; None where nothing was."""
    with suppress(NotFound):
        blob = objects.get(seen_key(name, fingerprint, "npy"))
        return DataVersion.of(np.load(io.BytesIO(blob), allow_pickle=False))
    return None


def _digests(config: DataConfig, place: str) -> Iterator[np.ndarray]:
    """Digests of the items of `config`, or of those it is made of; `place` tells equal items of two parts apart."""
    from gans.data.base import DataConfig
    from gans.data.digests import mixed, of_texts
    from gans.data.encoded import EncodedImages
    from orchestrator.store.files import files_for

    parts = {
        name: part
        for name in type(config).model_fields
        if isinstance(part := getattr(config, name), DataConfig)
    }
    if parts:
        for name, part in parts.items():
            yield from _digests(part, f"{place}.{name}")
        return
    files = files_for(getattr(config, "path", ""))
    if isinstance(config, EncodedImages):
        yield mixed(config.source(files).digests() ^ of_texts([place]))
    else:
        yield from _made(config, files, place)


def _made(config: DataConfig, files: Files, place: str) -> Iterator[np.ndarray]:
    """Digests of the rows of data that is made in memory."""
    from gans.data.domains import Unpaired

    for split in ("train", "held_out"):
        dataset: Dataset = config.load(split, files)
        sides = {"a": dataset.a, "b": dataset.b} if isinstance(dataset, Unpaired) else {"": dataset}
        for side, rows in sides.items():
            yield from _rows(rows, f"{place} {split} {side}")


def _rows(dataset: Dataset, place: str) -> Iterator[np.ndarray]:
    from gans.data.base import chunks
    from gans.data.digests import mixed, of_fields, of_texts

    for rows in chunks(len(dataset), CHUNK):
        batch = dataset.fetch(rows)
        digests = of_fields({name: field.cpu().numpy() for name, field in batch.items()})
        yield mixed(digests ^ of_texts([place]))

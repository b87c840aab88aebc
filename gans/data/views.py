"""Views of a data set: the same samples under other field names."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gans.data.base import Batch, Dataset, DataSpec, Modes, Skipped
from gans.errors import DataError


class View:
    """The rows of `dataset` in its order, of another spec; a subclass says what becomes of a batch."""

    def __init__(self, dataset: Dataset, spec: DataSpec) -> None:
        self.dataset = dataset
        self.spec = spec
        self.modes: Modes | None = dataset.modes

    @property
    def skipped(self) -> Skipped:
        """What could not be decoded so far."""
        return self.dataset.skipped

    def __len__(self) -> int:
        return len(self.dataset)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        return self.dataset.order(seed, epoch)


class Renamed(View):
    """`dataset` reduced to the fields in `names` (old name → new name).

    Metrics look at the field `x`: `Renamed(domains, {"b": "x"})` lets them judge maps into domain b.
    Raises DataError where `dataset` lacks a field.
    """

    def __init__(self, dataset: Dataset, names: Mapping[str, str]) -> None:
        if missing := [old for old in names if old not in dataset.spec.fields]:
            raise DataError(
                f"the data has no field {', '.join(missing)}; fields: {', '.join(dataset.spec.fields)}"
            )
        super().__init__(dataset, DataSpec({new: dataset.spec.fields[old] for old, new in names.items()}))
        self.names = dict(names)

    def fetch(self, indices: np.ndarray) -> Batch:
        rows = self.dataset.fetch(indices)
        return {new: rows[old] for old, new in self.names.items()}

    def fingerprint(self) -> str:
        """The digest of the whole data set under its own names."""
        return self.dataset.fingerprint()


def imitated(dataset: Dataset, field: str) -> Dataset:
    """`dataset` with the field a generator imitates under the name `x`, as the metrics want it."""
    return dataset if field == "x" else Renamed(dataset, {field: "x"})

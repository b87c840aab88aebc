"""An endless, resumable stream of batches: epoch after epoch, this rank's rows of each global batch."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from gans.data.base import Batch, Dataset, DataSpec, Resident, to_float
from gans.errors import DataError

_FLOAT_BYTES = (
    64 * 2**20
)  # up to this size resident images are kept as float, which spares a conversion a step
_AHEAD = 2  # batches fetched ahead of a set that is not resident


def shard(batch: int, rank: int, world: int) -> slice:
    """Rank `rank`'s rows of a global batch: contiguous, the first `batch % world` ranks have one more."""
    share, rest = divmod(batch, world)
    start = rank * share + min(rank, rest)
    return slice(start, start + share + (rank < rest))


def shards(batch: int, rank: int, world: int, pieces: int, unit: int = 1) -> tuple[slice, ...]:
    """Rank `rank`'s rows of each of the `pieces` micro-batches of a global batch, which are the same at every size of
    the world. Each run of `unit` rows stays whole."""
    return tuple(
        slice(unit * (piece.start + mine.start), unit * (piece.start + mine.stop))
        for piece in (shard(batch // unit, i, pieces) for i in range(pieces))
        for mine in [shard(piece.stop - piece.start, rank, world)]
    )


def cut(values: Tensor, rows: tuple[slice, ...]) -> Tensor:
    """Those rows of `values`, one slice after another; a view where there is one slice."""
    return values[rows[0]] if len(rows) == 1 else torch.cat([values[piece] for piece in rows])


class Loader:
    """Global batches are consecutive pieces of the concatenated epochs, whatever the number of ranks.

    batch: samples of a global batch, over all ranks. seed: of the order. device: where batches are. pieces:
    micro-batches, one after another in what a rank is given. unit: consecutive rows that no two ranks or micro-batches
    share. Raises DataError where `batch` exceeds the data set, is no multiple of `unit`, or leaves a rank without a
    sample.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        device: torch.device | str = "cpu",
        pieces: int = 1,
        unit: int = 1,
    ) -> None:
        if batch > len(dataset):
            raise DataError(
                f"batch {batch} is larger than the data set ({len(dataset)} samples): "
                f"set train.batch ≤ {len(dataset)}"
            )
        if batch % unit:
            raise DataError(
                f"batch {batch} is not made of groups of {unit} samples, which this family judges together: "
                f"set train.batch to a multiple of {unit}"
            )
        if batch < world * pieces * unit:
            each = f" x {pieces} micro-batches" if pieces > 1 else ""
            less = ", or lower train.accumulate" if pieces > 1 else ""
            raise DataError(
                f"batch {batch} leaves some of {world} workers{each} without a "
                f"{'sample' if unit == 1 else f'group of {unit} samples'}: "
                f"set train.batch ≥ {world * pieces * unit}{less}"
            )
        self.dataset = dataset
        self.batch = batch
        self.device = torch.device(device)
        self._seed = seed
        self._shards = shards(batch, rank, world, pieces, unit)
        self._cursor = 0
        self._resident = _placed(dataset, self.device) if isinstance(dataset, Resident) else None
        self._order_device = (
            next(iter(self._resident.values())).device if self._resident else torch.device("cpu")
        )
        self._orders: dict[int, Tensor] = {}
        self._ahead: deque[Future[Batch]] = deque()
        self._thread: ThreadPoolExecutor | None = None

    @property
    def spec(self) -> DataSpec:
        """The fields of a batch."""
        return self.dataset.spec

    @property
    def cursor(self) -> int:
        """Global samples consumed so far. Setting it moves the stream there."""
        return self._cursor

    @cursor.setter
    def cursor(self, value: int) -> None:
        self._cursor = value
        for future in self._ahead:
            future.cancel()
        self._ahead.clear()

    @property
    def epoch(self) -> float:
        """Passes over the data so far."""
        return self._cursor / len(self.dataset)

    def next(self) -> Batch:
        """This rank's rows of the next global batch, on the device, images as float in [-1, 1]."""
        if self._resident is not None:
            rows = self._rows(self._cursor)
            batch = {name: tensor.index_select(0, rows) for name, tensor in self._resident.items()}
        else:
            batch = self._fetched()
        self._cursor += self.batch
        if self._order_device != self.device:
            batch = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
        return to_float(batch)

    def close(self) -> None:
        """Let the prefetching thread end. The loader may be used again afterwards."""
        self.cursor = self._cursor
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
            self._thread = None

    def _fetched(self) -> Batch:
        if self._thread is None:
            # One thread: batches are read in order, which is what a source's cache of row groups expects.
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        while len(self._ahead) <= _AHEAD:
            rows = self._rows(self._cursor + len(self._ahead) * self.batch).numpy()
            self._ahead.append(self._thread.submit(self._fetch, rows))
        return self._ahead.popleft().result()

    def _fetch(self, rows: np.ndarray) -> Batch:
        batch = self.dataset.fetch(rows)
        return {k: v.pin_memory() for k, v in batch.items()} if self.device.type == "cuda" else batch

    def _rows(self, cursor: int) -> Tensor:
        """This rank's indices of the global batch that starts at `cursor`."""
        rows = [self._span(cursor + piece.start, piece.stop - piece.start) for piece in self._shards]
        return rows[0] if len(rows) == 1 else torch.cat(rows)

    def _span(self, begin: int, length: int) -> Tensor:
        """`length` indices from place `begin` of the stream on, perhaps across an epoch's end."""
        num = len(self.dataset)
        epoch, start = divmod(begin, num)
        rows = self._order(epoch)[start : start + length]
        return (
            rows if len(rows) == length else torch.cat([rows, self._order(epoch + 1)[: length - len(rows)]])
        )

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            self._orders = {e: order for e, order in self._orders.items() if abs(e - epoch) == 1}
            order = torch.from_numpy(self.dataset.order(self._seed, epoch))
            self._orders[epoch] = order.to(self._order_device)
        return self._orders[epoch]


def _placed(dataset: Resident, device: torch.device) -> Batch:
    """The tensors where they are to be indexed: on the device if half of its free memory holds them."""
    tensors = dataset.tensors
    widened = sum(
        t.numel() * t.element_size() * (4 if t.dtype == torch.uint8 else 1) for t in tensors.values()
    )
    if widened <= _FLOAT_BYTES:
        tensors = to_float(tensors)
    size = sum(t.numel() * t.element_size() for t in tensors.values())
    if device.type == "cuda" and size > torch.cuda.mem_get_info(device)[0] // 2:
        return tensors
    return {name: tensor.to(device) for name, tensor in tensors.items()}

"""What ranks tell each other. The loop takes a `Sync` as an argument and never asks how many ranks there are.

Every rank holds some rows of one global batch. Its loss is weighted by its share of the rows, so that the *sum*
over ranks of the gradients is the gradient of the global batch, uneven shares included.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as differentiable
from torch import Tensor

BUCKET_BYTES = 25 * 2**20  # DDP's default; large enough for bandwidth, small enough to start early


class Sync(Protocol):
    """The exchange between ranks that data-parallel training needs."""

    rank: int
    world: int

    def sum_gradients(self, gradients: Sequence[Tensor]) -> None:
        """Replace each gradient, in place, by its sum over ranks. All ranks pass the same shapes."""
        ...

    def total(self, value: Tensor) -> Tensor:
        """The sum over ranks, differentiable any number of times."""
        ...

    def agree(self, value: int) -> int:
        """Rank 0's value, on every rank."""
        ...

    def share(self, value: Any) -> Any:
        """Rank 0's plain value, on every rank."""
        ...

    def gather_rows(self, rows: Tensor) -> Tensor:
        """The ranks' rows concatenated in rank order; ranks may hold different counts."""
        ...


class Alone:
    """One rank: nothing to exchange."""

    rank = 0
    world = 1

    def sum_gradients(self, gradients: Sequence[Tensor]) -> None:
        return None

    def total(self, value: Tensor) -> Tensor:
        return value

    def agree(self, value: int) -> int:
        return value

    def share(self, value: Any) -> Any:
        return value

    def gather_rows(self, rows: Tensor) -> Tensor:
        return rows


class Group:
    """The ranks of torch.distributed's default process group (gloo or NCCL), already initialised."""

    def __init__(self) -> None:
        self.rank = dist.get_rank()
        self.world = dist.get_world_size()

    def sum_gradients(self, gradients: Sequence[Tensor]) -> None:
        """Flat buckets, reduced asynchronously while the next one is packed."""
        pending = []
        for bucket in _buckets(gradients):
            flat = torch.cat([g.reshape(-1) for g in bucket])
            pending.append((bucket, flat, dist.all_reduce(flat, async_op=True)))
        for bucket, flat, work in pending:
            work.wait()
            pieces = flat.split([g.numel() for g in bucket])
            torch._foreach_copy_(list(bucket), [p.view_as(g) for p, g in zip(pieces, bucket, strict=True)])

    def total(self, value: Tensor) -> Tensor:
        return differentiable.all_reduce(value)

    def agree(self, value: int) -> int:
        flag = torch.tensor([value], dtype=torch.int64, device=self._device())
        dist.broadcast(flag, src=0)
        return int(flag.item())

    def share(self, value: Any) -> Any:
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def gather_rows(self, rows: Tensor) -> Tensor:
        counts = torch.zeros(self.world, dtype=torch.int64, device=self._device())
        counts[self.rank] = len(rows)
        dist.all_reduce(counts)
        most = int(counts.max())
        padded = torch.zeros(most, *rows.shape[1:], dtype=rows.dtype, device=self._device())
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in range(self.world)]
        dist.all_gather(parts, padded)
        return torch.cat([p[:n] for p, n in zip(parts, counts.tolist(), strict=True)]).to(rows.device)

    @staticmethod
    def _device() -> str:
        return "cuda" if dist.get_backend() == "nccl" else "cpu"


def _buckets(gradients: Sequence[Tensor]) -> list[list[Tensor]]:
    """Consecutive gradients of one dtype in groups of about BUCKET_BYTES."""
    buckets: list[list[Tensor]] = []
    room = 0
    for g in gradients:
        size = g.numel() * g.element_size()
        if not buckets or size > room or buckets[-1][0].dtype != g.dtype:
            buckets.append([])
            room = BUCKET_BYTES
        buckets[-1].append(g)
        room -= size
    return buckets

"""What ranks tell each other. The loop takes a `Sync` as an argument and never asks how many ranks there are.

Every rank holds some rows of one global batch. Its loss is weighted by its share of the rows, so that the *sum*
over ranks of the gradients is the gradient of the global batch, uneven shares included.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from gans.reducer import Reducer

Gradients = list[Tensor | None]


class Sync(Protocol):
    """The exchange between ranks that data-parallel training needs.

    `calls` counts the exchanges begun, `waiting` says whether this rank is held up in one, `waited` how long it was in
    all (seconds): another thread may read them.
    """

    rank: int
    world: int
    calls: int
    waiting: bool
    waited: float

    def gradients(self, loss: Tensor, params: Sequence[Tensor], add: Gradients | None = None) -> Gradients:
        """The gradient by `params` of the sum over ranks of `loss`, None for those it does not depend on.

        `add` are gradients of this rank that join its own. All ranks pass the same shapes.
        """
        ...

    def total(self, value: Tensor) -> Tensor:
        """The sum over ranks, differentiable any number of times."""
        ...

    def agree(self, value: int) -> int:
        """Rank 0's value, on every rank."""
        ...

    def any(self, flag: bool) -> bool:
        """Whether any rank says so."""
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
    calls = 0
    waiting = False
    waited = 0.0

    def gradients(self, loss: Tensor, params: Sequence[Tensor], add: Gradients | None = None) -> Gradients:
        return summed(torch.autograd.grad(loss, params, allow_unused=True), add)

    def total(self, value: Tensor) -> Tensor:
        return value

    def agree(self, value: int) -> int:
        return value

    def any(self, flag: bool) -> bool:
        return flag

    def share(self, value: Any) -> Any:
        return value

    def gather_rows(self, rows: Tensor) -> Tensor:
        return rows


class Group:
    """The ranks of torch.distributed's default process group (gloo or NCCL), already initialised."""

    def __init__(self) -> None:
        self.rank = dist.get_rank()
        self.world = dist.get_world_size()
        self.calls = 0
        self.waiting = False
        self.waited = 0.0
        self._reducers: dict[tuple[int, ...], Reducer] = {}

    def gradients(self, loss: Tensor, params: Sequence[Tensor], add: Gradients | None = None) -> Gradients:
        """Buckets are reduced while the backward pass still runs."""
        key = tuple(map(id, params))
        if key not in self._reducers:
            self._reducers[key] = Reducer(params)
        reducer = self._reducers[key]
        gradients = reducer.backward(loss, add)
        with self._held_up(reducer.calls):
            reducer.wait()
        return gradients

    def total(self, value: Tensor) -> Tensor:
        summed: Tensor = _Total.apply(value, self)
        return summed

    def agree(self, value: int) -> int:
        flag = torch.tensor([value], dtype=torch.int64, device=self._device())
        with self._held_up():
            dist.broadcast(flag, src=0)
        return int(flag.item())

    def any(self, flag: bool) -> bool:
        count = torch.tensor([int(flag)], dtype=torch.int64, device=self._device())
        with self._held_up():
            dist.all_reduce(count)
        return bool(count.item())

    def share(self, value: Any) -> Any:
        box = [value]
        with self._held_up():
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def gather_rows(self, rows: Tensor) -> Tensor:
        counts = torch.zeros(self.world, dtype=torch.int64, device=self._device())
        counts[self.rank] = len(rows)
        with self._held_up():
            dist.all_reduce(counts)
        most = int(counts.max())
        padded = torch.zeros(most, *rows.shape[1:], dtype=rows.dtype, device=self._device())
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in range(self.world)]
        with self._held_up():
            dist.all_gather(parts, padded)
        return torch.cat([p[:n] for p, n in zip(parts, counts.tolist(), strict=True)]).to(rows.device)

    @contextmanager
    def _held_up(self, calls: int = 1) -> Iterator[None]:
        """Count exchanges and the time they take. On a GPU only what the host waits is seen."""
        self.calls += calls
        self.waiting, begun = True, time.perf_counter()
        try:
            yield
        finally:
            self.waiting = False
            self.waited += time.perf_counter() - begun

    @staticmethod
    def _device() -> str:
        return "cuda" if dist.get_backend() == "nccl" else "cpu"


class _Total(torch.autograd.Function):
    """y = sum over ranks of x. Each rank's loss counts y, so dL/dx is the sum over ranks of dL/dy: y's own rule."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, group: Group) -> Tensor:
        ctx.group = group
        summed = value.clone(memory_format=torch.contiguous_format)
        with group._held_up():
            dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return ctx.group.total(gradient), None


def summed(gradients: Sequence[Tensor | None], add: Gradients | None) -> Gradients:
    """Both, parameter by parameter."""
    if add is None:
        return list(gradients)
    return [b if a is None else a if b is None else a + b for a, b in zip(gradients, add, strict=True)]

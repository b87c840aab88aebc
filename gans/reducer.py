"""Sums gradients over ranks while they are still being computed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

# DDP's defaults (Li et al. 2020): large enough for bandwidth, and a first bucket that starts early.
BUCKET_BYTES, FIRST_BUCKET_BYTES = 25 * 2**20, 2**20


class Reducer:
    """Gradients of `params` in flat buckets, filled from the last parameter to the first, as a backward pass does.

    A bucket is reduced as soon as it and those before it are full, whatever the order in which gradients come: ranks
    must agree on the order of their collectives. The layout follows from the parameters alone, so that a run that is
    resumed adds in the same order.
    """

    def __init__(self, params: Sequence[Tensor]) -> None:
        self.params = list(params)
        self._flats: list[Tensor] = []
        self._bucket = [0] * len(self.params)
        self._slots: list[Tensor] = [torch.empty(0)] * len(self.params)
        for number, indices in enumerate(_buckets(self.params)):
            sizes = [self.params[i].numel() for i in indices]
            flat = torch.zeros(
                sum(sizes), dtype=self.params[indices[0]].dtype, device=self.params[indices[0]].device
            )
            self._flats.append(flat)
            for i, piece in zip(indices, flat.split(sizes), strict=True):
                self._bucket[i], self._slots[i] = number, _shaped(piece, self.params[i])
        self._counts = [self._bucket.count(number) for number in range(len(self._flats))]
        self._missing: list[int] = []
        self._add: Sequence[Tensor | None] | None = None
        self._works: list[Any] = []

    @property
    def calls(self) -> int:
        """Collectives of one pass."""
        return len(self._flats)

    def backward(self, loss: Tensor, add: Sequence[Tensor | None] | None = None) -> list[Tensor | None]:
        """The gradients of `loss`, with `add`, as views of the buckets that `wait` completes; the next pass
        overwrites them."""
        self._missing, self._works, self._add = list(self._counts), [], add
        hooks = [p.register_hook(partial(self._arrived, i)) for i, p in enumerate(self.params)]
        try:
            own = torch.autograd.grad(loss, self.params, allow_unused=True)
        finally:
            for hook in hooks:
                hook.remove()
        absent = []
        for i, gradient in enumerate(own):
            if gradient is None:
                added = None if add is None else add[i]
                absent.append(added is None)
                self._fill(i, self._slots[i].new_zeros(()) if added is None else added)
            else:
                absent.append(False)
        return [None if out else slot for out, slot in zip(absent, self._slots, strict=True)]

    def wait(self) -> None:
        """Return once every bucket holds the sum over ranks."""
        for work in self._works:
            work.wait()

    def _arrived(self, index: int, gradient: Tensor | None) -> None:
        if gradient is None:  # a second derivative that is zero for certain, as `grad` says with None
            return
        added = None if self._add is None else self._add[index]
        self._fill(index, gradient if added is None else gradient + added)

    def _fill(self, index: int, gradient: Tensor) -> None:
        with torch.no_grad():
            self._slots[index].copy_(gradient)
        self._missing[self._bucket[index]] -= 1
        while len(self._works) < len(self._flats) and self._missing[len(self._works)] == 0:
            self._works.append(dist.all_reduce(self._flats[len(self._works)], async_op=True))


def _buckets(params: Sequence[Tensor]) -> list[list[int]]:
    """Indices of consecutive parameters of one type, from the last to the first."""
    buckets: list[list[int]] = []
    room = 0
    for i in reversed(range(len(params))):
        size = params[i].numel() * params[i].element_size()
        kind = (params[i].dtype, params[i].device)
        if (
            not buckets
            or size > room
            or (params[buckets[-1][0]].dtype, params[buckets[-1][0]].device) != kind
        ):
            room = BUCKET_BYTES if buckets else FIRST_BUCKET_BYTES
            buckets.append([])
        buckets[-1].append(i)
        room -= size
    return buckets


def _shaped(piece: Tensor, like: Tensor) -> Tensor:
    """The flat `piece` in shape and memory format of the dense tensor `like`: optimisers do not look at strides."""
    return piece.as_strided(like.shape, like.stride(), piece.storage_offset())

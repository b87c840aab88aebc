"""Building blocks that more than two families share, and the batch norm that is right at every world size."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from gans.family import Networks
from gans.sync import Alone, Sync

Norm = Literal["batch", "group", "instance", "none", "spectral"]


class SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm over the *global* batch, for (N, C) and (N, C, H, W), on any device and backend.

    torch's SyncBatchNorm needs GPUs. With one rank this is torch's own batch norm; with more, mean and variance
    are summed over ranks by a differentiable all-reduce, so double backward and uneven shares are right. Every
    rank ends with the same running statistics.
    """

    sync: Sync = Alone()

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() not in (2, 4):
            raise ValueError(f"expected (N, C) or (N, C, H, W), got {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        if self.sync.world == 1 or not self.training:
            return super().forward(input)
        x = input.float()
        axes = (0,) if x.dim() == 2 else (0, 2, 3)
        shape = (1, -1) if x.dim() == 2 else (1, -1, 1, 1)
        count = x.new_tensor([x.numel() / x.shape[1]])
        sums = self.sync.total(torch.cat([x.sum(axes), count]))  # one exchange for both
        mean, count = sums[:-1] / sums[-1], sums[-1].detach()
        centred = x - mean.view(shape)
        var = self.sync.total(centred.square().sum(axes)) / count
        self._track(mean.detach(), var.detach(), float(count.item()))
        out = centred * torch.rsqrt(var + self.eps).view(shape)
        if self.affine:
            out = out * self.weight.view(shape) + self.bias.view(shape)
        return out.to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor, count: float) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        momentum = 0.1 if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(var * (count / max(count - 1, 1)), momentum)
        self.num_batches_tracked += 1


def bind_sync(nets: Networks, sync: Sync) -> None:
    """Give every layer that exchanges statistics the ranks it exchanges them with."""
    for net in nets.values():
        for module in net.modules():
            if isinstance(module, SyncBatchNorm):
                module.sync = sync


def normalisation(kind: Norm, channels: int) -> nn.Module:
    """The layer for `kind`. `spectral` normalises weights, not activations: see `weighted`."""
    layers = {
        "batch": lambda: SyncBatchNorm(channels),
        "group": lambda: nn.GroupNorm(math.gcd(8, channels), channels),
        "instance": lambda: nn.InstanceNorm2d(channels, affine=True),
        "none": nn.Identity,
        "spectral": nn.Identity,
    }
    return layers[kind]()


def weighted(layer: nn.Module, kind: Norm) -> nn.Module:
    """The layer, with spectral norm (Miyato et al. 2018) where `kind` asks for it."""
    return spectral_norm(layer) if kind == "spectral" else layer


def levels(size: int, smallest: int = 4) -> int:
    """How many doublings lead from `smallest` to `size`. Raises ValueError where none do."""
    n = round(math.log2(size / smallest))
    if n < 0 or smallest * 2**n != size:
        sizes = ", ".join(str(smallest * 2**i) for i in range(1, 8))
        raise ValueError(f"pictures of {size} px cannot be reached by doubling {smallest} px; sizes: {sizes}")
    return n


def picture_problems(shape: tuple[int, ...], smallest: int = 4) -> list[str]:
    """Why pictures of `shape` (C, H, W) do not suit networks that double from `smallest` px; empty if they do."""
    if len(shape) != 3:
        return [f"this family makes pictures (C, H, W); the data's samples have shape {shape}"]
    if shape[1] != shape[2]:
        return [f"pictures must be square, these are {shape[1]} x {shape[2]}: set data.size"]
    try:
        return [] if levels(shape[1], smallest) > 0 else [f"pictures must be larger than {smallest} px"]
    except ValueError as error:
        return [f"{error}: set data.size"]


class Reshape(nn.Module):
    """(N, ...) → (N, *shape)."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), *self.shape)

"""Resampling of pictures by a finite impulse response: zero-insertion, padding, convolution, decimation.

In plain PyTorch, differentiable any number of times, the same on every device. It knows nothing of networks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

BINOMIAL = (1.0, 3.0, 3.0, 1.0)  # Karras et al. 2019 and 2020, after Zhang 2019


def taps(values: Sequence[float]) -> Tensor:
    """The filter of these taps with sum 1."""
    found = torch.tensor(values, dtype=torch.float32)
    return found / found.sum()


def upfirdn2d(
    x: Tensor,
    filter: Tensor,
    up: int = 1,
    down: int = 1,
    padding: tuple[int, int] = (0, 0),
    gain: float = 1.0,
) -> Tensor:
    """Insert `up` - 1 zeros after every pixel, pad, convolve with `filter` times `gain`, keep every `down`-th pixel.

    x: (N, C, H, W). filter: (T,), applied along both axes, or (T, T). padding: zeros before and after, on both axes,
    of the zero-inserted picture; negative ones crop. Returns (N, C, h, w) with h = floor((up H + sum(padding) - T) /
    down) + 1. A true convolution: the filter is flipped. Source: the operation of that name in Karras et al. 2020.
    """
    n, c, h, w = x.shape
    if up > 1:
        x = pad(x.reshape(n, c, h, 1, w, 1), (0, up - 1, 0, 0, 0, up - 1)).reshape(n, c, h * up, w * up)
    before, after = padding
    x = pad(x, (before, after, before, after))
    flipped = filter.flip(list(range(filter.dim()))).to(x.dtype)
    # Strided depthwise convolutions in bf16 are 10 times slower on a CPU than those that leave decimation to slicing.
    stride = 1 if x.device.type == "cpu" else down
    if filter.dim() == 2:
        x = conv2d(x, _each(flipped * gain, c), stride=stride, groups=c)
    else:
        x = conv2d(x, _each(flipped[None, :] * gain, c), stride=(1, stride), groups=c)
        x = conv2d(x, _each(flipped[:, None], c), stride=(stride, 1), groups=c)
    return x[:, :, ::down, ::down] if stride < down else x


def upsampled(x: Tensor, filter: Tensor, factor: int = 2) -> Tensor:
    """(N, C, H, W) → (N, C, factor H, factor W), constants kept away from the border; filter: (T,) or (T, T)."""
    spare = len(filter) - factor
    padding = ((spare + 1) // 2 + factor - 1, spare // 2)
    return upfirdn2d(x, filter, up=factor, padding=padding, gain=factor**2)


def downsampled(x: Tensor, filter: Tensor, factor: int = 2) -> Tensor:
    """(N, C, H, W) → (N, C, H / factor, W / factor), constants kept away from the border."""
    spare = len(filter) - factor
    return upfirdn2d(x, filter, down=factor, padding=((spare + 1) // 2, spare // 2))


def _each(kernel: Tensor, channels: int) -> Tensor:
    """(h, w) → (C, 1, h, w): the same kernel for every channel."""
    return kernel.expand(channels, 1, *kernel.shape)

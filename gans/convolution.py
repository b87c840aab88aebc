"""The layers at either end of DCGAN's networks, where a convolution is not the fastest way to compute it.

Under bf16 on a CPU they are matrix products and a sub-pixel convolution, together 6 % of a step (Zen 5, 32 and
64 px). Elsewhere, float32 on a CPU included, they are torch's layers. Parameters are those of torch's layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear, pad, pixel_shuffle

_FEW = 4  # most output channels for which a sub-pixel convolution beats the transposed one

# Row 2i + p of a doubled map takes, from rows i-1, i, i+1 of the small map, these taps of the kernel; tap 4 is a zero.
_TAPS = [[3, 1, 4], [4, 2, 0]]


class Expand(nn.ConvTranspose2d):
    """The first layer of a generator: (N, C, 1, 1) → (N, outputs, 4, 4)."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 4, bias=bias)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        if not _bf16_on_cpu(input):
            return super().forward(input, output_size)
        bias = None if self.bias is None else self.bias.repeat(16)
        out = linear(input.flatten(1), self.weight.permute(2, 3, 1, 0).flatten(0, 2), bias)
        return out.view(len(input), 4, 4, self.out_channels).permute(0, 3, 1, 2)


class Collapse(nn.Conv2d):
    """The last layer of a discriminator: (N, C, 4, 4) → (N, outputs, 1, 1)."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 4, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        if not _bf16_on_cpu(input):
            return super().forward(input)
        rows = input.permute(0, 2, 3, 1).flatten(1)  # no copy where channels are last
        return linear(rows, self.weight.permute(0, 2, 3, 1).flatten(1), self.bias)[:, :, None, None]


class Double(nn.ConvTranspose2d):
    """The last layer of a generator, 4x4 with stride 2: (N, C, H, W) → (N, outputs, 2H, 2W)."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 4, 2, 1, bias=bias)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        if self.out_channels > _FEW or not _bf16_on_cpu(input):
            return super().forward(input, output_size)
        return _subpixel(input, self.weight, self.bias)


def _subpixel(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The transposed convolution as a 3x3 one to 4 times the channels (Shi et al. 2016)."""
    taps = torch.tensor(_TAPS)
    kernels = pad(weight, (0, 1, 0, 1))[:, :, taps][..., taps]  # (C, outputs, 2, 3, 2, 3)
    kernel = kernels.permute(1, 2, 4, 0, 3, 5).reshape(-1, weight.shape[0], 3, 3)
    return pixel_shuffle(conv2d(x, kernel, None if bias is None else bias.repeat_interleave(4), padding=1), 2)


def _bf16_on_cpu(x: Tensor) -> bool:
    autocast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return autocast and x.device.type == "cpu"

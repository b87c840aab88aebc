"""The layers at either end of DCGAN's networks, where a convolution is not the fastest way to compute it.

Under bf16 on a CPU they are matrix products and sub-pixel convolutions, together 5 to 8 % of a step (Zen 5, 32 and
64 px). Elsewhere, float32 on a CPU included, they are torch's layers. Parameters are those of torch's layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear, pad, pixel_shuffle, pixel_unshuffle

_FEW = 4  # most channels of a picture for which the sub-pixel form is faster

# The taps of a 4x4 kernel of stride 2 that join row 2i + p of the picture with rows i-1, i, i+1 of the map, for the
# transposed convolution and, the other way round, for the convolution; tap 4 is a zero.
_UP = [[3, 1, 4], [4, 2, 0]]
_DOWN = [[4, 1, 3], [0, 2, 4]]


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
        kernel = _taps(self.weight, _UP).permute(1, 2, 4, 0, 3, 5).reshape(-1, self.in_channels, 3, 3)
        bias = None if self.bias is None else self.bias.repeat_interleave(4)
        return pixel_shuffle(conv2d(input, kernel, bias, padding=1), 2)


class Halve(nn.Conv2d):
    """The first layer of a discriminator, 4x4 with stride 2: (N, C, 2H, 2W) → (N, outputs, H, W).

    The sub-pixel form gains in the gradient with respect to the picture, so it is used where that is wanted.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 4, 2, 1, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        if self.in_channels > _FEW or not input.requires_grad or not _bf16_on_cpu(input):
            return super().forward(input)
        kernel = _taps(self.weight, _DOWN).permute(0, 1, 2, 4, 3, 5).reshape(self.out_channels, -1, 3, 3)
        return conv2d(pixel_unshuffle(input, 2), kernel, self.bias, padding=1)


def _taps(weight: Tensor, taps: list[list[int]]) -> Tensor:
    """(A, B, 4, 4) → (A, B, 2, 3, 2, 3): the kernels of each of the picture's four sub-pixels (Shi et al. 2016)."""
    index = torch.tensor(taps)
    return pad(weight, (0, 1, 0, 1))[:, :, index][..., index]


def _bf16_on_cpu(x: Tensor) -> bool:
    autocast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return autocast and x.device.type == "cpu"

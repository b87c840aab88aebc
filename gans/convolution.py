"""DCGAN's convolutions with kernels of their own for bf16 on a CPU; elsewhere they are torch's layers.

A 4x4 convolution of stride 2 and padding 1, its transpose, and their weight gradient are one trilinear form read in
three ways, so the derivatives of each are the other two, to any order. oneDNN's bf16 kernels come close to a matrix
product for most of this, but not (Zen 5, one core, batch 64) for weight gradients of maps at most 8 wide (half the
speed), for transposes to few channels, and for kernels as large as the picture, which are matrix products.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.functional import conv2d, conv_transpose2d, linear, pad, pixel_shuffle
from torch.nn.grad import conv2d_weight

_NARROW = 8  # widest map whose weight gradient is faster as a matrix product
_FEW = 4  # most output channels for which a sub-pixel convolution beats the transposed one

# Row p of a doubled map takes from the small map's rows i-1, i, i+1 the taps 3, 1 (p = 0) and 2, 0 (p = 1) of the
# kernel; tap 4 is a zero.
_TAPS = torch.tensor([[3, 1, 4], [4, 2, 0]])


class Halve(nn.Conv2d):
    """4x4 convolution: (N, C, 2H, 2W) → (N, outputs, H, W)."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 4, 2, 1, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        return _Halve.apply(*_bf16(input, self)) if _lowered(input) else super().forward(input)


class Double(nn.ConvTranspose2d):
    """4x4 transposed convolution: (N, C, H, W) → (N, outputs, 2H, 2W)."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 4, 2, 1, bias=bias)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        return _Double.apply(*_bf16(input, self)) if _lowered(input) else super().forward(input)


class Expand(nn.ConvTranspose2d):
    """The first layer of a generator: (N, C, 1, 1) → (N, outputs, 4, 4)."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 4, bias=bias)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        if not _lowered(input):
            return super().forward(input)
        bias = None if self.bias is None else self.bias.repeat(16)
        out = linear(input.flatten(1), self.weight.permute(2, 3, 1, 0).flatten(0, 2), bias)
        return out.view(len(input), 4, 4, self.out_channels).permute(0, 3, 1, 2)


class Collapse(nn.Conv2d):
    """The last layer of a discriminator: (N, C, 4, 4) → (N, outputs, 1, 1)."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 4, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        if not _lowered(input):
            return super().forward(input)
        rows = input.permute(0, 2, 3, 1).flatten(1)  # no copy where channels are last
        return linear(rows, self.weight.permute(0, 2, 3, 1).flatten(1), self.bias)[:, :, None, None]


def _lowered(x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
    )


def _bf16(x: Tensor, layer: nn.Conv2d | nn.ConvTranspose2d) -> tuple[Tensor, Tensor, Tensor | None]:
    bias = None if layer.bias is None else layer.bias.bfloat16()
    return x.bfloat16(), layer.weight.bfloat16(), bias


class _Halve(Function):
    """(x, w, b) → y with x (N, A, 2H, 2W), w (B, A, 4, 4), b (B,), y (N, B, H, W)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, w)
        return conv2d(x, w, b, 2, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (x, w), (g,), needs = ctx.saved_tensors, grads, ctx.needs_input_grad
        return (
            _Double.apply(g, w, None) if needs[0] else None,
            _Weight.apply(x, g) if needs[1] else None,
            g.sum((0, 2, 3)) if needs[2] else None,
        )


class _Double(Function):
    """(y, w, b) → x, the transpose of `_Halve`; b (A,)."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        ctx.save_for_backward(y, w)
        return _subpixel(y, w, b) if w.shape[1] <= _FEW else conv_transpose2d(y, w, b, 2, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (y, w), (g,), needs = ctx.saved_tensors, grads, ctx.needs_input_grad
        return (
            _Halve.apply(g, w, None) if needs[0] else None,
            _Weight.apply(g, y) if needs[1] else None,
            g.sum((0, 2, 3)) if needs[2] else None,
        )


class _Weight(Function):
    """(x, y) → the gradient of <y, Halve(x, w)> with respect to w."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(x, y)
        a, b = x.shape[1], y.shape[1]
        if y.shape[-1] > _NARROW:
            return conv2d_weight(x, [b, a, 4, 4], y, stride=2, padding=1)
        lines = pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1)).flatten(2)  # (N, 2H+2, (2W+2) A)
        windows = lines.unfold(2, 4 * a, 2 * a).unfold(1, 4, 2)  # (N, H, W, 4 A, 4)
        columns = windows.transpose(3, 4).reshape(-1, 16 * a)
        rows = y.permute(0, 2, 3, 1).reshape(-1, b)
        return (rows.T @ columns).view(b, 4, 4, a).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (x, y), (g,), needs = ctx.saved_tensors, grads, ctx.needs_input_grad
        return (
            _Double.apply(y, g, None) if needs[0] else None,
            _Halve.apply(x, g, None) if needs[1] else None,
        )


def _subpixel(y: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    """The transposed convolution as a 3x3 one to 4 times the channels (Shi et al. 2016)."""
    padded = pad(w, (0, 1, 0, 1))
    kernel = padded[:, :, _TAPS][..., _TAPS].permute(1, 2, 4, 0, 3, 5).reshape(-1, w.shape[0], 3, 3)
    bias = None if b is None else b.repeat_interleave(4)
    return pixel_shuffle(conv2d(y, kernel, bias, padding=1), 2)

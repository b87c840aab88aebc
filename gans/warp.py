"""Moving pictures: by whole pixels exactly, by any affine map with a wavelet's filters, as often differentiable as
they like. It knows nothing of probabilities or networks.

Resampling follows Karras et al. 2020b (StyleGAN2-ADA, appendix B): twice the pixels by the orthogonal lowpass filter
of symlet 6, bilinear lookup there, half the pixels by the same filter flipped. Beyond its border a picture goes on as
its mirror image. An identity map gives the picture back.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from gans.filters import upfirdn2d

# Lowpass decomposition filter of symlet 6 (Daubechies 1992, table 6.3): sum sqrt(2), orthonormal to its even shifts.
SYM6 = (
    0.015404109327027373,
    0.0034907120842174702,
    -0.11799011114819057,
    -0.048311742585633,
    0.4910559419267466,
    0.787641141030194,
    0.3379294217276218,
    -0.07263752278646252,
    -0.021060292512300564,
    0.04472490177066578,
    0.0017677118642428036,
    -0.007800708325034148,
)
_DELAY = sum(i * c for i, c in enumerate(SYM6)) / sum(SYM6)  # of the filter, in fine pixels
_REACH = 3  # pixels beyond its border that the picture is made of, and as many that those are made of
_MARGIN = 2 * _REACH
_DENSE = 256  # px up to which filtering is two products with matrices, on a CPU ten times as fast at 16 px


def shifted(x: Tensor, down: Tensor, right: Tensor, mirrored: bool) -> Tensor:
    """Move picture n of x (N, C, H, W) by down[n] and right[n] pixels (int64); what comes in is mirrored, or zero."""
    for axis, by in ((2, down), (3, right)):
        size = x.shape[axis]
        place = torch.arange(size, device=x.device) - by[:, None]  # (N, size): where each pixel comes from
        inside = (place >= 0) & (place < size)
        place = reflected(place, size) if mirrored else place.clamp(0, size - 1)
        wide = (len(x), 1, -1, 1) if axis == 2 else (len(x), 1, 1, -1)
        x = torch.take_along_dim(x, place.view(wide), axis)
        x = x if mirrored else x * inside.view(wide).to(x.dtype)
    return x


def reflected(place: Tensor, size: int) -> Tensor:
    """Places on a line of `size` pixels, mirrored about the centres of the first and the last one until inside."""
    last = size - 1
    return last - (place.remainder(2 * last) - last).abs() if last else torch.zeros_like(place)


def warped(x: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    """Look up pixel p of picture n of x (N, C, H, W) at matrix[n] (p - offset[n]), places from the picture's centre.

    matrix: (N, 2, 2), offset: (N, 2), in pixels, x before y.
    """
    height, width = x.shape[2:]
    if max(height, width) <= _DENSE:
        (up_h, down_h), (up_w, down_w) = (_matrices(side, x.dtype, x.device) for side in (height, width))
        fine = up_h @ x @ up_w.T
        return down_h @ _looked_up(fine, matrix, offset, height, width) @ down_w.T
    taps = torch.tensor(SYM6, dtype=x.dtype, device=x.device)
    for axis, side in ((2, height), (3, width)):
        x = x.index_select(axis, reflected(torch.arange(-_MARGIN, side + _MARGIN, device=x.device), side))
    fine = upfirdn2d(x, taps, up=2, padding=(len(taps) - 1, len(taps) - 2))
    return upfirdn2d(_looked_up(fine, matrix, offset, height, width), taps.flip(0), down=2)


@lru_cache(maxsize=16)
def _matrices(side: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """What the two filters do to a line of `side` pixels: (fine pixels, side), with a mirrored margin, and back."""
    up = torch.zeros(2 * (side + 2 * _MARGIN) + len(SYM6) - 2, side, dtype=torch.double)
    for k, place in enumerate(reflected(torch.arange(-_MARGIN, side + _MARGIN), side).tolist()):
        up[2 * k : 2 * k + len(SYM6), place] += torch.tensor(SYM6, dtype=torch.double)
    down = torch.zeros(side, 2 * side + len(SYM6) - 2, dtype=torch.double)
    for k in range(side):
        down[k, 2 * k : 2 * k + len(SYM6)] = torch.tensor(SYM6, dtype=torch.double)
    return up.to(device, dtype), down.to(device, dtype)


def _looked_up(fine: Tensor, matrix: Tensor, offset: Tensor, height: int, width: int) -> Tensor:
    looked: Tensor = _Sampled.apply(fine, _grid(matrix, offset, height, width, fine.shape[2:]))
    return looked


def _grid(matrix: Tensor, offset: Tensor, height: int, width: int, fine: torch.Size) -> Tensor:
    """Where the fine pixels that the picture is made of again are looked up, in grid_sample's units (N, h, w, 2)."""
    begin, places = 2 * _MARGIN, []
    for i, side in enumerate((width, height)):  # fine pixel m lies at (m - delay) / 2 - margin
        m = torch.arange(begin, begin + 2 * side + len(SYM6) - 2, device=matrix.device, dtype=matrix.dtype)
        places.append((m - _DELAY) / 2 - _MARGIN - (side - 1) / 2 - offset[:, i, None])  # (N, w) and (N, h)
    x, y = places[0][:, None], places[1][:, :, None]
    units = []
    for i, side, total in ((0, width, fine[1]), (1, height, fine[0])):
        place = matrix[:, i, 0, None, None] * x + matrix[:, i, 1, None, None] * y + (side - 1) / 2
        near = (place >= -_REACH) & (place <= side - 1 + _REACH)
        place = torch.where(near, place, reflected(place, side))
        units.append((2 * (place + _MARGIN) + _DELAY) * (2 / (total - 1)) - 1)
    return torch.stack(units, 3)


class _Sampled(torch.autograd.Function):
    """grid_sample, whose own backward has no derivative. Linear in x: each is the other's derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.shape = x.shape
        return grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=True)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (grid,) = ctx.saved_tensors
        return _Spread.apply(gradient, grid, ctx.shape), None


class _Spread(torch.autograd.Function):
    """The transpose of `_Sampled`."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, grid: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        with torch.enable_grad():
            x = gradient.new_zeros(shape).requires_grad_(True)
            sampled = grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
        (spread,) = torch.autograd.grad(sampled, x, gradient)
        return spread

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (grid,) = ctx.saved_tensors
        return _Sampled.apply(gradient, grid), None, None

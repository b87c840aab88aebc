"""Low-pass filters and resampling that keep what a sampled signal stands for: a band-limited continuous one.

Karras et al. 2021, "Alias-Free Generative Adversarial Networks" (StyleGAN3), sections 2 and 3.2, appendix C. In plain
PyTorch, differentiable any number of times. It knows nothing of networks.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.signal import firwin, kaiser_atten, kaiser_beta
from scipy.special import j1
from torch import Tensor, nn

from gans.filters import upfirdn2d

# Up to this many pixels a side, on the finer grid, a product with the whole banded matrix beats two convolutions
# (one Zen 5 core, 36 to 79 px, forward and backward: 44 against 163 ms in float32, 15 against 46 in bfloat16).
DENSE = 160


def kaiser_lowpass(taps: int, cutoff: float, width: float, rate: float) -> Tensor:
    """(taps,) with sum 1: the sinc of `cutoff` under a Kaiser window that makes a transition band of `width`.

    cutoff, width and rate (samples) count per unit of length: a picture's side. Source: StyleGAN3, appendix C.1.
    """
    return torch.from_numpy(firwin(taps, cutoff, width=width, fs=rate)).float()


def jinc_lowpass(taps: int, cutoff: float, width: float, rate: float) -> Tensor:
    """(taps, taps) with sum 1: J1(2 pi fc r) / r, the disc of frequencies below `cutoff`, under the same window.

    It treats all directions alike, as rotation asks for. Source: StyleGAN3, section 3.2 (config R), appendix C.2.
    """
    x = (np.arange(taps) - (taps - 1) / 2) / rate
    r = np.maximum(np.hypot(*np.meshgrid(x, x)), 1e-9)  # an odd number of taps has one at 0
    window = np.kaiser(taps, kaiser_beta(kaiser_atten(taps, width / (rate / 2))))
    found = j1(2 * np.pi * cutoff * r) / r * np.outer(window, window)
    return torch.from_numpy(found / found.sum()).float()


class Resample(nn.Module):
    """(N, C, S, S) → (N, C, s, s): `up` - 1 zeros after each pixel, padding, `filter` times up^2, each `down`-th pixel.

    filter: (T,), applied along both axes, or (T, T). padding: before and after, on both axes; negative ones crop.
    The operation is `upfirdn2d`; for small pictures and filters along axes it is a matrix on either side.
    """

    filter: Tensor
    matrix: Tensor

    def __init__(
        self, filter: Tensor, size: int, up: int = 1, down: int = 1, padding: tuple[int, int] = (0, 0)
    ) -> None:
        super().__init__()
        self.up, self.down, self.padding = up, down, padding
        finer = up * size + sum(padding)
        self.size = (finer - len(filter)) // down + 1
        self.dense = filter.dim() == 1 and finer <= DENSE
        matrix = resampling_matrix(filter, size, self.size, up, down, padding[0]) if self.dense else filter
        self.register_buffer("filter", filter, persistent=False)
        self.register_buffer("matrix", matrix, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.dense:
            return self.matrix @ x @ self.matrix.T
        return upfirdn2d(x, self.filter, self.up, self.down, self.padding, gain=self.up**2)


def resampling_matrix(filter: Tensor, size: int, made: int, up: int, down: int, before: int) -> Tensor:
    """(made, size): `Resample` along one axis, with gain `up`. filter: (T,)."""
    flipped = filter.flip(0)
    rows, columns = torch.arange(made)[:, None], torch.arange(size)[None, :]
    place = before + columns * up - rows * down  # of the input pixel under the flipped filter
    inside = (place >= 0) & (place < len(filter))
    return torch.where(inside, up * flipped[place.clamp(0, len(filter) - 1)], 0.0)

"""Equalised learning rate and pixel norm (Karras et al. 2018, "Progressive Growing of GANs", sections 4.1 and 4.2).

Weights are stored as N(0, 1) and scaled by He's constant each time they are used, so that Adam, whose steps do not
depend on a gradient's scale, changes every weight at the same relative speed. It knows nothing of architectures.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, linear

SQRT2 = math.sqrt(2.0)  # He's gain of a ReLU; of LeakyReLU(0.2) StyleGAN2 and progressive GAN take the same


class EqualisedLinear(nn.Linear):
    """y = x (W c)^T + b m with W ~ N(0, 1), c = gain * m / sqrt(inputs); m is the learning-rate multiplier.

    W is drawn with standard deviation 1 / m, so that m slows learning and leaves the initial function as it is
    (Karras et al. 2019, "A Style-Based Generator", appendix C). The bias begins at `bias_init`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        bias: bool = True,
        bias_init: float = 0.0,
        gain: float = 1.0,
        lr_multiplier: float = 1.0,
    ) -> None:
        super().__init__(inputs, outputs, bias=bias)
        nn.init.normal_(self.weight, 0.0, 1 / lr_multiplier)
        if bias:
            nn.init.constant_(self.bias, bias_init / lr_multiplier)
        self.scale = gain * lr_multiplier / math.sqrt(inputs)
        self.lr_multiplier = lr_multiplier

    def forward(self, input: Tensor) -> Tensor:
        # typed as a parameter by torch, None without bias
        bias: Tensor | None = self.bias
        if bias is not None and self.lr_multiplier != 1.0:
            bias = bias * self.lr_multiplier
        return linear(input, self.weight * self.scale, bias)


class EqualisedConv2d(nn.Conv2d):
    """A convolution with W ~ N(0, 1) used as W * gain / sqrt(fan_in), zero bias; size-preserving by default."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        padding: int | None = None,
        bias: bool = True,
        gain: float = 1.0,
    ) -> None:
        padding = kernel // 2 if padding is None else padding
        super().__init__(inputs, outputs, kernel, stride, padding, bias=bias)
        nn.init.normal_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        self.scale = gain / math.sqrt(inputs * kernel**2)

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.weight * self.scale, self.bias)


class PixelNorm(nn.Module):
    """x / sqrt(mean over channels of x^2 + eps): axis 1 of (N, C, ...) (Karras et al. 2018, section 4.2)."""

    def __init__(self, eps: float = 1e-8) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return unit_mean_square(x, self.eps)


def unit_mean_square(x: Tensor, eps: float = 1e-8) -> Tensor:
    """(N, C, ...) scaled so that each position's C entries have mean square 1."""
    return x * torch.rsqrt(x.float().square().mean(1, keepdim=True) + eps).to(x.dtype)


def scaled_leaky_relu(x: Tensor) -> Tensor:
    """sqrt(2) LeakyReLU(x), slope 0.2: keeps the variance of what an equalised layer of gain 1 puts out."""
    return leaky_relu(x, 0.2) * SQRT2

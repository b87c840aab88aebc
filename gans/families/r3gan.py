"""R3GAN (Huang et al. 2024, "The GAN is dead; long live the GAN!"): relativistic pairing with R1 and R2, on
residual networks without normalisation.

Section 4's roadmap: bilinear resampling, grouped 3x3 convolutions in inverted bottlenecks, LeakyReLU, no norm
anywhere, fix-up initialisation (the last convolution of a block starts at zero), a learned 4x4 basis scaled by the
latent in the generator and a 4x4 depthwise classifier in the discriminator. A fresh real batch for the generator;
learning rate, beta2 and gamma on cosine schedules; no lazy regularisation.
"""

from __future__ import annotations

import itertools
import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import interpolate

from gans.adversarial import Adversarial
from gans.data.base import DataSpec
from gans.family import Networks, Phase
from gans.losses import LossName
from gans.nn import levels, picture_problems
from gans.schedule import Cosine, Schedule

GAIN = math.sqrt(2 / (1 + 0.2**2))  # He gain of LeakyReLU(0.2)


class R3GAN(Adversarial):
    """`width` channels at the largest resolution, doubled at each halving up to `width_max`; `blocks` a stage.

    `expansion` widens the bottleneck, `group` is the channels of one group of its 3x3 convolution.
    """

    loss: LossName = Field("relativistic", description="RpGAN (eq. 2)")
    lr_g: Schedule = Field(
        Cosine(start=2e-4, end=5e-5), description="learning rate of the generator, cosine (appendix)"
    )
    betas: tuple[Schedule, Schedule] = Field(
        (0.0, Cosine(start=0.9, end=0.99)), description="of Adam; the second on a cosine (appendix)"
    )
    r1: Schedule = Field(
        Cosine(start=0.05, end=0.005),
        description="gamma of |grad D|^2 / 2 on real rows (CIFAR-10: .05 to .005; FFHQ-256: 150 to 15)",
    )
    r2: Schedule = Field(
        Cosine(start=0.05, end=0.005), description="gamma of |grad D|^2 / 2 on generated rows"
    )
    width: int = Field(32, ge=4, description="channels at the largest resolution, doubled at each halving")
    width_max: int = Field(512, ge=4, description="most channels of a stage")
    blocks: int = Field(1, ge=1, description="residual blocks a stage and network (paper: 2)")
    expansion: int = Field(2, ge=1, description="how many times the bottleneck is wider (paper: 2)")
    group: int = Field(16, ge=1, description="channels of one group of its 3x3 convolution (paper: 16)")
    norm_d: Literal["none"] = Field("none", description="no norm anywhere (section 4)")
    latent_dim: int = Field(64, ge=1, description="entries of the latent z")

    def check(self, spec: DataSpec) -> list[str]:
        return [*super().check(spec), *picture_problems(spec.x.shape)]

    def networks(self, spec: DataSpec) -> Networks:
        channels, size, _ = spec.x.shape
        widths = [min(self.width_max, self.width * 2**i) for i in reversed(range(levels(size) + 1))]
        return {
            "generator": Generator(self, widths, channels),
            "discriminator": Discriminator(self, widths[::-1], channels),
        }

    def phases(self) -> tuple[Phase, ...]:
        critic, *rest = super().phases()
        return (critic, *(_fresh(p) for p in rest))


def _fresh(phase: Phase) -> Phase:
    return Phase(**{**vars(phase), "data": "fresh"})


def conv(inputs: int, outputs: int, kernel: int, groups: int = 1, gain: float = 1.0) -> nn.Conv2d:
    """A bias-free convolution with N(0, gain^2 / fan_in) weights."""
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
    nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(layer.weight[0].numel()))
    return layer


class Block(nn.Module):
    """x + W3 lrelu(W2 lrelu(W1 x)): 1x1 up, grouped 3x3, 1x1 down; W3 starts at zero (fix-up)."""

    def __init__(self, width: int, expansion: int, group: int) -> None:
        super().__init__()
        inner = width * expansion
        groups = math.gcd(inner, max(1, inner // group))
        self.enter = conv(width, inner, 1, gain=GAIN)
        self.mix = conv(inner, inner, 3, groups, gain=GAIN)
        self.bias1 = nn.Parameter(torch.zeros(1, inner, 1, 1))
        self.bias2 = nn.Parameter(torch.zeros(1, inner, 1, 1))
        self.leave = conv(inner, width, 1, gain=0.0)

    def forward(self, x: Tensor) -> Tensor:
        h = nn.functional.leaky_relu(self.enter(x) + self.bias1, 0.2)
        h = nn.functional.leaky_relu(self.mix(h) + self.bias2, 0.2)
        return x + self.leave(h)


class Generator(nn.Module):
    """Latent → 4x4 basis → stages of blocks with bilinear doubling between → picture (no output squashing)."""

    def __init__(self, config: R3GAN, widths: list[int], channels: int) -> None:
        super().__init__()
        self.basis = nn.Parameter(torch.randn(widths[0], 4, 4))
        self.scale = nn.Linear(config.latent_dim, widths[0], bias=False)
        nn.init.normal_(self.scale.weight, 0.0, 1 / math.sqrt(config.latent_dim))
        self.stages = nn.ModuleList(_stage(config, w) for w in widths)
        self.widen = nn.ModuleList(conv(a, b, 1) for a, b in itertools.pairwise(widths))
        self.picture = conv(widths[-1], channels, 1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.stages[0](self.scale(z)[:, :, None, None] * self.basis)
        for widen, stage in zip(self.widen, self.stages[1:], strict=True):
            x = stage(interpolate(widen(x), scale_factor=2, mode="bilinear", align_corners=False))
        return self.picture(x)


class Discriminator(nn.Module):
    """Picture → stages of blocks with bilinear halving between → 4x4 depthwise classifier → one logit."""

    def __init__(self, config: R3GAN, widths: list[int], channels: int) -> None:
        super().__init__()
        self.enter = conv(channels, widths[0], 1)
        self.stages = nn.ModuleList(_stage(config, w) for w in widths)
        self.widen = nn.ModuleList(conv(a, b, 1) for a, b in itertools.pairwise(widths))
        self.collapse = nn.Conv2d(widths[-1], widths[-1], 4, groups=widths[-1], bias=False)
        nn.init.normal_(self.collapse.weight, 0.0, 1 / 4)
        self.logit = nn.Linear(widths[-1], 1, bias=False)
        nn.init.normal_(self.logit.weight, 0.0, 1 / math.sqrt(widths[-1]))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages[0](self.enter(x))
        for widen, stage in zip(self.widen, self.stages[1:], strict=True):
            x = stage(widen(interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=False)))
        return self.logit(self.collapse(x).flatten(1)).flatten()


def _stage(config: R3GAN, width: int) -> nn.Sequential:
    return nn.Sequential(*(Block(width, config.expansion, config.group) for _ in range(config.blocks)))

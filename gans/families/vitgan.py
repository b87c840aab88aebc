"""ViTGAN (Lee et al. 2022, "Training GANs with Vision Transformers"): a vision transformer on either side, and neither
convolution nor pooling.

Generator: the tokens begin as position embeddings alone. The latent enters by self-modulated layer norm:
a mapping network makes w of z, and SLN(h, w) = gamma(w) o (h - mu) / sigma + beta(w) stands in the place of every layer
norm. Each final token becomes a patch by an implicit function f(E_fou, y): a multilayer perceptron of two layers with
a sine between maps the Fourier features of a pixel's place in the patch to its colour, its weights modulated by the
token and demodulated (Anokhin et al. 2021, CIPS).

Discriminator: a ViT (Dosovitskiy et al. 2021) with a class token and learned position embeddings.

- L2 attention (Kim et al. 2021) with tied queries and keys: softmax_j(-|q_i - k_j|^2 / sqrt(d)), so that the
  layer is Lipschitz where dot products are not.
- Improved spectral norm: W → sigma(W_init) W / sigma(W), one power iteration an update.
- Overlapping patches: each reaches `overlap` pixels into its neighbours, the number of tokens stays.

Phases: critic, whose loss holds R1 at every step, and generator. Non-saturating loss, Adam(2e-3, 0, 0.99), R1 0.1;
DiffAugment and balanced consistency regularisation (bCR).

Departures: the authors' published code has only the generator; where the paper leaves a size open (mapping network,
R1, learning rate) the defaults are that code's configuration for 32 px.
"""

from __future__ import annotations

import itertools
import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, unfold

from gans.adversarial import Adversarial
from gans.data.base import DataSpec
from gans.equalised import EqualisedLinear, scaled_leaky_relu, unit_mean_square
from gans.family import Networks, Step
from gans.losses import LossName
from gans.schedule import Schedule
from gans.spectral import iterate, spectral

MLP_RATIO = 4  # hidden units of a block's perceptron by `width` (ViT)
MAPPING_LR = 0.01  # of the mapping network, relative (Karras et al. 2019)
FREQUENCY = math.sqrt(9 / 2)  # bound of the Fourier features' uniform frequencies (CIPS)


class ViTGAN(Adversarial):
    """`width` entries a token, `depth` blocks and `heads` in either network; patches of `patch` px.

    A discriminator's patch takes `overlap` px more on each side. `width` is also the size of w.
    """

    loss: LossName = Field("non_saturating", description="adversarial loss (source: paper, experiments)")
    lr_g: Schedule = Field(2e-3, description="generator's learning rate (source: authors' code, 32 px)")
    betas: tuple[Schedule, Schedule] = Field(
        (0.0, 0.99), description="Adam's betas (source: paper, experiments)"
    )
    r1: Schedule = Field(0.1, description="weight of R1 (source: authors' code, 32 px)")
    augment: Literal["none", "ada", "diff"] = Field(
        "diff", description="what the discriminator is shown: DiffAugment (source: paper, experiments)"
    )
    consistency: float = Field(
        10.0, ge=0, description="weight of bCR on real rows (source: paper, experiments)"
    )
    consistency_fake: float = Field(
        10.0, ge=0, description="weight of bCR on generated rows (source: paper, experiments)"
    )
    latent_dim: int = Field(384, ge=1, description="entries of the latent z (source: authors' code)")
    width: int = Field(384, ge=1, description="entries of a token, D (source: paper, experiments, ViT-small)")
    depth: int = Field(4, ge=1, description="blocks in either network (source: paper, experiments, 32 px)")
    heads: int = Field(6, ge=1, description="attention heads (source: paper, experiments, ViT-small)")
    mapping_layers: int = Field(8, ge=1, description="layers from z to w (source: authors' code)")
    patch: int = Field(4, ge=1, description="side P of a patch, px (source: paper, experiments, 32 px)")
    overlap: int = Field(
        2, ge=0, description="pixels o a patch extends on each side, P / 2 (source: paper, experiments)"
    )

    def check(self, spec: DataSpec) -> list[str]:
        shape, problems = spec.x.shape, super().check(spec)
        if len(shape) != 3:
            return [*problems, f"vitgan makes pictures (C, H, W); the data's samples have shape {shape}"]
        if shape[1] != shape[2]:
            problems.append(f"pictures must be square, these are {shape[1]} x {shape[2]}: set data.size")
        elif shape[1] % self.patch or shape[1] == self.patch:
            problems.append(
                f"pictures of {shape[1]} px cannot be cut into patches of gan.patch = {self.patch}: "
                "set it to a proper divisor"
            )
        if self.width % self.heads:
            problems.append(
                f"gan.width = {self.width} must be a multiple of gan.heads = {self.heads}: set either"
            )
        return problems

    def networks(self, spec: DataSpec) -> Networks:
        channels, size, _ = spec.x.shape
        return {
            "generator": Generator(self, size // self.patch, channels),
            "discriminator": Discriminator(self, size // self.patch, channels),
        }

    def after(self, phase: str, nets: Networks, step: Step) -> None:
        super().after(phase, nets, step)
        if phase != "generator":
            iterate(nets["discriminator"])


def linear(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    """A linear layer as ViT initialises it."""
    layer = nn.Linear(inputs, outputs, bias)
    nn.init.xavier_uniform_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def lipschitz(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    """The same with improved spectral norm."""
    return spectral(linear(inputs, outputs, bias), keeps_scale=True)


def by_heads(x: Tensor, heads: int) -> Tensor:
    """(N, L, D) → (N, heads, L, D / heads)."""
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


def joined(x: Tensor) -> Tensor:
    """(N, heads, L, d) → (N, L, heads * d)."""
    return x.transpose(1, 2).flatten(2)


class SelfModulatedNorm(nn.Module):
    """SLN(h, w) = gamma(w) o (h - mu) / sigma + beta(w), gamma centred at one; h (N, L, D), w (N, D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.gamma, self.beta = EqualisedLinear(width, width, bias_init=1.0), EqualisedLinear(width, width)

    def forward(self, h: Tensor, w: Tensor) -> Tensor:
        return self.gamma(w)[:, None] * layer_norm(h, (self.width,)) + self.beta(w)[:, None]


class DotAttention(nn.Module):
    """Multi-head attention by dot products, softmax_j(q_i^T k_j / sqrt(d)) v_j (Vaswani et al. 2017)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project, self.leave = linear(width, 3 * width, bias=False), linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (by_heads(part, self.heads) for part in self.project(x).chunk(3, 2))
        weights = (q @ k.transpose(2, 3) / math.sqrt(q.shape[3])).softmax(3)
        return self.leave(joined(weights @ v))


class DistanceAttention(nn.Module):
    """Multi-head L2 attention with tied queries and keys (Kim et al. 2021)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.value = lipschitz(width, width, bias=False), lipschitz(width, width, bias=False)
        self.leave = lipschitz(width, width)

    def weights(self, x: Tensor) -> Tensor:
        """(N, heads, L, L), rows summing to one: softmax_j(-|q_i - q_j|^2 / sqrt(d))."""
        q = by_heads(self.query(x), self.heads)
        # |q_i|^2 is the same for all j and falls out of the softmax.
        return ((2 * q @ q.transpose(2, 3) - q.square().sum(3)[:, :, None]) / math.sqrt(q.shape[3])).softmax(
            3
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(joined(self.weights(x) @ by_heads(self.value(x), self.heads)))


class GeneratorBlock(nn.Module):
    """h' = MSA(SLN(h, w)) + h; MLP(SLN(h', w)) + h' (the paper's encoder)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = SelfModulatedNorm(width), SelfModulatedNorm(width)
        self.attention = DotAttention(width, heads)
        self.mlp = nn.Sequential(
            linear(width, MLP_RATIO * width), nn.GELU(), linear(MLP_RATIO * width, width)
        )

    def forward(self, h: Tensor, w: Tensor) -> Tensor:
        h = h + self.attention(self.norm1(h, w))
        return h + self.mlp(self.norm2(h, w))


class DiscriminatorBlock(nn.Module):
    """x' = MSA(LN(x)) + x; MLP(LN(x')) + x', by L2 attention and Lipschitz weights."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = DistanceAttention(width, heads)
        self.enter, self.leave = lipschitz(width, MLP_RATIO * width), lipschitz(MLP_RATIO * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.leave(gelu(self.enter(self.norm2(x))))


class Modulated(nn.Module):
    """x (N, P, inputs) → (N, P, outputs) by weights that a token y (N, width) scales: W_ok s_k(y).

    `demodulate` brings each output's weights back to length one (Karras et al. 2020, eq. 3).
    """

    def __init__(self, width: int, inputs: int, outputs: int, demodulate: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / math.sqrt(inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale = EqualisedLinear(width, inputs, bias_init=1.0)
        self.demodulate = demodulate

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        scale = self.scale(y)
        out = (x * scale[:, None]) @ self.weight.T
        if self.demodulate:
            lengths = (scale.square() @ self.weight.square().T + 1e-8).rsqrt()
            out = out * lengths[:, None]
        return out + self.bias


class PatchFunction(nn.Module):
    """f(E_fou, y): a token y (N, width) → its patch (N, P * P, channels), each pixel from its place alone."""

    def __init__(self, width: int, patch: int, channels: int) -> None:
        super().__init__()
        line = torch.linspace(-1, 1, patch) if patch > 1 else torch.zeros(1)
        self.register_buffer("places", torch.cartesian_prod(line, line), persistent=False)  # (P * P, 2)
        self.fourier = nn.Linear(2, width)
        nn.init.uniform_(self.fourier.weight, -FREQUENCY, FREQUENCY)
        self.hidden = Modulated(width, width, width, demodulate=True)
        self.colour = Modulated(width, width, channels, demodulate=False)

    def forward(self, y: Tensor) -> Tensor:
        encoded = torch.sin(self.fourier(self.places))  # E_fou (P * P, width)
        return self.colour(torch.sin(self.hidden(encoded[None], y)), y)


class Generator(nn.Module):
    """z (N, latent) → (N, channels, side * P, side * P)."""

    def __init__(self, config: ViTGAN, side: int, channels: int) -> None:
        super().__init__()
        width = config.width
        self.side, self.patch, self.channels = side, config.patch, channels
        sizes = [config.latent_dim, *[width] * config.mapping_layers]
        self.mapping = nn.ModuleList(
            EqualisedLinear(a, b, lr_multiplier=MAPPING_LR) for a, b in itertools.pairwise(sizes)
        )
        self.places = nn.Parameter(torch.randn(side**2, width))  # E_pos
        self.blocks = nn.ModuleList(GeneratorBlock(width, config.heads) for _ in range(config.depth))
        self.norm = SelfModulatedNorm(width)
        self.function = PatchFunction(width, config.patch, channels)

    def styles(self, z: Tensor) -> Tensor:
        """w (N, width)."""
        w = unit_mean_square(z)
        for layer in self.mapping:
            w = scaled_leaky_relu(layer(w))
        return w

    def forward(self, z: Tensor) -> Tensor:
        w = self.styles(z)
        h = self.places[None].expand(len(z), -1, -1)
        for block in self.blocks:
            h = block(h, w)
        patches = self.function(self.norm(h, w).flatten(0, 1))  # (N * L, P * P, C)
        p, s = self.patch, self.side
        return (
            patches.reshape(-1, s, s, p, p, self.channels)
            .permute(0, 5, 1, 3, 2, 4)
            .flatten(4, 5)
            .flatten(2, 3)
        )


class Discriminator(nn.Module):
    """x (N, channels, side * P, side * P) → (N,) logits."""

    def __init__(self, config: ViTGAN, side: int, channels: int) -> None:
        super().__init__()
        width = config.width
        self.patch, self.overlap = config.patch, config.overlap
        self.embed = lipschitz(channels * (config.patch + 2 * config.overlap) ** 2, width)
        self.judge = nn.Parameter(0.02 * torch.randn(1, 1, width))  # the class token
        self.places = nn.Parameter(0.02 * torch.randn(side**2 + 1, width))
        self.blocks = nn.ModuleList(DiscriminatorBlock(width, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)
        self.head = lipschitz(width, 1)

    def patches(self, x: Tensor) -> Tensor:
        """(N, L, C * (P + 2 o)^2): patches at steps of P, each with `overlap` pixels around it, zero outside."""
        return unfold(x, self.patch + 2 * self.overlap, padding=self.overlap, stride=self.patch).transpose(
            1, 2
        )

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(self.patches(x))
        h = torch.cat([self.judge.expand(len(x), -1, -1), tokens], 1) + self.places
        for block in self.blocks:
            h = block(h)
        return self.head(self.norm(h[:, 0])).flatten()

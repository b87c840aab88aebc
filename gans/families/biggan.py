"""BigGAN (Brock, Donahue and Simonyan 2019, "Large Scale GAN Training for High Fidelity Natural Image Synthesis"):
the class-conditional residual GAN of appendix B, figure 15 and table 4.

- Class-conditional batch norm (section 3): one embedding of the class is shared by all norms of the generator; each
  projects it to gains, centred at one, and biases. Statistics are those of the batch of all ranks.
- Hierarchical latents (section 3): z is cut into equal chunks; the first makes the 4x4 map, each of the others joins
  the embedding that conditions one block.
- Residual blocks, up by nearest neighbours in the generator and down by averaging in the discriminator; ReLU, and
  channels that double with each halving, up to 16 times `width`.
- Self-attention on one resolution of both networks (Zhang et al. 2019, SAGAN, eq. 1 to 3), its gate from zero; keys
  and values are pooled 2x2, as the authors' code does.
- Spectral norm (Miyato et al. 2018) on every weight of both networks but the shared embedding.
- Projection discriminator (Miyato and Koyama 2018, eq. 3): psi(h) + <embedding of the class, h>.
- Hinge loss, two critic steps, Adam(0, 0.999) with 5e-5 and 2e-4; orthogonal initialisation.
- Orthogonal regularisation of the generator's filters, off the diagonal only (eq. 3), which makes the truncation
  trick (section 3.1, option `truncation`) work: z is normal within the threshold.

Phases: critic (twice a step, each with a batch of its own) and generator.

Departures: channels follow one rule at every resolution, which is table 4's at 128 px (at 256 px the paper has 8 times
`width` at one resolution more). The average by half-life takes the place of a constant decay of 0.9999. Samples use the
running statistics, averaged along with the weights, in place of standing statistics.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d, relu

from gans.adversarial import Adversarial
from gans.data.base import Batch, DataSpec
from gans.family import Networks, Step, Terms
from gans.losses import LossName
from gans.nn import SyncBatchNorm, levels, picture_problems
from gans.schedule import Schedule
from gans.spectral import baked, iterate, spectral

SMALLEST = 4
WIDEST = 16  # times `width`: table 4
SIZES = (0, 4, 8, 16, 32, 64, 128)
TRAINED = {"critic": "discriminator", "penalty": "discriminator", "generator": "generator"}


class BigGAN(Adversarial):
    """`width` channels at the full resolution, doubled with each halving up to 16 times.

    `latent_dim` is a multiple of the number of chunks, which is one more than the doublings from 4 px. `attention`
    is the resolution that attends, in px; of pictures that are not larger, half their size; 0: none. `norm_g` "none"
    leaves the class-conditional gains and biases, and the rows of a batch apart.
    """

    inputs: ClassVar[tuple[str, ...]] = ("label",)
    conditional: ClassVar[bool] = True
    row_wise: ClassVar[bool] = False  # the regularisation is of weights

    loss: LossName = Field("hinge", description="adversarial loss (source: section 3, table 1)")
    lr_g: Schedule = Field(5e-5, description="generator's learning rate (source: appendix C)")
    lr_ratio: float = Field(4.0, gt=0, description="lr_d / lr_g, 2e-4 / 5e-5 (source: appendix C)")
    betas: tuple[Schedule, Schedule] = Field((0.0, 0.999), description="Adam's betas (source: appendix C)")
    critic_steps: int = Field(2, ge=1, description="critic steps a generator step (source: appendix C)")
    latent_dim: int = Field(
        120, ge=1, description="latent size (source: appendix B, 20 for each of 6 chunks)"
    )
    width: int = Field(96, ge=1, description="channel multiplier ch (source: table 1)")
    shared_dim: int = Field(128, ge=1, description="size of the shared class embedding (source: appendix B)")
    attention: int = Field(64, description="resolution with self-attention, px (source: table 4)")
    orthogonal: float = Field(1e-4, ge=0, description="weight beta of eq. 3 (source: section 3.1)")
    norm_g: Literal["batch", "none"] = Field("batch", description="the generator's norm (source: section 3)")

    def check(self, spec: DataSpec) -> list[str]:
        problems = [*super().check(spec), *picture_problems(spec.x.shape, SMALLEST)]
        if spec.num_classes is None:
            problems.append("biggan needs labels, and this data has none: set data.labels, or use dcgan")
        if self.attention not in SIZES:
            allowed = ", ".join(map(str, SIZES))
            problems.append(f"gan.attention = {self.attention}: it is a resolution in px, one of {allowed}")
        if not problems and self.latent_dim % (chunks := levels(spec.x.shape[1], SMALLEST) + 1):
            problems.append(
                f"gan.latent_dim = {self.latent_dim} cannot be cut into {chunks} equal chunks, the number for "
                f"pictures of {spec.x.shape[1]} px: set it to a multiple of {chunks}"
            )
        return problems

    def networks(self, spec: DataSpec) -> Networks:
        channels, size, _ = spec.x.shape
        assert spec.num_classes is not None
        return {
            "generator": Generator(self, size, channels, spec.num_classes),
            "discriminator": Discriminator(self, size, channels, spec.num_classes),
        }

    def objective(self, phase: str, nets: Networks, step: Step) -> Terms:
        loss, report = super().objective(phase, nets, step)
        if phase == "generator" and self.orthogonal:
            penalty = self.orthogonal * orthogonality(nets["generator"])
            loss, report = loss + penalty, {**report, "orthogonal": penalty.detach()}
        return loss, report

    def after(self, phase: str, nets: Networks, step: Step) -> None:
        super().after(phase, nets, step)
        iterate(nets[TRAINED[phase]])

    def exported(self, nets: Networks, spec: DataSpec) -> tuple[nn.Module, Batch]:
        module, example = super().exported(nets, spec)
        return baked(module), example

    def attends(self, size: int) -> int:
        """The resolution that attends in pictures of `size` px; 0: none."""
        return min(self.attention, size // 2)


def widths(width: int, size: int) -> dict[int, int]:
    """Channels by resolution, from 4 px to `size`: table 4's generator at 128 px."""
    sizes = [SMALLEST * 2**i for i in range(levels(size, SMALLEST) + 1)]
    return {s: width * min(WIDEST, size // s) for s in sizes}


def conv(inputs: int, outputs: int, kernel: int = 3, bias: bool = True) -> nn.Conv2d:
    """A convolution that keeps the resolution, orthogonal at first and spectrally normalised."""
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias)
    _initialise(layer.weight, layer.bias)
    return spectral(layer)


def linear(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    """A linear layer, orthogonal at first and spectrally normalised."""
    layer = nn.Linear(inputs, outputs, bias)
    _initialise(layer.weight, layer.bias)
    return spectral(layer)


def embedding(classes: int, size: int) -> nn.Embedding:
    """An embedding, orthogonal at first."""
    layer = nn.Embedding(classes, size)
    _initialise(layer.weight, None)
    return layer


def _initialise(weight: Tensor, bias: Tensor | None) -> None:
    """Orthogonal weights (Saxe et al. 2014) and zero biases."""
    nn.init.orthogonal_(weight)
    if bias is not None:
        nn.init.zeros_(bias)


def orthogonality(generator: nn.Module) -> Tensor:
    """Sum over weights of |W W^T o (1 - I)|_F^2, rows of W being filters (eq. 3); the shared embedding is left out.

    Where there are more filters than inputs, |W W^T|_F = |W^T W|_F spares the large matrix.
    """
    weights = [
        w for name, w in generator.named_parameters() if w.dim() > 1 and not name.startswith("shared.")
    ]
    with torch.autocast(weights[0].device.type, enabled=False):
        return torch.stack([_off_diagonal(w.flatten(1)) for w in weights]).sum()


def _off_diagonal(w: Tensor) -> Tensor:
    gram = w @ w.T if len(w) <= w.shape[1] else w.T @ w
    return gram.square().sum() - w.square().sum(1).square().sum()


class ConditionalNorm(nn.Module):
    """(1 + W_g c) o norm(x) + W_b c for x (N, C, H, W) and conditions c (N, K)."""

    def __init__(self, channels: int, conditions: int, norm: str) -> None:
        super().__init__()
        self.norm = SyncBatchNorm(channels, affine=False) if norm == "batch" else nn.Identity()
        self.gain = linear(conditions, channels, bias=False)
        self.bias = linear(conditions, channels, bias=False)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        gain, bias = 1 + self.gain(condition), self.bias(condition)
        return self.norm(x) * gain[:, :, None, None] + bias[:, :, None, None]


class Attention(nn.Module):
    """x + gamma v(sum_i softmax_i(f(x_i)^T g(x_j)) h(x_i)), gamma from 0 (SAGAN, eq. 1 to 3); i: pooled 2x2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner, values = max(1, channels // 8), max(1, channels // 2)
        self.query, self.key = conv(channels, inner, 1, bias=False), conv(channels, inner, 1, bias=False)
        self.value, self.leave = conv(channels, values, 1, bias=False), conv(values, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        queries = self.query(x).flatten(2)  # (N, C / 8, HW)
        keys = max_pool2d(self.key(x), 2).flatten(2)  # (N, C / 8, HW / 4)
        values = max_pool2d(self.value(x), 2).flatten(2)  # (N, C / 2, HW / 4)
        weights = (queries.transpose(1, 2) @ keys).softmax(2)  # (N, HW, HW / 4)
        seen = (values @ weights.transpose(1, 2)).unflatten(2, x.shape[2:])
        return x + self.gamma * self.leave(seen)


class Up(nn.Module):
    """Norm, ReLU, double, 3x3, norm, ReLU, 3x3; beside it double, 1x1 (figure 15b)."""

    def __init__(self, inputs: int, outputs: int, conditions: int, norm: str) -> None:
        super().__init__()
        self.norm1 = ConditionalNorm(inputs, conditions, norm)
        self.norm2 = ConditionalNorm(outputs, conditions, norm)
        biased = norm != "batch"  # it takes away the mean, and leaves a bias before it nothing but rounding
        self.conv1, self.conv2 = conv(inputs, outputs, bias=biased), conv(outputs, outputs, bias=biased)
        self.skip = conv(inputs, outputs, 1, bias=biased)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = self.conv1(_doubled(relu(self.norm1(x, condition))))
        h = self.conv2(relu(self.norm2(h, condition)))
        return h + _doubled(self.skip(x))  # a 1x1 convolution commutes with nearest neighbours


class Down(nn.Module):
    """ReLU (not before the picture), 3x3, ReLU, 3x3, halve where `halves`; beside it 1x1, halve (figure 15c)."""

    def __init__(self, inputs: int, outputs: int, first: bool, halves: bool) -> None:
        super().__init__()
        self.first, self.halves = first, halves
        self.conv1, self.conv2 = conv(inputs, outputs), conv(outputs, outputs)
        self.skip = conv(inputs, outputs, 1) if halves or inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv2(relu(self.conv1(x if self.first else relu(x))))
        # Averaging commutes with a 1x1 convolution, and the smaller map is the cheaper one.
        return avg_pool2d(h, 2) + self.skip(avg_pool2d(x, 2)) if self.halves else h + self.skip(x)


class Generator(nn.Module):
    """(z (N, latent), label (N,)) → (N, channels, size, size) in [-1, 1] (figure 15a, table 4)."""

    def __init__(self, config: BigGAN, size: int, channels: int, num_classes: int) -> None:
        super().__init__()
        by_size = widths(config.width, size)
        self.chunk = config.latent_dim // len(by_size)
        self.shared = embedding(num_classes, config.shared_dim)
        attends, conditions = config.attends(size), config.shared_dim + self.chunk
        self.enter = linear(self.chunk, by_size[SMALLEST] * SMALLEST**2)
        self.blocks = nn.ModuleList(
            Up(by_size[a], by_size[b], conditions, config.norm_g) for a, b in pairwise(by_size)
        )
        self.attentions = nn.ModuleList(_attention(w, s == attends) for s, w in by_size.items())
        self.norm = SyncBatchNorm(config.width) if config.norm_g == "batch" else nn.Identity()
        self.picture = conv(config.width, channels)

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        first, *chunks = z.split(self.chunk, 1)
        embedded = self.shared(label)
        x = self.attentions[0](self.enter(first).unflatten(1, (-1, SMALLEST, SMALLEST)))
        for block, attention, chunk in zip(self.blocks, self.attentions[1:], chunks, strict=True):
            x = attention(block(x, torch.cat([embedded, chunk], 1)))
        return torch.tanh(self.picture(relu(self.norm(x))))


class Discriminator(nn.Module):
    """(x (N, channels, size, size), label (N,)) → (N,) logits (figure 15a, table 4)."""

    def __init__(self, config: BigGAN, size: int, channels: int, num_classes: int) -> None:
        super().__init__()
        seen = {s // 2: w for s, w in reversed(widths(config.width, size).items()) if s > SMALLEST}
        attends, last = config.attends(size), seen[SMALLEST]
        pairs = pairwise([channels, *seen.values()])
        self.blocks = nn.ModuleList(Down(a, b, first=i == 0, halves=True) for i, (a, b) in enumerate(pairs))
        self.attentions = nn.ModuleList(_attention(w, s == attends) for s, w in seen.items())
        self.last = Down(last, last, first=False, halves=False)
        self.head = linear(last, 1)
        self.embedding = spectral(embedding(num_classes, last))

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        for block, attention in zip(self.blocks, self.attentions, strict=True):
            x = attention(block(x))
        h = relu(self.last(x)).sum((2, 3))
        return self.head(h).flatten() + (self.embedding(label) * h).sum(1)


def _attention(channels: int, there: bool) -> nn.Module:
    return Attention(channels) if there else nn.Identity()


def _doubled(x: Tensor) -> Tensor:
    return interpolate(x, scale_factor=2, mode="nearest")

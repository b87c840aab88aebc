"""StyleGAN2 (Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN"), with StyleGAN2-ADA's
options (Karras et al. 2020b, "Training Generative Adversarial Networks with Limited Data").

What makes it that: a mapping network from normalised z to w with a hundredth of the learning rate (StyleGAN,
appendix C); convolutions whose weights are modulated by w and demodulated to unit norm (section 2.2, equations 1 and
3); noise of learned strength at every pixel after each of them; a generator that sums pictures of all resolutions
(skip) against a residual discriminator (section 4.1), both resampling by the filter [1, 3, 3, 1]; equalised learning
rate; minibatch standard deviation in groups of 4; the non-saturating loss; style mixing for 90 % of the pictures
(StyleGAN, section 3.1); truncation towards the mean w (StyleGAN, section B).

Phases: the critic; `penalty`, R1 every 16 steps; the generator; `path`, path length regularisation every 4 steps
(section 3.2, equation 4), on every second row. Both are lazy (appendix B): learning rate and betas of the network
corrected, the loss times the interval. `augment="ada"` adds adaptive discriminator augmentation.

Departures: a crossover of styles is drawn for each picture, not for each batch; path lengths are compared with the
mean before this step, not after it; convolutions run in float32 or bfloat16, which needs no clamping.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from gans.adversarial import Adversarial
from gans.data.base import Batch, DataSpec
from gans.draws import Draws
from gans.equalised import EqualisedLinear, scaled_leaky_relu
from gans.family import Networks, Phase, Step, Terms
from gans.filters import upsampled
from gans.nn import levels, picture_problems
from gans.schedule import Schedule
from gans.style import FIR, MappingNetwork, ResidualDiscriminator, channels_at, modulated_conv2d

LARGEST = 1024
PIXELS_AT_ONCE = 2**24  # of the pictures that sampling makes in one pass: 16 of 1024 px


def auto_r1(size: int, batch: int) -> float:
    """R1's weight for pictures of `size` px in global batches of `batch`: 0.0002 size^2 / batch.

    Karras et al. 2020b, appendix C, and the `auto` configuration of their code.
    """
    return 0.0002 * size**2 / batch


class StyleGAN2(Adversarial):
    """Layers at r px have `channel_base` / r channels, at most `width_max`; w has `style_dim` entries.

    With `by_class` both networks are told the label: embedded beside z, and projected on in the discriminator.
    """

    places_stddev: ClassVar[bool] = True

    lr_g: Schedule = Field(2e-3, description="learning rate of the generator (appendix B)")
    betas: tuple[Schedule, Schedule] = Field((0.0, 0.99), description="Adam's betas (appendix B)")
    latent_dim: int = Field(512, ge=1, description="entries of z (StyleGAN, section 2)")
    style_dim: int = Field(512, ge=1, description="entries of w (StyleGAN, section 2)")
    mapping_layers: int = Field(8, ge=1, description="layers of the mapping network (StyleGAN, section 2)")
    mapping_lr: float = Field(
        0.01,
        gt=0,
        description="learning rate of the mapping network over the generator's (StyleGAN, appendix C)",
    )
    channel_base: int = Field(
        32768, ge=4, description="channels of a layer times its pixels a side (official code, config F)"
    )
    width_max: int = Field(512, ge=1, description="most channels of a layer (official code)")
    r1: Schedule = Field(10.0, description="weight of |grad D|^2 / 2 on real rows (config F); see `auto_r1`")
    penalty_every: int = Field(16, ge=1, description="steps from one R1 phase to the next (appendix B)")
    path: float = Field(
        2.0, ge=0, description="weight of path length regularisation, 0: none (official code)"
    )
    path_every: int = Field(
        4, ge=1, description="steps from one path phase to the next (appendix B: 8; code: 4)"
    )
    path_decay: float = Field(
        0.01, gt=0, le=1, description="share of a batch in the mean path length (official code)"
    )
    path_shrink: int = Field(2, ge=1, description="one row in so many has its path measured (official code)")
    style_mixing: float = Field(
        0.9, ge=0, le=1, description="share of pictures made from two z (StyleGAN, section 3.1)"
    )
    style_decay: float = Field(0.995, ge=0, lt=1, description="decay of the mean w (StyleGAN, section B)")
    truncation: float | None = Field(
        None, ge=0, description="psi of sampling: w becomes mean + psi (w - mean) (StyleGAN, section B)"
    )
    sampled_noise: bool = Field(
        True, description="whether samples have noise, as in training; ONNX files have none (official code)"
    )
    minibatch_stddev: int = Field(
        4, ge=0, description="rows of a group of minibatch standard deviation, 0: none (Karras et al. 2018)"
    )
    by_class: bool = Field(False, description="whether pictures are made by class (Karras et al. 2020b)")

    @property
    def conditional(self) -> bool:  # type: ignore[override]
        return self.by_class

    @property
    def inputs(self) -> tuple[str, ...]:
        return ("label",) if self.by_class else ()

    @property
    def unit(self) -> int:
        return math.lcm(super().unit, self.path_shrink if self.path else 1)

    def check(self, spec: DataSpec) -> list[str]:
        problems = [*super().check(spec), *picture_problems(spec.x.shape)]
        if len(spec.x.shape) == 3 and spec.x.shape[1] > LARGEST:
            problems.append(
                f"stylegan2 makes pictures of at most {LARGEST} px, these have {spec.x.shape[1]}: set data.size"
            )
        if self.by_class and spec.num_classes is None:
            problems.append(
                "stylegan2 needs labels for gan.by_class=true, and this data has none: set data.labels or "
                "gan.by_class=false"
            )
        return problems

    def networks(self, spec: DataSpec) -> Networks:
        channels, size, _ = spec.x.shape
        sizes = [4 * 2**i for i in range(levels(size) + 1)]
        widths = [channels_at(s, self.channel_base, self.width_max) for s in sizes]
        classes = spec.num_classes if self.by_class and spec.num_classes else 0
        mapping = MappingNetwork(
            self.latent_dim, self.style_dim, self.mapping_layers, self.mapping_lr, num_classes=classes
        )
        return {
            "generator": Generator(mapping, Synthesis(self.style_dim, widths, channels)),
            "discriminator": ResidualDiscriminator(
                channels, widths[::-1], self.minibatch_stddev, classes, self.style_dim, self.mapping_layers
            ),
        }

    def phases(self) -> tuple[Phase, ...]:
        *others, generator = super().phases()
        if not self.path:
            return (*others, generator)
        generator = replace(generator, optimiser=generator.optimiser.lazy(self.path_every))
        path = replace(generator, name="path", every=self.path_every, double=True, reuses=False)
        return (*others, generator, path)

    def memory(self, spec: DataSpec, rows: int) -> dict[str, Tensor]:
        """The last w of every row, and its path's length: what the running means follow."""
        own = {"w": torch.zeros(rows, self.style_dim), "path_length": torch.zeros(rows)}
        return {**super().memory(spec, rows), **own}

    def objective(self, phase: str, nets: Networks, step: Step) -> Terms:
        return self._path(nets, step) if phase == "path" else super().objective(phase, nets, step)

    def after(self, phase: str, nets: Networks, step: Step) -> None:
        super().after(phase, nets, step)
        generator, rows = nets["generator"], step.draws.num
        assert isinstance(generator, Generator)
        if phase == "generator":
            mean = step.sync.total(step.memory["w"].sum(0)) / rows
            generator.mapping.follow(mean, self.style_decay)
        if phase == "path":
            lengths = step.memory["path_length"][:: self.path_shrink].sum(0, keepdim=True)
            mean = step.sync.total(lengths) / (rows // self.path_shrink)
            generator.path_mean.lerp_(mean, self.path_decay)

    def generate(self, nets: Networks, z: Tensor, batch: Batch) -> Tensor:
        """Pictures of latents `z` without noise, truncated as `truncation` says."""
        psi = 1.0 if self.truncation is None else self.truncation
        picture: Tensor = nets["generator"](z, batch["label"] if self.by_class else None, psi)
        return picture

    def fake(self, nets: Networks, step: Step) -> Tensor:
        """Pictures of mixed styles with noise."""
        styles = self._mixed(nets, step)
        step.memory["w"].copy_(styles[:, 0].detach())
        return _parts(nets).synthesis(styles, self._noise(nets, step.draws))

    def sample(self, nets: Networks, inputs: Batch, draws: Draws) -> Batch:
        generator, z = _parts(nets), self.latents(draws)
        psi = 1.0 if self.truncation is None else self.truncation
        styles = generator.styles(z, inputs["label"] if self.by_class else None, psi)
        noise = self._noise(nets, draws) if self.sampled_noise else []
        some = max(1, PIXELS_AT_ONCE // generator.synthesis.sizes[-1] ** 2)
        pieces = zip(styles.split(some), *(n.split(some) for n in noise), strict=True)
        x = torch.cat([generator.synthesis(w, parts or None) for w, *parts in pieces])
        return {"x": x.float(), **{k: inputs[k] for k in self.inputs}}

    def exported(self, nets: Networks, spec: DataSpec) -> tuple[nn.Module, Batch]:
        """z (and label) → picture, without noise, truncated as `truncation` says."""
        _, example = super().exported(nets, spec)
        return Exported(_parts(nets), 1.0 if self.truncation is None else self.truncation), example

    def _mixed(self, nets: Networks, step: Step) -> Tensor:
        """(rows, layers, style): of one z a row, or from a random layer on of another one."""
        generator, draws = _parts(nets), step.draws
        label = step.batch["label"] if self.by_class else None
        w = generator.mapping(self.latents(draws), label)
        num = generator.synthesis.num_styles
        if not self.style_mixing:
            return w[:, None].expand(-1, num, -1)
        other = generator.mapping(self.latents(draws), label)
        crossover = 1 + draws.integers(num - 1)
        mixes = draws.uniform() < self.style_mixing
        return mixed(w, other, torch.where(mixes, crossover, num), num)

    def _noise(self, nets: Networks, draws: Draws) -> list[Tensor]:
        return [draws.normal(1, size, size) for size in _parts(nets).synthesis.noise_sizes]

    def _path(self, nets: Networks, step: Step) -> Terms:
        """(|J_w^T y| - a)^2 (equation 4) with a the mean of past lengths, y normal, on every `path_shrink`-th row."""
        generator, kept = _parts(nets), slice(None, None, self.path_shrink)
        styles = self._mixed(nets, step)[kept]
        picture = generator.synthesis(styles, [n[kept] for n in self._noise(nets, step.draws)])
        lengths = path_lengths(picture, styles, step.draws.normal(*picture.shape[1:])[kept])
        step.memory["path_length"][kept] = lengths.detach()
        penalty = (lengths - generator.path_mean).square()
        report = {"path_length": lengths.detach(), "path": penalty.detach()}
        return self.path * self.path_every * penalty.mean(), report


def _parts(nets: Networks) -> Generator:
    generator = nets["generator"]
    assert isinstance(generator, Generator)
    return generator


def mixed(w: Tensor, other: Tensor, crossover: Tensor, num: int) -> Tensor:
    """(N, num, style): row n takes `w` for layers below crossover[n] and `other` from there on.

    StyleGAN, section 3.1. w and other: (N, style). crossover: (N,), `num` for rows that stay with `w`.
    """
    first = torch.arange(num, device=w.device) < crossover[:, None]
    return torch.where(first[:, :, None], w[:, None], other[:, None])


def path_lengths(picture: Tensor, styles: Tensor, direction: Tensor) -> Tensor:
    """|J^T y| a row, (N,): J the Jacobian of `picture` (N, C, H, W) by w, y = `direction` / sqrt(H W).

    Section 3.2, computed as the gradient of g(w) . y. With `styles` (N, layers, style), a w for each layer, it is the
    root of the mean over layers of the squared norms, as in the official code.
    """
    height, width = picture.shape[2:]
    scaled = (picture * direction).sum() / math.sqrt(height * width)
    (gradient,) = torch.autograd.grad(scaled, styles, create_graph=True)
    return gradient.square().sum(2).mean(1).sqrt()


class StyledConv(nn.Module):
    """Modulated 3x3 convolution, doubling with `up`; then noise, bias and LeakyReLU (figure 2, d)."""

    def __init__(self, inputs: int, outputs: int, style: int, up: bool) -> None:
        super().__init__()
        self.affine = EqualisedLinear(style, inputs, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs, 1, 1))
        self.up = up

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None, filter: Tensor) -> Tensor:
        x = modulated_conv2d(x, self.weight, self.affine(w), up=self.up, filter=filter)
        if noise is not None:
            x = x + self.strength * noise.to(x.dtype)
        return scaled_leaky_relu(x + self.bias.to(x.dtype))


class ToPicture(nn.Module):
    """Modulated 1x1 convolution without demodulation to the picture's channels ("tRGB", figure 7)."""

    def __init__(self, inputs: int, channels: int, style: int) -> None:
        super().__init__()
        self.affine = EqualisedLinear(style, inputs, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(channels, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))
        self.scale = 1 / math.sqrt(inputs)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style = self.affine(w) * self.scale
        return modulated_conv2d(x, self.weight, style, demodulate=False).float() + self.bias


class Synthesis(FIR):
    """w for each layer (N, num_styles, style) and noise → (N, C, S, S), not squashed (figure 7, b: "skip").

    A learned 4x4 constant, one convolution at 4 px and two at each doubling; every resolution's picture is added to
    the one before, upsampled. widths: channels at 4, 8, ..., S px.
    """

    def __init__(self, style: int, widths: Sequence[int], channels: int) -> None:
        super().__init__()
        self.constant = nn.Parameter(torch.randn(widths[0], 4, 4))
        convs = [StyledConv(widths[0], widths[0], style, up=False)]
        for a, b in itertools.pairwise(widths):
            convs += [StyledConv(a, b, style, up=True), StyledConv(b, b, style, up=False)]
        self.convs = nn.ModuleList(convs)
        self.pictures = nn.ModuleList(ToPicture(width, channels, style) for width in widths)
        self.sizes = tuple(4 * 2**i for i in range(len(widths)))
        self.noise_sizes = (4, *(s for size in self.sizes[1:] for s in (size, size)))
        self.num_styles = len(convs) + 1

    def forward(self, styles: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """Layer i takes styles[:, i]; a picture takes that of the convolution after it. noise: (N, 1, s, s) each."""
        noises: Sequence[Tensor | None] = [None] * len(self.convs) if noise is None else noise
        x = self.constant.expand(len(styles), -1, -1, -1)
        x = self.convs[0](x, styles[:, 0], noises[0], self.kernel)
        picture: Tensor = self.pictures[0](x, styles[:, 1])
        for i, to_picture in enumerate(self.pictures[1:]):
            for j in (2 * i + 1, 2 * i + 2):
                x = self.convs[j](x, styles[:, j], noises[j], self.kernel)
            picture = upsampled(picture, self.kernel) + to_picture(x, styles[:, 2 * i + 3])
        return picture


class Generator(nn.Module):
    """z (N, latent) and, by class, label (N,) → picture, without noise. `path_mean` (1,) is the mean path length."""

    path_mean: Tensor

    def __init__(self, mapping: MappingNetwork, synthesis: Synthesis) -> None:
        super().__init__()
        self.mapping, self.synthesis = mapping, synthesis
        self.register_buffer("path_mean", torch.zeros(1))

    def styles(self, z: Tensor, label: Tensor | None, psi: float) -> Tensor:
        """(N, num_styles, style): w of z, truncated by psi, the same for every layer."""
        w = self.mapping(z, label)
        w = w if psi == 1.0 else self.mapping.truncated(w, psi)
        return w[:, None].expand(-1, self.synthesis.num_styles, -1)

    def forward(self, z: Tensor, label: Tensor | None = None, psi: float = 1.0) -> Tensor:
        picture: Tensor = self.synthesis(self.styles(z, label, psi))
        return picture


class Exported(nn.Module):
    """The generator at a fixed psi."""

    def __init__(self, generator: Generator, psi: float) -> None:
        super().__init__()
        self.generator, self.psi = generator, psi

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        picture: Tensor = self.generator(z, label, self.psi)
        return picture

"""The networks of StyleGAN3 (Karras et al. 2021, sections 2 and 3, appendices C and F)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, leaky_relu

from gans.equalised import EqualisedLinear
from gans.lowpass import Resample, jinc_lowpass, kaiser_lowpass
from gans.style import MappingNetwork, ResidualDiscriminator, demodulation

TAPS = 6  # n, of a filter for each pixel of the coarser side (section 3.2)
FINER = 2  # m, the rate of the nonlinearity over that of its layer (section 2.1)
OUTPUT_SCALE = 0.25  # of the picture (official code)


@dataclass(frozen=True)
class Band:
    """What a layer puts out: cutoff fc, half width fh of the transition band, rate s, pixels a side, channels.

    Frequencies and the rate count per side of the picture.
    """

    cutoff: float
    half_width: float
    rate: int
    size: int
    channels: int


class FourierInput(nn.Module):
    """w (N, style) → (N, C, S, S): sines moved and turned as w says, mixed (section 3.1, appendix F).

    Positions have the picture's side as unit and its centre as origin. At first w says nothing.
    """

    frequencies: Tensor
    phases: Tensor

    def __init__(self, band: Band, style: int) -> None:
        super().__init__()
        self.band = band
        channels, radius, angle = band.channels, torch.rand(band.channels).sqrt(), torch.rand(band.channels)
        turn = 2 * math.pi * angle
        uniform = torch.stack([turn.cos(), turn.sin()], 1) * (radius * band.cutoff)[:, None]
        self.register_buffer("frequencies", uniform)  # (C, 2), uniform in the disc
        self.register_buffer("phases", torch.rand(channels) - 0.5)
        self.weight = nn.Parameter(torch.randn(channels, channels, 1, 1))
        self.affine = nn.Parameter(torch.zeros(4, style))
        self.motion = nn.Parameter(torch.tensor([1.0, 0.0, 0.0, 0.0]))  # cos, sin, x, y

    def forward(self, w: Tensor, transform: Tensor | None = None) -> Tensor:
        """transform: (3, 3), the inverse of what is to happen to the picture."""
        fx, fy, phase = self._moved(w.float(), transform)
        band = self.band
        radius = (fx.square() + fy.square() + 1e-12).sqrt()
        damped = (1 - (radius - band.cutoff) / (band.rate / 2 - band.cutoff)).clamp(0, 1)
        place = (torch.arange(band.size, device=w.device) + 0.5 - band.size / 2) / band.rate
        # elementwise, which autocast leaves in float32: a matrix product in bfloat16 would blur phases
        turns = fx[:, :, None, None] * place + fy[:, :, None, None] * place[:, None] + phase[:, :, None, None]
        sines = (2 * math.pi * turns).sin() * damped[:, :, None, None]
        return conv2d(sines, self.weight / math.sqrt(band.channels))

    def _moved(self, w: Tensor, transform: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Frequencies (x and y) and phases in turns, (N, C) each: f' = f A, phase' = phase + f b for positions A p + b.

        [A b] = R T `transform`, R and T the inverse rotation and translation that w asks for.
        """
        scaled = self.affine / math.sqrt(self.affine.shape[1])
        motion = (w[:, None] * scaled).sum(2) + self.motion
        motion = motion / motion[:, :2].square().sum(1, keepdim=True).sqrt()
        c, s, x, y = (value[:, None] for value in motion.unbind(1))
        fx, fy = self.frequencies.unbind(1)
        fx, fy = fx * c + fy * s, fy * c - fx * s  # f R, R = [[c, -s], [s, c]]
        phase = self.phases - fx * x - fy * y
        if transform is None:
            return fx, fy, phase
        (a, b, to_x), (d, e, to_y) = transform[:2].to(w).unbind(0)
        return fx * a + fy * d, fx * b + fy * e, phase + fx * to_x + fy * to_y


class Layer(nn.Module):
    """(N, I, S, S) and w → (N, O, s, s): modulated convolution, then bias and filtered LeakyReLU (figure 4a).

    `picture`: neither filters nor nonlinearity nor demodulation ("ToRGB").
    """

    magnitude: Tensor

    def __init__(
        self, given: Band, made: Band, style: int, kernel: int, radial: bool = False, picture: bool = False
    ) -> None:
        super().__init__()
        self.affine = EqualisedLinear(style, given.channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(made.channels, given.channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(made.channels, 1, 1))
        self.register_buffer("magnitude", torch.ones(()))
        self.picture, self.padding = picture, kernel - 1
        rate = max(given.rate, made.rate) * (1 if picture else FINER)
        up, down = rate // given.rate, rate // made.rate
        finer = lowpass(up, given, rate) if up > 1 else torch.ones(1)
        coarser = lowpass(down, made, rate, radial) if down > 1 else torch.ones(1)
        size = given.size + kernel - 1
        total = (made.size - 1) * down + 1 - size * up + len(finer) + len(coarser) - 2
        before = (total + up) // 2  # samples lie in the middle of pixels at every rate (appendix C.3)
        self.up = Resample(finer, size, up, 1, (before, total - before))
        gain = 1.0 if picture else math.sqrt(2)  # LeakyReLU's, which commutes with the filter after it
        self.down = Resample(coarser * gain, self.up.size, 1, down)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        gain = self.magnitude.rsqrt()
        style = self.affine(w)
        if self.picture:
            style = style / math.sqrt(self.weight[0].numel())
        scale = style * gain  # demodulation is of the style alone: the magnitude is of what comes in
        x = conv2d(x * scale[:, :, None, None].to(x.dtype), self.weight, padding=self.padding)
        if not self.picture:
            x = x * demodulation(self.weight, style)[:, :, None, None].to(x.dtype)
        x = self.up(x + self.bias.to(x.dtype))
        return x if self.picture else self.down(leaky_relu(x, 0.2))


def lowpass(factor: int, band: Band, rate: int, radial: bool = False) -> Tensor:
    """The filter between the rate of `band` and one `factor` times as fine (section 3.2)."""
    design = jinc_lowpass if radial else kaiser_lowpass
    return design(TAPS * factor, band.cutoff, 2 * band.half_width, rate)


class Synthesis(nn.Module):
    """w (N, style) → (N, C, S, S), not squashed: input, layers, picture."""

    def __init__(self, bands: list[Band], style: int, num_critical: int, variant: str) -> None:
        super().__init__()
        kernel, num = (1 if variant == "r" else 3), len(bands) - 1
        self.size = bands[-1].size
        self.input = FourierInput(bands[0], style)
        layers = []
        for i, made in enumerate(bands):
            radial = variant == "r" and i < num - num_critical
            picture = i == num
            layers.append(Layer(bands[max(i - 1, 0)], made, style, 1 if picture else kernel, radial, picture))
        self.layers = nn.ModuleList(layers)

    def forward(self, w: Tensor, transform: Tensor | None = None) -> Tensor:
        x = self.input(w, transform)
        for layer in self.layers:
            x = layer(x, w)
        return x.float() * OUTPUT_SCALE

    def measured(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """The pictures, and the mean square of each row's input to each layer, (N, num_layers + 1)."""
        x, powers = self.input(w), []
        for layer in self.layers:
            powers.append(x.detach().float().square().mean((1, 2, 3)))
            x = layer(x, w)
        return x.float() * OUTPUT_SCALE, torch.stack(powers, 1)

    @torch.no_grad()
    def follow(self, power: Tensor, decay: float) -> None:
        """Let the magnitudes go on by those of a batch, (num_layers + 1,) (section 3.1, config D)."""
        for layer, mean in zip(self.layers, power, strict=True):
            assert isinstance(layer, Layer)
            layer.magnitude.lerp_(mean, 1 - decay)


class Generator(nn.Module):
    """z (N, latent) → picture."""

    def __init__(self, mapping: MappingNetwork, synthesis: Synthesis) -> None:
        super().__init__()
        self.mapping, self.synthesis = mapping, synthesis

    def forward(self, z: Tensor) -> Tensor:
        picture: Tensor = self.synthesis(self.mapping(z))
        return picture


class Exported(nn.Module):
    """The generator at a fixed psi."""

    def __init__(self, generator: Generator, psi: float) -> None:
        super().__init__()
        self.generator, self.psi = generator, psi

    def forward(self, z: Tensor) -> Tensor:
        mapping = self.generator.mapping
        picture: Tensor = self.generator.synthesis(mapping.truncated(mapping(z), self.psi))
        return picture


class Discriminator(ResidualDiscriminator):
    """StyleGAN2's, of pictures blurred by `sigma` pixels where it began with a blur (appendix F)."""

    sigma: Tensor

    def __init__(self, channels: int, widths: list[int], group: int, blur: float) -> None:
        super().__init__(channels, widths, group)
        self.blurs = blur > 0
        if self.blurs:
            self.register_buffer("sigma", torch.tensor(blur))

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        return super().forward(blurred(x, self.sigma) if self.blurs else x, label)


def blurred(x: Tensor, sigma: Tensor) -> Tensor:
    """x (N, C, S, S) under a Gaussian of `sigma` pixels along both axes; 0 leaves it as it is."""
    place = torch.arange(x.shape[-1], device=x.device, dtype=torch.float32)
    apart = (place[:, None] - place).square()
    weights = (-apart / (2 * sigma.clamp(min=1e-3).square())).softmax(1)
    return weights @ x @ weights.T

"""StyleGAN3 (Karras et al. 2021, "Alias-Free Generative Adversarial Networks"): a generator whose pictures move (T) or
move and turn (R) with its input, because no layer leaks frequencies beyond what its samples stand for.

- Fourier features (section 3.1) in place of a learned constant: sines of fixed frequencies, uniform in the disc of the
  first layer's band, moved and turned as w says (appendix F), mixed by a matrix. `transform` moves and turns them too.
- Every layer has its cutoff fc, its transition band fh, its rate s and a margin round the picture (section 3.2,
  figure 4b): cutoffs and stopbands grow geometrically and reach the picture's at the last `num_critical` layers.
- Filtered nonlinearity (figure 4a): up by m = 2 times the finer of the rates of both sides with a Kaiser low-pass
  filter of 6 taps a pixel, LeakyReLU of gain sqrt 2, low-pass, down to the rate of the next layer.
- No noise, no style mixing, no path length, no skip (configs B to E): a mapping network of 2 layers, and convolutions
  modulated and demodulated by w, whose inputs are brought to unit power by a moving average (appendix C, config D).
- `variant="r"`: 1x1 convolutions, twice the channels, radially symmetric low-pass filters (jinc) except where sampling
  is critical; and all that the discriminator sees is blurred at first (section 3.2, appendix F).
- StyleGAN2's discriminator with minibatch standard deviation; non-saturating loss, R1 lazily every 16 steps.

Phases: critic, penalty (lazy), generator. Averages of w and of magnitudes follow the critic's generated rows.

Departures: unconditional; augmentation is off unless asked for; no clamping, which float16 alone needs; the blur
takes each pixel as a mean of those of the picture, which leaves its borders as bright as they were.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from gans.adversarial import Adversarial
from gans.data.base import Batch, DataSpec
from gans.draws import Draws
from gans.families.stylegan3.networks import Band, Discriminator, Exported, Generator, Synthesis
from gans.family import Networks, Step
from gans.metrics.equivariance import equivariance
from gans.nn import levels, picture_problems
from gans.schedule import Schedule
from gans.style import MappingNetwork, channels_at

GROUPS, GROUP = 8, 8  # transforms that EQ figures are measured with, and latents of each
PIXELS_AT_ONCE = 2**24  # of the pictures that sampling makes in one pass


class StyleGAN3(Adversarial):
    """The generator's layers of cutoff fc have `channel_base` / (2 fc) channels, at most `width_max`; R's twice them.

    `margin` is in pixels of a layer. `magnitude_images` and `blur_images` count generated rows.
    """

    places_stddev: ClassVar[bool] = True

    variant: Literal["t", "r"] = Field("t", description="t: translation, r: rotation too (section 3)")
    lr_g: Schedule = Field(2.5e-3, description="learning rate of the generator (appendix F)")
    lr_ratio: float = Field(0.8, gt=0, description="lr_d / lr_g, 0.002 / 0.0025 (appendix F)")
    betas: tuple[Schedule, Schedule] = Field((0.0, 0.99), description="Adam's betas (appendix F)")
    latent_dim: int = Field(512, ge=1, description="entries of z (appendix F)")
    style_dim: int = Field(512, ge=1, description="entries of w (appendix F)")
    mapping_layers: int = Field(2, ge=1, description="layers of the mapping network (section 3, config D)")
    mapping_lr: float = Field(
        0.01, gt=0, description="learning rate of the mapping network over the generator's (official code)"
    )
    channel_base: int = Field(
        32768, ge=4, description="channels of a layer times twice its cutoff (appendix F)"
    )
    channel_base_d: int = Field(
        32768,
        ge=4,
        description="channels of the discriminator's layers times their pixels a side (appendix F)",
    )
    width_max: int = Field(512, ge=1, description="most channels of a layer (appendix F)")
    num_layers: int = Field(14, ge=1, description="layers N between input and picture (section 3.2)")
    num_critical: int = Field(2, ge=0, description="critically sampled layers at the end (section 3.2)")
    margin: int = Field(
        10, ge=0, description="pixels of each layer beyond every border (section 3.1, config E)"
    )
    first_cutoff: float = Field(2.0, gt=0, description="cutoff of the input, cycles a picture (section 3.2)")
    first_stopband: float = Field(2**2.1, gt=0, description="least stopband of the input (section 3.2)")
    last_stopband: float = Field(
        2**0.3, gt=1, description="least stopband of the last layer over its cutoff (section 3.2)"
    )
    magnitude_images: int = Field(
        20_000, ge=1, description="images in which the magnitudes' average forgets half (official code)"
    )
    style_decay: float = Field(0.998, ge=0, lt=1, description="decay of the mean w (official code)")
    blur: float = Field(
        10.0, ge=0, description="R: sigma in pixels of the first blur before the discriminator (appendix F)"
    )
    blur_images: int = Field(200_000, ge=1, description="R: images in which the blur fades (appendix F)")
    r1: Schedule = Field(
        2.0,
        description="weight of |grad D|^2 / 2 on real rows (official guide: 2 at 256 px, times 4 a doubling)",
    )
    penalty_every: int = Field(16, ge=1, description="steps from one R1 phase to the next (appendix F)")
    truncation: float | None = Field(
        None, ge=0, description="psi of sampling: w becomes mean + psi (w - mean) (StyleGAN, section B)"
    )
    minibatch_stddev: int = Field(
        4, ge=0, description="rows of a group of minibatch standard deviation, 0: none (Karras et al. 2018)"
    )

    def check(self, spec: DataSpec) -> list[str]:
        problems = [*super().check(spec), *picture_problems(spec.x.shape)]
        if self.num_critical >= self.num_layers:
            problems.append(
                f"gan.num_critical = {self.num_critical}: fewer than gan.num_layers = {self.num_layers} are allowed"
            )
        if self.first_stopband <= self.first_cutoff:
            problems.append(
                f"gan.first_stopband = {self.first_stopband:g} must lie above gan.first_cutoff = {self.first_cutoff:g}"
            )
        if not problems and self.first_cutoff >= spec.x.shape[1] / 2:
            problems.append(
                f"gan.first_cutoff = {self.first_cutoff:g}: below {spec.x.shape[1] / 2:g}, what pictures of "
                f"{spec.x.shape[1]} px hold, is allowed"
            )
        return problems

    def networks(self, spec: DataSpec) -> Networks:
        channels, size, _ = spec.x.shape
        widths = [
            channels_at(size // 2**i, self.channel_base, self.width_max) for i in range(levels(size) + 1)
        ]
        mapping = MappingNetwork(self.latent_dim, self.style_dim, self.mapping_layers, self.mapping_lr)
        synthesis = Synthesis(self.bands(size, channels), self.style_dim, self.num_critical, self.variant)
        blur = self.blur if self.variant == "r" else 0.0
        return {
            "generator": Generator(mapping, synthesis),
            "discriminator": Discriminator(channels, widths, self.minibatch_stddev, blur),
        }

    def bands(self, size: int, channels: int) -> list[Band]:
        """What each layer puts out, the input first and the picture last (section 3.2, figure 4b)."""
        double = 2 if self.variant == "r" else 1
        base, most = double * self.channel_base, double * self.width_max
        last_cutoff, found = size / 2, []
        for i in range(self.num_layers + 1):
            share = min(i / (self.num_layers - self.num_critical), 1.0)
            cutoff = self.first_cutoff * (last_cutoff / self.first_cutoff) ** share
            last = last_cutoff * self.last_stopband
            stopband = self.first_stopband * (last / self.first_stopband) ** share
            rate = 2 ** math.ceil(math.log2(min(2 * stopband, size)) - 1e-9)
            margin = self.margin if i < self.num_layers - 1 else 0
            width = round(min(base / 2 / cutoff, most)) if i < self.num_layers else channels
            found.append(
                Band(cutoff, max(stopband, rate / 2) - cutoff, rate, rate + 2 * margin, max(1, width))
            )
        return found

    def memory(self, spec: DataSpec, rows: int) -> dict[str, Tensor]:
        """The last w of every row, and the mean square of what each of its layers was given."""
        own = {"w": torch.zeros(rows, self.style_dim), "power": torch.zeros(rows, self.num_layers + 1)}
        return {**super().memory(spec, rows), **own}

    def after(self, phase: str, nets: Networks, step: Step) -> None:
        super().after(phase, nets, step)
        generator, rows = _generator(nets), step.draws.num
        if phase != "critic":
            return
        w, power = (step.sync.total(step.memory[key].sum(0)) / rows for key in ("w", "power"))
        generator.mapping.follow(w, self.style_decay)
        generator.synthesis.follow(power, 0.5 ** (rows / self.magnitude_images))
        left = max(0.0, 1 - (step.step + 1) * rows / self.blur_images)
        for module in nets["discriminator"].modules():
            if isinstance(module, Discriminator) and module.blurs:
                module.sigma.fill_(self.blur * left)

    def sampled_latents(self, draws: Draws) -> Tensor:
        return self.latents(draws)  # w is truncated, not z

    def fake(self, nets: Networks, step: Step) -> Tensor:
        """Generated rows; what the averages need of them is remembered."""
        generator = _generator(nets)
        w = generator.mapping(self.latents(step.draws))
        picture, powers = generator.synthesis.measured(w)
        step.memory["w"].copy_(w.detach())
        step.memory["power"].copy_(powers)
        return picture

    def generate(self, nets: Networks, z: Tensor, batch: Batch) -> Tensor:
        """Pictures of latents `z`, truncated as `truncation` says."""
        generator, some = _generator(nets), max(1, PIXELS_AT_ONCE // _generator(nets).synthesis.size ** 2)
        return torch.cat([generator.synthesis(w) for w in self._styles(generator, z).split(some)])

    def figures(self, nets: Networks, draws: Draws) -> dict[str, float]:
        """EQ-T, EQ-T_frac and EQ-R in dB (appendix E)."""
        generator = _generator(nets)
        styles = self._styles(generator, self.latents(draws))[: GROUPS * GROUP].split(GROUP)
        moves = draws.uniform(3)[: len(styles)] * 2 - 1
        synthesis = generator.synthesis
        return equivariance(lambda k, m: synthesis(styles[k], m), moves[:, :2], moves[:, 2])

    def exported(self, nets: Networks, spec: DataSpec) -> tuple[nn.Module, Batch]:
        """z → picture, truncated as `truncation` says."""
        _, example = super().exported(nets, spec)
        return Exported(_generator(nets), 1.0 if self.truncation is None else self.truncation), example

    def _styles(self, generator: Generator, z: Tensor) -> Tensor:
        w: Tensor = generator.mapping(z)
        return w if self.truncation is None else generator.mapping.truncated(w, self.truncation)


def _generator(nets: Networks) -> Generator:
    generator = nets["generator"]
    assert isinstance(generator, Generator)
    return generator

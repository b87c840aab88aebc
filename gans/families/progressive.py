"""Progressive GAN (Karras et al. 2018, "Progressive Growing of GANs for Improved Quality, Stability, and Variation"):
both networks begin with pictures of 4 px and grow, resolution by resolution, to the size of the data.

Section 2: a new resolution is faded in, in both networks and in the real pictures alike, before training goes on with
it alone. Section 3: the standard deviation over groups of samples as one more map of the discriminator. Section 4.1:
equalised learning rate. Section 4.2: pixel norm after each convolution of the generator, and on the latent. Appendix
A.1: nearest-neighbour doubling, average pooling, LeakyReLU(0.2), WGAN-GP with one critic step and a drift term 1e-3
D(x)^2, Adam(1e-3, 0, 0.99), a batch by resolution, the moving average of the generator; table 2: the layers.

Phases: critic (with penalty and drift), generator. Pictures have the data's size at every stage, coarser ones by
repeated pixels, as in the authors' code: samples always have one shape, and the penalty means the same at all stages.

Departures: groups are consecutive rows, the moving average's half-life is this house's (gans/ema.py), and the first
layer's gain is He's, which the pixel norm after it undoes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Annotated, ClassVar

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from gans.adversarial import Adversarial
from gans.critics import deviation
from gans.data.base import Batch, DataSpec
from gans.equalised import SQRT2, EqualisedConv2d, EqualisedLinear, PixelNorm
from gans.family import Networks, Step, Terms
from gans.losses import LossName
from gans.networks import LeakyReLU
from gans.nn import Reshape, levels, picture_problems
from gans.schedule import Schedule

SMALLEST = 4  # px
WHOLE = 1_000_000  # parts of a resolution's fade-in


class Progressive(Adversarial):
    """`width` channels at the data's resolution, doubled at each halving up to `width_max`.

    `schedule` and `batches` have one value a resolution, from 4 px on; their last one holds for all beyond. A
    resolution has its weight's share of the budget in `schedule` and begins with a fade-in of a share `fade` of that;
    its steps take a share of `train.batch` given by `batches`, in whole groups.
    """

    places_stddev: ClassVar[bool] = True

    loss: LossName = Field("wasserstein", description="the adversarial loss (appendix A.1: WGAN-GP)")
    lr_g: Schedule = Field(1e-3, description="the generator's learning rate (appendix A.1)")
    betas: tuple[Schedule, Schedule] = Field((0.0, 0.99), description="Adam's betas (appendix A.1)")
    gp: float = Field(10.0, ge=0, description="weight of the gradient penalty (Gulrajani et al. 2017)")
    drift: float = Field(1e-3, ge=0, description="weight of D(x)^2 on real pictures (appendix A.1)")
    latent_dim: int = Field(512, ge=1, description="entries of the latent (table 2)")
    width: int = Field(16, ge=1, description="channels at the data's resolution (table 2: 16 at 1024 px)")
    width_max: int = Field(512, ge=1, description="most channels (table 2)")
    minibatch_stddev: int = Field(
        4, ge=0, description="rows whose deviation the critic sees, 0: none (section 3; code: 4)"
    )
    schedule: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        (0.5, 1.0),
        min_length=1,
        description="weight of each resolution in the budget (appendix A.1: 4 px 800k images, others 1.6M)",
    )
    fade: float = Field(
        0.5, ge=0, le=1, description="share of a resolution's part that fades it in (appendix A.1)"
    )
    batches: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.875, 0.375, 0.1875),
        min_length=1,
        description="share of the batch by resolution (appendix A.1: 16 to 128 px, then 14, 6, 3)",
    )

    @field_validator("schedule")
    @classmethod
    def _the_last_resolution_is_trained(cls, schedule: tuple[float, ...]) -> tuple[float, ...]:
        if schedule[-1] <= 0:
            raise ValueError(
                f"schedule {schedule}: the last weight, which all further resolutions take, must be > 0"
            )
        return schedule

    def check(self, spec: DataSpec) -> list[str]:
        return picture_problems(spec.x.shape, SMALLEST) or super().check(spec)

    def networks(self, spec: DataSpec) -> Networks:
        channels, size, _ = spec.x.shape
        n = levels(size, SMALLEST)
        widths = [min(self.width_max, self.width * 2 ** (n - k)) for k in range(n + 1)]
        return {
            "generator": Generator(self.latent_dim, widths, channels),
            "discriminator": Discriminator(widths, channels, self.minibatch_stddev),
        }

    def rows(self, progress: float, batch: int, spec: DataSpec) -> int:
        level, _ = stage(self.growth(progress, levels(spec.x.shape[1], SMALLEST)))
        share = _of(self.batches, level)
        return batch if share == 1 else max(self.unit, int(share * batch) // self.unit * self.unit)

    def growth(self, progress: float, num: int) -> int:
        """How far networks with `num` doublings have grown: WHOLE parts a doubling, from 0 to num * WHOLE."""
        weights = [_of(self.schedule, level) for level in range(num + 1)]
        left = progress * sum(weights)
        for level, weight in enumerate(weights):
            if left < weight or level == num:
                break
            left -= weight
        if level == 0:
            return 0
        fading = self.fade * weight
        return (level - 1) * WHOLE + (round(WHOLE * min(1.0, left / fading)) if fading else WHOLE)

    def critic_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return super().critic_loss(real_logits, fake_logits) + self.drift * real_logits.square()

    def objective(self, phase: str, nets: Networks, step: Step) -> Terms:
        x = step.batch["x"]
        growth = self.growth(step.progress, levels(x.shape[2], SMALLEST))
        for net in nets.values():
            for module in net.modules():
                if isinstance(module, Growing):
                    module.grow(growth)
        batch = step.batch | {"x": faded(x, *stage(growth))}
        return super().objective(phase, nets, replace(step, batch=batch))

    def exported(self, nets: Networks, spec: DataSpec) -> tuple[nn.Module, Batch]:
        """The generator as far as it has grown, which the file keeps."""
        generator, example = super().exported(nets, spec)
        assert isinstance(generator, Generator)
        return Grown(generator), example


def stage(growth: int) -> tuple[int, float]:
    """The finest resolution in use, counted in doublings of 4 px, and the weight of its path: 1 once faded in."""
    level, parts = divmod(growth, WHOLE)
    return (level + 1, parts / WHOLE) if parts else (level, 1.0)


def faded(x: Tensor, level: int, alpha: float) -> Tensor:
    """(N, C, S, S) as at `stage`: averages of 4 * 2^level px, of the next coarser ones by weight 1 - alpha."""
    size = SMALLEST * 2**level
    fine = resized(x, size)
    if alpha < 1:
        fine = torch.lerp(resized(resized(fine, size // 2), size), fine, alpha)
    return resized(fine, x.shape[2])


def resized(x: Tensor, size: int) -> Tensor:
    """(N, C, S, S) → (N, C, size, size): averages of pixels where it shrinks, repeated pixels where it grows."""
    own = x.shape[2]
    if own > size:
        return avg_pool2d(x, own // size)
    return interpolate(x, scale_factor=float(size // own), mode="nearest") if own < size else x


class Growing(nn.Module):
    """A network that says how far it has grown. The buffer is of integers, which moving averages copy.

    In training the present objective says it; elsewhere it is read from the buffer, for which a GPU has to be awaited.
    """

    growth: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("growth", torch.zeros((), dtype=torch.int64))
        self._said = 0

    def grow(self, growth: int) -> None:
        """Be as grown as `growth` says, in parts of WHOLE a doubling."""
        self._said = growth
        self.growth.fill_(growth)

    @property
    def stage(self) -> tuple[int, float]:
        """See the function of that name."""
        return stage(self._said if self.training else int(self.growth.item()))


class Generator(Growing):
    """(N, latent) → (N, C, S, S), not squashed (table 2)."""

    def __init__(self, latent: int, widths: Sequence[int], channels: int) -> None:
        super().__init__()
        self.size = SMALLEST * 2 ** (len(widths) - 1)
        first = widths[0]
        expand = EqualisedLinear(latent, first * SMALLEST**2, gain=SQRT2)
        begin = nn.Sequential(
            PixelNorm(),
            expand,
            Reshape(first, SMALLEST, SMALLEST),
            LeakyReLU(),
            PixelNorm(),
            *_normed(first, first),
        )
        double = [nn.Upsample(scale_factor=2.0, mode="nearest") for _ in widths[1:]]
        grown = (
            nn.Sequential(up, *_normed(a, b), *_normed(b, b))
            for up, (a, b) in zip(double, pairwise(widths), strict=True)
        )
        self.blocks = nn.ModuleList([begin, *grown])
        self.leave = nn.ModuleList(EqualisedConv2d(w, channels, 1) for w in widths)

    def forward(self, z: Tensor) -> Tensor:
        return self.at(z, *self.stage)

    def at(self, z: Tensor, level: int, alpha: float) -> Tensor:
        """The pictures at a stage: those of `level`, of the level below by weight 1 - alpha."""
        h = self.blocks[0](z)
        for block in self.blocks[1:level]:
            h = block(h)
        if level == 0:
            return resized(self.leave[0](h), self.size)
        fine = self.leave[level](self.blocks[level](h))
        if alpha < 1:
            fine = torch.lerp(resized(self.leave[level - 1](h), fine.shape[2]), fine, alpha)
        return resized(fine, self.size)


class Grown(nn.Module):
    """A generator that grows no more."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator
        self.level, self.alpha = stage(int(generator.growth.item()))

    def forward(self, z: Tensor) -> Tensor:
        return self.generator.at(z, self.level, self.alpha)


class Discriminator(Growing):
    """(N, C, S, S) → (N,) logits (table 2)."""

    def __init__(self, widths: Sequence[int], channels: int, group: int) -> None:
        super().__init__()
        last = widths[0]
        end = nn.Sequential(
            Deviation(group) if group else nn.Identity(),
            EqualisedConv2d(last + (group > 0), last, 3, gain=SQRT2),
            LeakyReLU(),
            nn.Flatten(),
            EqualisedLinear(last * SMALLEST**2, last, gain=SQRT2),
            LeakyReLU(),
            EqualisedLinear(last, 1),
            nn.Flatten(0),
        )
        grown = (nn.Sequential(*_plain(b, b), *_plain(b, a), nn.AvgPool2d(2)) for a, b in pairwise(widths))
        self.blocks = nn.ModuleList([end, *grown])
        self.enter = nn.ModuleList(nn.Sequential(*_plain(channels, w, 1)) for w in widths)

    def forward(self, x: Tensor) -> Tensor:
        return self.at(x, *self.stage)

    def at(self, x: Tensor, level: int, alpha: float) -> Tensor:
        """The logits at a stage: through the block of `level`, and beside it by weight 1 - alpha."""
        x = resized(x, SMALLEST * 2**level)
        h = self.enter[level](x)
        if level:
            h = self.blocks[level](h)
            if alpha < 1:
                h = torch.lerp(self.enter[level - 1](resized(x, x.shape[2] // 2)), h, alpha)
        for block in reversed(self.blocks[1:level]):
            h = block(h)
        return self.blocks[0](h)


class Deviation(nn.Module):
    """One more map, the standard deviation over each `group` of consecutive rows, averaged over maps and places
    (section 3): (N, C, H, W) → (N, C + 1, H, W), N a multiple of `group`."""

    def __init__(self, group: int) -> None:
        super().__init__()
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        plane = deviation(x, self.group).to(x.dtype)[:, None, None, None]
        return torch.cat([x, plane.expand(-1, 1, *x.shape[2:])], 1)


def _normed(inputs: int, outputs: int) -> list[nn.Module]:
    return [EqualisedConv2d(inputs, outputs, 3, gain=SQRT2), LeakyReLU(), PixelNorm()]


def _plain(inputs: int, outputs: int, kernel: int = 3) -> list[nn.Module]:
    return [EqualisedConv2d(inputs, outputs, kernel, gain=SQRT2), LeakyReLU()]


def _of(values: Sequence[float], level: int) -> float:
    """The value of a resolution; the last one holds for all beyond."""
    return values[min(level, len(values) - 1)]

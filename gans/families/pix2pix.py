"""pix2pix (Isola et al. 2017, "Image-to-Image Translation with Conditional Adversarial Networks"): the data field `a`
is translated to `b`, learned from pairs.

- Generator (section 3.2.1, appendix 6.1.1): a U-Net. Strided 4x4 convolutions lead down to 1 px, transposed ones back,
  and each layer on the way up also sees the layer of its size on the way down.
- Noise (section 3.1) is dropout alone: in the first three layers of the way up, in training and in sampling alike.
- Discriminator (section 3.2.2): it sees the pair, a and b as channels of one picture, and judges patches.
- The generator's loss is the adversarial one + 100 |b - G(a)| (section 3.1, eq. 4). The discriminator's is halved,
  Adam(2e-4, 0.5), weights begin at N(0, 0.02) (section 3.3, appendix 6.2).

Phases: critic and generator.

Departures: the paper normalises by the statistics of the batch that it samples, of which it has 1 to 10. Instance norm,
the default, is that of batches of one; `norm_g` "batch" uses running statistics, so that no sample depends on others.
The innermost layer of 1 px has no norm, which would leave nothing of it. Pictures below 256 px have fewer layers, those
below 128 px smaller patches. Random jitter and mirroring (appendix 6.2) are off unless `jitter` (the paper's: 0.117,
256 px become 286) and `mirror` are given: not every translation is the same at another place. The generator steps on
the rows that the discriminator has just judged, with the same dropout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu, relu

from gans import augment, warp
from gans.data.base import Batch, DataSpec
from gans.draws import Draws
from gans.family import Networks, Optimiser, Phase, Step, Terms
from gans.judged import Judged, Seen
from gans.losses import AdversarialLoss, LossName, named
from gans.networks import initialise
from gans.nn import Norm, normalisation, picture_problems, weighted
from gans.patches import SMALLEST, patch_discriminator
from gans.schedule import Schedule, scaled

WIDEST = 8  # times `width`: appendix 6.1.1
DROPPED = 3  # layers of the way up with dropout: appendix 6.1.1


class Pix2Pix(Judged):
    """`width` channels at half the resolution, doubled with each halving up to 8 times; likewise `width_d` in the
    discriminator.

    `dropout` is the share of activations that are dropped; 0 makes the translation of a picture a single one.
    """

    inputs: ClassVar[tuple[str, ...]] = ("a",)
    imitates: ClassVar[str] = "b"
    folder: ClassVar[str] = "pairs"

    loss: LossName = Field("non_saturating", description="adversarial loss (source: eq. 1 and section 3.3)")
    lr_g: Schedule = Field(2e-4, description="generator's learning rate (source: section 3.3)")
    lr_ratio: float = Field(1.0, gt=0, description="lr_d / lr_g (source: section 3.3)")
    betas: tuple[Schedule, Schedule] = Field((0.5, 0.999), description="Adam's betas (source: section 3.3)")
    l1: float = Field(100.0, ge=0, description="weight lambda of the L1 loss (source: section 4.1)")
    dropout: float = Field(0.5, ge=0, lt=1, description="share dropped (source: appendix 6.1.1)")
    width: int = Field(64, ge=1, description="channels of U-Net's first layer (source: appendix 6.1.1)")
    width_d: int = Field(64, ge=1, description="channels of D's first layer (source: appendix 6.1.2)")
    norm_g: Norm = Field(
        "instance", description="norm in the generator (source: section 3.3, batches of one)"
    )
    norm_d: Norm = Field("instance", description="norm in the discriminator (source: the same)")
    jitter: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share that pairs grow by before a part is cut out (source: appendix 6.2)",
    )
    mirror: bool = Field(False, description="whether half of the pairs are mirrored (source: appendix 6.2)")

    @property
    def seen(self) -> Mapping[str, tuple[str, ...]]:
        return {"discriminator": ("a", "b")}

    @property
    def game(self) -> AdversarialLoss:
        return named(self.loss)

    def check(self, spec: DataSpec) -> list[str]:
        if missing := [name for name in ("a", "b") if name not in spec.fields]:
            return [
                f"pix2pix maps the data field a to b, and this data lacks {' and '.join(missing)} "
                f"(fields: {', '.join(spec.fields)}): use data.kind=shape_pairs, or pairs for your own"
            ]
        a, b = spec.fields["a"], spec.fields["b"]
        if a.independent or b.independent:
            return [
                "pix2pix needs pairs, and in this data nothing pairs a with b: use data.kind=shape_pairs, pairs for "
                "your own, or gan.family=cyclegan, which needs none"
            ]
        problems = picture_problems(b.shape, smallest=SMALLEST // 2) or super().check(spec)
        if not problems and (len(a.shape) != 3 or a.shape[1:] != b.shape[1:]):
            problems.append(f"pix2pix needs pictures of one size; a has shape {a.shape}, b has {b.shape}")
        return problems

    def networks(self, spec: DataSpec) -> Networks:
        (a, size, _), (b, _, _) = spec.fields["a"].shape, spec.fields["b"].shape
        return {
            "generator": UNet(a, b, size, self.width, self.norm_g, self.dropout),
            "discriminator": patch_discriminator(a + b, size, self.width_d, self.norm_d),
        }

    def phases(self) -> tuple[Phase, ...]:
        lr = self.lr_g
        return (
            Phase("critic", ("discriminator",), Optimiser(scaled(lr, self.lr_ratio), self.betas)),
            Phase("generator", ("generator",), Optimiser(lr, self.betas), data="same", reuses=True),
        )

    def objective(self, phase: str, nets: Networks, step: Step) -> Terms:
        return {"critic": self._critic, "generator": self._generator}[phase](nets, step)

    def after(self, phase: str, nets: Networks, step: Step) -> None:
        if phase == "critic":
            self.follow(nets, step)

    def sample(self, nets: Networks, inputs: Batch, draws: Draws) -> Batch:
        return {"x": translated(nets, inputs["a"], draws).float()}

    def pictures(self, inputs: Batch, samples: Batch) -> list[Tensor]:
        """Per sample: a, its translation."""
        x, a = samples["x"], inputs["a"]
        return [a.expand_as(x) if a.shape[1] == 1 else a, x]

    def exported(self, nets: Networks, spec: DataSpec) -> tuple[nn.Module, Batch]:
        """The map from a, and where there is dropout from uniform noise z on [0, 1), to b."""
        draws = Draws(seed=0, num=2, device=torch.device("cpu"))
        a = draws.uniform(*spec.fields["a"].shape) * 2 - 1
        noise = noise_for(nets["generator"], draws)
        return nets["generator"], {"a": a} if noise is None else {"a": a, "z": noise}

    def _critic(self, nets: Networks, step: Step) -> Terms:
        a, b = self._pairs(step, step.detached)
        fake = step.detached("fake", lambda: translated(nets, a, step.draws)).float()
        sides = self._judged(nets, step, a, b), self._judged(nets, step, a, fake)
        (_, real), (_, false) = sides
        added = self.regularised(nets, step, *sides, lambda pairs: nets["discriminator"](pairs).float())
        loss = 0.5 * (self.game.discriminator(real, false).mean() + sum(t.mean() for t in added.values()))
        with torch.no_grad():
            middle = self.game.centre or 0.0
            accuracy = 0.5 * ((real > middle).float().mean() + (false < middle).float().mean())
            gap = real.mean() - false.mean()
        report = {"loss_d": loss.detach(), "d_accuracy": accuracy, "d_gap": gap}
        report |= {name: term.detach() for name, term in added.items()} | self.probabilities(nets)
        return loss, report

    def _generator(self, nets: Networks, step: Step) -> Terms:
        a, b = self._pairs(step, step.attached)
        fake = step.attached("fake", lambda: translated(nets, a, step.draws))
        _, false = self._judged(nets, step, a, fake)
        with torch.no_grad():
            real = self._judged(nets, step, a, b)[1] if self.game.paired else false
        adversarial = self.game.generator(real, false).mean()
        l1 = (fake.float() - b).abs().mean()
        loss = adversarial + self.l1 * l1
        report = {"loss_adversarial": adversarial.detach(), "l1": l1.detach()}
        return loss, {"loss_g": loss.detach(), **report}

    def _pairs(
        self, step: Step, remember: Callable[[str, Callable[[], Tensor]], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The batch's a and b, both moved alike; in the generator's phase as in the critic's if that made the rows."""
        a, b = step.batch["a"], step.batch["b"]
        if not (self.jitter or self.mirror):
            return a, b
        both = torch.cat([a, b], 1)
        moved = remember("pairs", lambda: jittered(both, step.draws, self.jitter, self.mirror))
        return moved[:, : a.shape[1]], moved[:, a.shape[1] :]

    def _judged(self, nets: Networks, step: Step, a: Tensor, b: Tensor) -> Seen:
        """The pairs as the discriminator is shown them (section 3.1: D(x, y)), and logits (N, 1, s, s) of patches."""
        pairs = self.shown(nets, torch.cat([a, b.to(a.dtype)], 1), step)
        return pairs, nets["discriminator"](pairs).float()


def translated(nets: Networks, a: Tensor, draws: Draws) -> Tensor:
    """G(a) with noise from `draws`."""
    return nets["generator"](a, noise_for(nets["generator"], draws))


def jittered(x: Tensor, draws: Draws, share: float, mirror: bool) -> Tensor:
    """Pictures (N, C, H, W) enlarged by `share` of their sides, of each a random part of the old size; half mirrored.

    Isola et al. 2017, appendix 6.2.
    """
    height, width = x.shape[2:]
    grown = [round(side * (1 + share)) for side in (height, width)]
    top, left = (draws.integers(new - old + 1) for new, old in zip(grown, (height, width), strict=True))
    x = interpolate(x, size=grown, mode="bilinear", align_corners=False)
    x = warp.shifted(x, -top, -left, mirrored=True)[:, :, :height, :width]
    return augment.half_mirrored(x, draws) if mirror else x


def noise_for(generator: nn.Module, draws: Draws) -> Tensor | None:
    """Uniform noise (rows, dropped) on [0, 1) for a `UNet`; None for one without dropout."""
    assert isinstance(generator, UNet)
    return draws.uniform(generator.dropped) if generator.dropped else None


class UNet(nn.Module):
    """(a (N, inputs, S, S), z (N, dropped)) → (N, outputs, S, S) in [-1, 1], S a power of two.

    An activation is dropped where its entry of z, uniform on [0, 1), is below `dropout`.
    """

    def __init__(
        self, inputs: int, outputs: int, size: int, width: int, norm: Norm, dropout: float = 0.5
    ) -> None:
        super().__init__()
        halvings = size.bit_length() - 1
        widths = [width * min(2**i, WIDEST) for i in range(halvings)]
        self.enter = weighted(nn.Conv2d(inputs, width, 4, 2, 1), norm)
        self.down = nn.ModuleList(
            _normed(nn.Conv2d(a, b, 4, 2, 1, bias=_biased(n)), n)
            for i, (a, b) in enumerate(pairwise(widths), start=2)
            for n in [norm if i < halvings else _innermost(norm)]
        )
        ups = list(pairwise(reversed(widths)))  # from 1 px to half the size
        self.up = nn.ModuleList(
            _normed(nn.ConvTranspose2d(a if i == 0 else 2 * a, b, 4, 2, 1, bias=_biased(norm)), norm)
            for i, (a, b) in enumerate(ups)
        )
        self.leave = weighted(nn.ConvTranspose2d(2 * width, outputs, 4, 2, 1), norm)
        drops = DROPPED if dropout else 0
        self.dropout = dropout
        self.shapes = [(b, 2 ** (i + 1), 2 ** (i + 1)) for i, (_, b) in enumerate(ups[:drops])]
        self.dropped = sum(c * h * w for c, h, w in self.shapes)
        initialise(self)

    def forward(self, a: Tensor, z: Tensor | None = None) -> Tensor:
        seen = [self.enter(a)]
        for down in self.down:
            seen.append(down(leaky_relu(seen[-1], 0.2)))
        h = seen.pop()
        masks = [] if z is None else z.split([c * s * t for c, s, t in self.shapes], 1)
        for i, up in enumerate(self.up):
            h = up(relu(h))
            if i < len(masks):
                kept = masks[i].reshape(-1, *self.shapes[i]) >= self.dropout
                h = h * kept.to(h.dtype) / (1 - self.dropout)
            h = torch.cat([h, seen.pop()], 1)  # the skip of this size
        return torch.tanh(self.leave(relu(h)))


def _normed(layer: nn.Conv2d | nn.ConvTranspose2d, norm: Norm) -> nn.Module:
    return nn.Sequential(weighted(layer, norm), normalisation(norm, layer.out_channels))


def _innermost(norm: Norm) -> Norm:
    """The norm of a layer of 1 px: none that would be of that pixel alone."""
    return "none" if norm in ("batch", "instance", "group") else norm


def _biased(norm: Norm) -> bool:
    return norm not in ("batch", "instance")

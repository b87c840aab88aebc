"""SRGAN (Ledig et al. 2017, "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network"):
the data field `low` is enlarged to `x`, by the factor that their shapes tell (2, 4 or 8).

- Generator (SRResNet; section 2.1.1, figure 4): a 9x9 convolution and PReLU, residual blocks of two 3x3 convolutions
  with batch norm, a skip over all of them, then for each doubling a 3x3 convolution to four times the channels, a pixel
  shuffle (Shi et al. 2016) and PReLU; a 9x9 convolution makes the picture, which is not squashed.
- Discriminator (figure 4): 3x3 convolutions, every second one strided, 1 to 8 times `width_d` channels, batch norm on
  all but the first, LeakyReLU(0.2), a dense layer of 16 times `width_d`, and one logit.
- Perceptual loss (section 2.2, eq. 3): content loss + 1e-3 adversarial loss -log D(G(low)). The content loss is the
  mean squared error of pixels (eq. 4), or of the features of a frozen network (eq. 5), here the network `features`.
- The generator is first trained alone on the error of pixels (section 3.2), which is SRResNet.

Phases: pretrain (generator alone, until step `pretrain`), from then on critic and generator.

Departures: the paper's features are VGG19's, whose weights are not ours to give: `content` names a function of your own
that returns such a network. The default is the paper's SRGAN-MSE (section 3.3); "random" takes a random convolutional
network, seeded with the run. Pictures below 32 px have fewer strided convolutions. Adam's state is kept from the
pre-training on. The learning rate falls along a cosine, if told to, and not in one step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn.functional import interpolate

from gans.adversarial import Adversarial
from gans.data.base import Batch, DataSpec
from gans.draws import Draws
from gans.errors import ConfigError
from gans.family import Networks, Phase, Step, Terms
from gans.losses import LossName
from gans.metrics.pictures import psnr
from gans.networks import LeakyReLU
from gans.nn import Norm, normalisation, weighted
from gans.schedule import Schedule

FACTORS = (2, 4, 8)
SMALLEST = 4  # px of `x`
STAGES = 4  # of the discriminator: 64, 128, 256 and 512 channels
KINDS = ("mse", "random")


class SRGAN(Adversarial):
    """`content` is "mse", "random", or `package.module:function` of your own: called without arguments it returns the
    network whose features (a tensor, rows first) are compared, of pictures (N, C, H, W) in [-1, 1]. It is frozen, kept
    in eval mode, and stored with the run. `content_weight` balances it against `adversarial`: for VGG19's features the
    paper divides them by 12.75, which is a weight of 0.006.

    `skip` "bicubic" adds the output to the interpolated picture, and begins close to it (Kim et al. 2016, VDSR, section
    3): a small generator then spends a small budget on what interpolation lacks.

    The generator has no latents: `latent_dim` and `latent` are without effect.
    """

    inputs: ClassVar[tuple[str, ...]] = ("low",)
    row_wise: ClassVar[bool] = False  # packs do not know pixel shuffles

    loss: LossName = Field("non_saturating", description="adversarial loss (source: eq. 6)")
    lr_g: Schedule = Field(1e-4, description="generator's learning rate (source: section 3.2)")
    lr_ratio: float = Field(1.0, gt=0, description="lr_d / lr_g (source: section 3.2)")
    betas: tuple[Schedule, Schedule] = Field((0.9, 0.999), description="Adam's betas (source: section 3.2)")
    width: int = Field(64, ge=1, description="channels of the generator (source: figure 4)")
    width_d: int = Field(64, ge=1, description="channels of D's first convolution (source: figure 4)")
    blocks: int = Field(16, ge=1, description="residual blocks (source: section 3.2)")
    norm_g: Norm = Field("batch", description="norm in the generator (source: figure 4)")
    norm_d: Norm = Field("batch", description="norm in the discriminator (source: figure 4)")
    skip: Literal["none", "bicubic"] = Field(
        "none", description="what the generator's output is added to (none in the paper)"
    )
    pretrain: int = Field(
        1_000_000, ge=0, description="steps of the generator alone, on pixels (source: section 3.2)"
    )
    content: str = Field("mse", description='"mse", "random" or module:function (source: section 2.2.1)')
    content_weight: float = Field(1.0, ge=0, description="weight of the content loss (source: eq. 3)")
    adversarial: float = Field(1e-3, ge=0, description="weight of the adversarial loss (source: eq. 3)")

    @field_validator("content")
    @classmethod
    def _known(cls, content: str) -> str:
        module, colon, name = content.partition(":")
        if content in KINDS or (module and colon and name):
            return content
        raise ValueError(f"allowed are {', '.join(KINDS)}, or package.module:function of your own")

    def check(self, spec: DataSpec) -> list[str]:
        if missing := [name for name in ("low", "x") if name not in spec.fields]:
            return [
                f"srgan enlarges the data field low to x, and this data lacks {' and '.join(missing)} "
                f"(fields: {', '.join(spec.fields)}): use data.kind=lowres with the pictures as data.of"
            ]
        low, x = spec.fields["low"].shape, spec.x.shape
        if len(low) != 3 or len(x) != 3 or low[0] != x[0]:
            return [f"srgan enlarges pictures (C, H, W) of equal channels; low has shape {low}, x has {x}"]
        problems = super().check(spec)
        if not any(x[1:] == (low[1] * f, low[2] * f) for f in FACTORS):
            problems.append(
                f"srgan enlarges by {', '.join(map(str, FACTORS))}; low is {low[1]} x {low[2]}, x is "
                f"{x[1]} x {x[2]}: set data.factor"
            )
        if min(x[1:]) < SMALLEST:
            problems.append(
                f"x is {x[1]} x {x[2]}: srgan needs pictures of at least {SMALLEST} px, set data.of.size"
            )
        if self.content not in KINDS:
            try:
                _own(self.content)
            except ConfigError as error:
                problems.append(str(error))
        return problems

    def networks(self, spec: DataSpec) -> Networks:
        channels, height, width = spec.x.shape
        doublings = (height // spec.fields["low"].shape[1]).bit_length() - 1
        nets: Networks = {
            "generator": Enlarger(
                channels, doublings, self.width, self.blocks, self.norm_g, self.skip == "bicubic"
            ),
            "discriminator": discriminator(channels, (height, width), self.width_d, self.norm_d),
        }
        if self.content != "mse":
            random = self.content == "random"
            nets["features"] = Frozen(random_features(channels) if random else _made(self.content))
        return nets

    def phases(self) -> tuple[Phase, ...]:
        game = tuple(replace(p, start=p.start + self.pretrain) for p in super().phases())
        if not self.pretrain:
            return game
        alone = replace(game[-1], name="pretrain", start=0, stop=self.pretrain, data="fresh", reuses=False)
        return alone, *game

    def latents(self, draws: Draws) -> Tensor:
        """(rows, 0): there are none."""
        return draws.normal(0)

    def generate(self, nets: Networks, z: Tensor, batch: Batch) -> Tensor:
        return nets["generator"](batch["low"])

    def objective(self, phase: str, nets: Networks, step: Step) -> Terms:
        if phase != "pretrain":
            return super().objective(phase, nets, step)
        x, fake = step.batch["x"], self.generate(nets, self.latents(step.draws), step.batch).float()
        error = squared(fake, x)
        return error.mean(), {"loss_g": error.detach(), "psnr": psnr(fake.detach(), x)}

    def generator_loss(self, nets: Networks, step: Step, fake: Tensor) -> Terms:
        """Eq. 3, and the adversarial and content losses by themselves."""
        adversarial, report = super().generator_loss(nets, step, fake)
        content = self.content_loss(nets, fake.float(), step.batch["x"])
        packs = adversarial.repeat_interleave(
            len(content) // len(adversarial)
        )  # one value a pack of `pac` rows
        loss = self.content_weight * content + self.adversarial * packs
        return loss, {
            **report,
            "loss_g": loss.detach(),
            "loss_adversarial": adversarial.detach(),
            "content": content.detach(),
            "psnr": psnr(fake.detach().float(), step.batch["x"]),
        }

    def content_loss(self, nets: Networks, fake: Tensor, x: Tensor) -> Tensor:
        """The content loss of each row, (N,): eq. 4, or eq. 5 with features that no gradient changes."""
        if self.content == "mse":
            return squared(fake, x)
        with torch.no_grad():
            wanted = nets["features"](x).float()
        return squared(nets["features"](fake).float(), wanted)

    def pictures(self, inputs: Batch, samples: Batch) -> list[Tensor]:
        """Per sample: low by nearest neighbours, low by bicubic interpolation, the sample."""
        low, x = inputs["low"], samples["x"]
        factor = x.shape[2] // low.shape[2]
        return [interpolate(low, scale_factor=factor, mode="nearest"), bicubic(low, factor).clamp(-1, 1), x]

    def exported(self, nets: Networks, spec: DataSpec) -> tuple[nn.Module, Batch]:
        """The map from low to x."""
        low = Draws(seed=0, num=2, device=torch.device("cpu")).uniform(*spec.fields["low"].shape) * 2 - 1
        return nets["generator"], {"low": low}


def squared(a: Tensor, b: Tensor) -> Tensor:
    """The mean squared difference of each row, (N,)."""
    return (a - b).square().flatten(1).mean(1)


class Residual(nn.Module):
    """x + norm(conv(prelu(norm(conv(x))))), 3x3."""

    def __init__(self, width: int, norm: Norm) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_convolved(width, width, norm), nn.PReLU(width), *_convolved(width, width, norm)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Enlarger(nn.Module):
    """SRResNet: (N, C, h, w) → (N, C, h 2^doublings, w 2^doublings)."""

    def __init__(
        self, channels: int, doublings: int, width: int, blocks: int, norm: Norm, skip: bool = False
    ) -> None:
        super().__init__()
        self.factor, self.skip = 2**doublings, skip
        self.enter = nn.Sequential(weighted(nn.Conv2d(channels, width, 9, padding=4), norm), nn.PReLU(width))
        body = [Residual(width, norm) for _ in range(blocks)]
        self.body = nn.Sequential(*body, *_convolved(width, width, norm))
        doubled: list[nn.Module] = []
        for _ in range(doublings):
            wide = weighted(nn.Conv2d(width, 4 * width, 3, padding=1), norm)
            doubled += [wide, nn.PixelShuffle(2), nn.PReLU(width)]
        self.enlarge = nn.Sequential(*doubled)
        leave = nn.Conv2d(width, channels, 9, padding=4)
        if skip:
            nn.init.normal_(leave.weight, 0.0, 1e-3)
        self.leave = weighted(leave, norm)

    def forward(self, low: Tensor) -> Tensor:
        h = self.enter(low)
        x = self.leave(self.enlarge(h + self.body(h)))
        return x + bicubic(low, self.factor) if self.skip else x


def bicubic(low: Tensor, factor: int) -> Tensor:
    """(N, C, h, w) → (N, C, h factor, w factor)."""
    return interpolate(low, scale_factor=factor, mode="bicubic", align_corners=False)


def discriminator(channels: int, size: tuple[int, int], width: int, norm: Norm) -> nn.Module:
    """(N, C, H, W) → (N,) logits: a pair of convolutions a stage, the second strided; the last leaves 2 px or more."""
    stages = max(1, min(STAGES, min(size).bit_length() - 2))
    layers: list[nn.Module] = []
    height, breadth = size
    for i in range(stages):
        inputs, outputs = channels if i == 0 else width * 2 ** (i - 1), width * 2**i
        if i == 0:
            layers += [weighted(nn.Conv2d(inputs, outputs, 3, padding=1), norm), LeakyReLU()]
        else:
            layers += [*_convolved(inputs, outputs, norm), LeakyReLU()]
        layers += [*_convolved(outputs, outputs, norm, stride=2), LeakyReLU()]
        height, breadth = (height + 1) // 2, (breadth + 1) // 2
    flat = width * 2 ** (stages - 1) * height * breadth
    dense = [
        weighted(nn.Linear(flat, 16 * width), norm),
        LeakyReLU(),
        weighted(nn.Linear(16 * width, 1), norm),
    ]
    return nn.Sequential(*layers, nn.Flatten(), *dense, nn.Flatten(0))


def random_features(channels: int, width: int = 32) -> nn.Module:
    """(N, C, H, W) → (N, 2 width, H / 2, W / 2): random convolutions that keep the mean square (He et al. 2015)."""
    widths = ((channels, width, 1), (width, width, 1), (width, 2 * width, 2))
    layers: list[nn.Module] = []
    for inputs, outputs, stride in widths:
        layer = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False, padding_mode="replicate")
        nn.init.kaiming_normal_(layer.weight, a=0.2)
        layers += [layer, LeakyReLU()]
    return nn.Sequential(*layers)


class Frozen(nn.Module):
    """A network that is never trained: without gradients of its own, and always in eval mode."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Frozen:
        """In eval mode, whatever is asked for."""
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def _convolved(inputs: int, outputs: int, norm: Norm, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=norm not in ("batch", "instance"))
    return [weighted(convolution, norm), normalisation(norm, outputs)]


def _own(path: str) -> Callable[[], Any]:
    """The function at `package.module:function`. Raises ConfigError."""
    module, _, name = path.partition(":")
    try:
        found: Callable[[], Any] = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"gan.content = {path!r} cannot be imported: {error}") from error
    return found


def _made(path: str) -> nn.Module:
    """The network that the function at `path` returns. Raises ConfigError."""
    made = _own(path)()
    if not isinstance(made, nn.Module):
        raise ConfigError(f"gan.content = {path!r} returned {type(made).__name__}, not a torch.nn.Module")
    return made

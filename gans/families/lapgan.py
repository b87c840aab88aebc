"""LAPGAN (Denton et al. 2015, "Deep Generative Image Models using a Laplacian Pyramid of Adversarial Networks"): a
picture is drawn coarse and then refined, and each refinement has a conditional pair of networks of its own.

Section 2.2: of a picture I_0, I_k+1 = d(I_k) is the half, l_k = u(I_k+1) that at the size of I_k, and h_k = I_k - l_k
what it lacks. Section 2.3: G_k makes h_k of noise and l_k; D_k is shown h_k or G_k(z_k, l_k), to which l_k is added
before the first convolution; G_K makes the coarsest picture of noise alone. All pairs learn from the pyramids of the
data, apart from one another. Sampling goes from coarse to fine: I_k = u(I_k+1) + G_k(z_k, u(I_k+1)).

Section 3.1: two hidden layers in the coarsest pair; three convolutions in the other generators, which see their noise
as one more plane; two and a linear layer in the other discriminators (kernels as in the authors' code, eyescream). By
class, the label is one plane more, made by a linear layer.

Phases: for k = K to 0, critic_k and generator_k train d_k and g_k. `loss_d`, `loss_g` and `d_accuracy` are the coarsest
pair's, which decides what is drawn; those of the others have their number behind them.

Departures: d is the average of 2x2 pixels and u is bilinear; Adam (Radford et al. 2016) instead of SGD with a growing
momentum; an optional R1 penalty instead of dropout; LeakyReLU in the coarsest discriminator, whose label is one-hot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, one_hot, relu

from gans.data.base import Batch, DataSpec
from gans.draws import Draws
from gans.family import Networks, Optimiser, Phase, Step, Terms
from gans.judged import Judged, Seen
from gans.losses import AdversarialLoss, LossName, named
from gans.networks import LabelledDiscriminator, LabelledGenerator, mlp_discriminator, mlp_generator
from gans.penalties import zero_centred
from gans.schedule import Schedule, at, scaled

SMALLEST = 4  # px of the coarsest pictures


class LAPGAN(Judged):
    """`levels` is K, the number of refinements, each from half its size. Networks and phases are numbered as in the
    paper, from 0, the finest, to K. `hidden` are the units of the coarsest pair's layers, `width` the others' channels.
    """

    levels: int = Field(2, ge=1, description="refinements (section 3.1: 8 px to the data's size in two)")
    loss: LossName = Field("non_saturating", description="the adversarial loss (section 2.1)")
    lr_g: Schedule = Field(2e-4, description="the generators' learning rate (Radford et al. 2016, section 4)")
    lr_ratio: float = Field(1.0, gt=0, description="the discriminators' learning rate over the generators'")
    betas: tuple[Schedule, Schedule] = Field((0.5, 0.999), description="Adam's betas (Radford et al. 2016)")
    r1: Schedule = Field(0.0, description="weight of |grad D|^2 / 2 on real pictures (Mescheder et al. 2018)")
    latent_dim: int = Field(100, ge=1, description="entries of the coarsest noise (section 3.1)")
    hidden: int = Field(1200, ge=1, description="units of the coarsest generator's layers (section 3.1)")
    hidden_d: int = Field(600, ge=1, description="units of the coarsest discriminator's layers (section 3.1)")
    width: int = Field(128, ge=1, description="channels of the other networks (code)")
    kernel: Literal[3, 5, 7] = Field(
        7, description="px of a generator's kernels; others have 5 at most (code)"
    )
    by_class: bool = Field(False, description="all networks see the label (section 3.1: class conditional)")

    @property
    def inputs(self) -> tuple[str, ...]:
        return ("label",) if self.by_class else ()

    @property
    def averaged(self) -> tuple[str, ...]:
        return tuple(f"g_{k}" for k in self._coarse_to_fine)

    @property
    def seen(self) -> Mapping[str, tuple[str, ...]]:
        return {f"d_{k}": ("x",) for k in self._coarse_to_fine}

    @property
    def game(self) -> AdversarialLoss:
        return named(self.loss)

    @property
    def _coarse_to_fine(self) -> range:
        return range(self.levels, -1, -1)

    def check(self, spec: DataSpec) -> list[str]:
        shape, problems = spec.x.shape, super().check(spec)
        if len(shape) != 3:
            return [f"lapgan makes pictures (C, H, W); the data's samples have shape {shape}"]
        if shape[1] != shape[2]:
            return [f"pictures must be square, these are {shape[1]} x {shape[2]}: set data.size"]
        if shape[1] % 2**self.levels or shape[1] // 2**self.levels < SMALLEST:
            problems.append(
                f"pictures of {shape[1]} px cannot be halved gan.levels={self.levels} times down to {SMALLEST} px or "
                f"more: lower gan.levels, or set data.size to a multiple of {2**self.levels} from "
                f"{SMALLEST * 2**self.levels} up"
            )
        if self.by_class and spec.num_classes is None:
            problems.append(
                f"gan.by_class needs labels, this data has the fields {', '.join(spec.fields)}: set gan.by_class=false"
            )
        return problems

    def networks(self, spec: DataSpec) -> Networks:
        channels, size, _ = spec.x.shape
        classes = (spec.num_classes or 0) if self.by_class else 0
        nets = self._coarsest((channels, size // 2**self.levels, size // 2**self.levels), classes)
        for k in range(self.levels):
            side = size // 2**k
            nets[f"g_{k}"] = Refiner(channels, side, self.width, self.kernel, classes)
            nets[f"d_{k}"] = Critic(channels, side, self.width, min(5, self.kernel), classes)
        return nets

    def _coarsest(self, shape: tuple[int, int, int], classes: int) -> Networks:
        generator = mlp_generator(shape, self.latent_dim + classes, self.hidden, 2, "none")
        critic = mlp_discriminator((shape[0] + classes, *shape[1:]), self.hidden_d, 2, "none")
        if classes:
            generator = LabelledGenerator(generator, classes)
            critic = LabelledDiscriminator(critic, classes)
        return {f"g_{self.levels}": generator, f"d_{self.levels}": critic}

    def phases(self) -> tuple[Phase, ...]:
        generator = Optimiser(self.lr_g, self.betas)
        critic = Optimiser(scaled(self.lr_g, self.lr_ratio), self.betas)
        phases = []
        for k in self._coarse_to_fine:
            data: Literal["fresh", "same"] = "fresh" if k == self.levels else "same"
            phases += [
                Phase(f"critic_{k}", (f"d_{k}",), critic, data=data, double=self.r1 != 0.0),
                Phase(f"generator_{k}", (f"g_{k}",), generator, data="same", reuses=True),
            ]
        return tuple(phases)

    def objective(self, phase: str, nets: Networks, step: Step) -> Terms:
        side, _, k = phase.partition("_")
        return {"critic": self._critic, "generator": self._generator}[side](int(k), nets, step)

    def after(self, phase: str, nets: Networks, step: Step) -> None:
        if phase == "critic_0":  # the last of them
            self.follow(nets, step)

    def noise(self, draws: Draws, size: int) -> Tensor:
        """(rows, D) uniform on [-1, 1) for pictures of `size` px: what `Cascade` takes."""
        planes = sum((size // 2**k) ** 2 for k in range(self.levels))
        return draws.uniform(self.latent_dim + planes) * 2 - 1

    def sample(self, nets: Networks, inputs: Batch, draws: Draws) -> Batch:
        cascade, given = self._cascade(nets), {k: inputs[k] for k in self.inputs}
        return {"x": cascade(self.noise(draws, cascade.size), **given).float(), **given}

    def exported(self, nets: Networks, spec: DataSpec) -> tuple[nn.Module, Batch]:
        """The whole cascade; noise is the coarsest one, then the planes from coarse to fine."""
        noise = self.noise(Draws(seed=0, num=2, device=torch.device("cpu")), spec.x.shape[1])
        label = {"label": torch.arange(2) % (spec.num_classes or 1)} if self.by_class else {}
        return self._cascade(nets), {"noise": noise, **label}

    def _cascade(self, nets: Networks) -> Cascade:
        return Cascade([nets[f"g_{k}"] for k in self._coarse_to_fine], self.latent_dim)

    def _critic(self, k: int, nets: Networks, step: Step) -> Terms:
        real, low = coefficients(step.batch["x"], k, self.levels)
        fake = step.detached(f"fake_{k}", lambda: self._made(k, nets, step, low)).float()
        penalty = at(self.r1, step.progress)
        real.requires_grad_(penalty != 0.0)
        sides = self._judged(k, nets, step, real, low), self._judged(k, nets, step, fake, low)
        (_, real_logits), (_, fake_logits) = sides
        loss = self.game.discriminator(real_logits, fake_logits)  # (rows,), as are the reports
        signs = 0.5 * ((real_logits > 0).float() + (fake_logits < 0).float())
        report = {"loss_d": loss, "d_accuracy": signs, "d_gap": real_logits - fake_logits}
        if penalty:
            added = penalty * zero_centred(real_logits, real)
            loss, report = loss + added, report | {"penalty": added}
        terms = self.regularised(nets, step, *sides, lambda x: self._logits(k, nets, step, x), f"d_{k}")
        options = {name: term.detach() for name, term in terms.items()} | self.probabilities(nets)
        return (loss + sum(terms.values())).mean(), self._numbered(k, report) | options

    def _generator(self, k: int, nets: Networks, step: Step) -> Terms:
        real, low = coefficients(step.batch["x"], k, self.levels)
        fake = step.attached(f"fake_{k}", lambda: self._made(k, nets, step, low))
        _, fake_logits = self._judged(k, nets, step, fake, low)
        with torch.no_grad():
            real_logits = self._judged(k, nets, step, real, low)[1] if self.game.paired else fake_logits
        value = self.game.generator(real_logits, fake_logits)
        return value.mean(), self._numbered(k, {"loss_g": value})

    def _made(self, k: int, nets: Networks, step: Step, low: Tensor | None) -> Tensor:
        label = [step.batch[name] for name in self.inputs]
        if low is None:
            return nets[f"g_{k}"](step.draws.uniform(self.latent_dim) * 2 - 1, *label)
        return nets[f"g_{k}"](step.draws.uniform(1, *low.shape[2:]) * 2 - 1, low, *label)

    def _judged(self, k: int, nets: Networks, step: Step, h: Tensor, low: Tensor | None) -> Seen:
        """Pictures h_k + l_k as D_k is shown them (section 2.3), and its logits."""
        shown = self.shown(nets, h if low is None else h + low, step, f"d_{k}")
        return shown, self._logits(k, nets, step, shown)

    def _logits(self, k: int, nets: Networks, step: Step, x: Tensor) -> Tensor:
        return nets[f"d_{k}"](x, *(step.batch[name] for name in self.inputs)).float()

    def _numbered(self, k: int, report: dict[str, Tensor]) -> dict[str, Tensor]:
        end = "" if k == self.levels else f"_{k}"
        return {f"{name}{end}": value.detach() for name, value in report.items()}


def reduced(x: Tensor) -> Tensor:
    """d: averages of 2x2 pixels."""
    return avg_pool2d(x, 2)


def enlarged(x: Tensor) -> Tensor:
    """u: twice the size, bilinearly."""
    return interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def coefficients(x: Tensor, k: int, levels: int) -> tuple[Tensor, Tensor | None]:
    """h_k and l_k of pictures (N, C, S, S), at S / 2^k px: the coarsest picture and None where k is `levels`."""
    for _ in range(k):
        x = reduced(x)
    if k == levels:
        return x.detach(), None
    low = enlarged(reduced(x))
    return x - low, low


class Plane(nn.Module):
    """The label as one plane more: (N, C, S, S), (N,) → (N, C + 1, S, S)."""

    def __init__(self, size: int, num_classes: int) -> None:
        super().__init__()
        self.size, self.num_classes = size, num_classes
        self.plane = nn.Linear(num_classes, size * size)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        made = relu(self.plane(one_hot(label, self.num_classes).to(x.dtype)))
        return torch.cat([x, made.view(-1, 1, self.size, self.size)], 1)


class Refiner(nn.Module):
    """G_k: a plane of noise (N, 1, S, S) and l_k (N, C, S, S) → h_k (N, C, S, S)."""

    def __init__(self, channels: int, size: int, width: int, kernel: int, num_classes: int) -> None:
        super().__init__()
        self.size = size
        self.plane = Plane(size, num_classes) if num_classes else None
        last = min(5, kernel)
        self.body = nn.Sequential(
            nn.Conv2d(channels + 1 + (num_classes > 0), width, kernel, padding=kernel // 2),
            nn.ReLU(),
            nn.Conv2d(width, width, kernel, padding=kernel // 2),
            nn.ReLU(),
            nn.Conv2d(width, channels, last, padding=last // 2),
        )

    def forward(self, noise: Tensor, low: Tensor, label: Tensor | None = None) -> Tensor:
        x = torch.cat([noise, low], 1)
        return self.body(x if self.plane is None or label is None else self.plane(x, label))


class Critic(nn.Module):
    """D_k: h_k + l_k (N, C, S, S) → (N,) logits."""

    def __init__(self, channels: int, size: int, width: int, kernel: int, num_classes: int) -> None:
        super().__init__()
        self.plane = Plane(size, num_classes) if num_classes else None
        self.body = nn.Sequential(
            nn.Conv2d(channels + (num_classes > 0), width, kernel, padding=kernel // 2),
            nn.ReLU(),
            nn.Conv2d(width, width, kernel, 2, padding=kernel // 2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(width * (size // 2) ** 2, 1),
            nn.Flatten(0),
        )

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        return self.body(x if self.plane is None or label is None else self.plane(x, label))


class Cascade(nn.Module):
    """All generators, from coarse to fine: noise (N, D) → (N, C, S, S), not squashed (section 2.3, equation 5)."""

    def __init__(self, generators: Sequence[nn.Module], latent: int) -> None:
        super().__init__()
        self.generators = nn.ModuleList(generators)
        self.sides: list[int] = [g.size for g in self.generators[1:]]  # type: ignore[misc]
        self.parts = [latent, *(side * side for side in self.sides)]

    @property
    def size(self) -> int:
        """px of the pictures."""
        return self.sides[-1]

    def forward(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        given = () if label is None else (label,)
        first, *planes = noise.split(self.parts, 1)
        x = self.generators[0](first, *given)
        for refine, side, plane in zip(self.generators[1:], self.sides, planes, strict=True):
            low = enlarged(x)
            x = low + refine(plane.reshape(-1, 1, side, side), low, *given)
        return x

"""The networks of the 2-D mode-collapse protocols, as PacGAN's authors trained them (Lin et al. 2018, section 4.1 and
their code): the generator has four hidden layers of 400 with batch norm and ReLU, the discriminator three maxout layers
of 200 units with five pieces each, Adam(1e-4, beta1 0.8), z ~ N(0, I_2). And ours for packing with penalties.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from gans.adversarial import Adversarial
from gans.data.base import DataSpec
from gans.families.vanilla import Vanilla
from gans.family import Networks, Phase, Step, Terms
from gans.networks import mlp_generator
from gans.schedule import Schedule
from gans.techniques import Stateless

# What only players that step in turn can have:
APART = ("critic_steps", "lr_ratio", "warmup", "penalty_every", "unrolled")
MOMENTUM, EPS = 0.05, 1e-4  # of batch norm, in PacGAN's code and in the library that it uses


class PointsGAN(Adversarial):
    """The protocol's defaults. `pieces` linear maps compete for each of the discriminator's `width_d` units a layer.

    `init`: standard deviation of the first weights; biases begin at zero. `updates`: PacGAN's code steps both players
    at once, each by its gradient at the other's weights before the step, on the same generated rows. The loop's
    alternating steps, in which the generator meets a discriminator that has just learnt, lose fewer modes.
    """

    lr_g: Schedule = 1e-4
    betas: tuple[Schedule, Schedule] = (0.8, 0.999)
    latent_dim: int = Field(2, ge=1)
    width: int = Field(400, ge=1)
    depth: int = Field(4, ge=1)
    width_d: int = Field(200, ge=1)
    depth_d: int = Field(3, ge=1)
    pieces: int = Field(5, ge=1)
    init: float = Field(0.02, gt=0)
    updates: Literal["simultaneous", "alternating"] = "simultaneous"

    def check(self, spec: DataSpec) -> list[str]:
        problems = super().check(spec)
        if self.updates == "simultaneous":
            fields = {name: type(self).model_fields[name].default for name in APART}
            problems += [
                f"{name} {getattr(self, name)}: players that step at once have one step, rate and loss: {allowed}"
                for name, allowed in fields.items()
                if getattr(self, name) != allowed
            ]
        if spec.x.kind == "vector":
            return problems
        return [f"the points protocol makes vectors; the data's samples have shape {spec.x.shape}", *problems]

    def phases(self) -> tuple[Phase, ...]:
        if self.updates == "alternating":
            return super().phases()
        critic = super().phases()[0]
        return (replace(critic, name="both", trains=("generator", "discriminator")),)

    def objective(self, phase: str, nets: Networks, step: Step) -> Terms:
        """`both`: the sum of the two losses, of which each depends on its own player's weights alone."""
        if phase != "both":
            return super().objective(phase, nets, step)
        step = replace(step, keep=True)  # one forward pass of the generator for both
        critic = nets["discriminator"]
        held = Stateless(critic, {name: value.detach() for name, value in critic.named_parameters()})
        loss_d, told = super().objective("critic", nets, step)
        loss_g, said = super().objective("generator", {**nets, "discriminator": held}, step)
        return loss_d + loss_g, told | said

    def after(self, phase: str, nets: Networks, step: Step) -> None:
        super().after("critic" if phase == "both" else phase, nets, step)

    def networks(self, spec: DataSpec) -> Networks:
        shape = spec.x.shape
        nets = {
            "generator": mlp_generator(shape, self.latent_dim, self.width, self.depth, "batch"),
            "discriminator": discriminator(math.prod(shape), self.width_d, self.depth_d, self.pieces),
        }
        for net in nets.values():
            initialise(net, self.init)
        return nets


class PackedPoints(Vanilla):
    """Perceptrons whose discriminator begins with its kinks spread over the data (`spread`), as packing needs.

    `reach`: the first biases are uniform in [-reach, reach]; of about half the data's extent.
    """

    reach: float = Field(2.0, gt=0)

    def networks(self, spec: DataSpec) -> Networks:
        nets = super().networks(spec)
        spread(nets["discriminator"], self.reach)
        return nets


def spread(network: nn.Module, reach: float) -> None:
    """First biases U(-reach, reach), and behind the first layer He's normal weights (He et al. 2015) and zero biases.

    torch's own start has nearly every kink of the first layer within 1 of the origin and shrinks what passes: where
    data reaches 4, as the grid's does, a discriminator of packed points then learns next to nothing for thousands of
    steps (docs/benchmarks.md).
    """
    first, *rest = (m for m in network.modules() if isinstance(m, nn.Linear))
    nn.init.uniform_(first.bias, -reach, reach)
    for layer in rest:
        nn.init.kaiming_normal_(layer.weight, 0.2)
        nn.init.zeros_(layer.bias)


def initialise(network: nn.Module, std: float) -> None:
    """Normal weights of standard deviation `std` and zero biases for linear layers; the code's batch norm."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, std)
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum, module.eps = MOMENTUM, EPS


class Maxout(nn.Module):
    """The largest of each group of `pieces` neighbours: (N, units * pieces) → (N, units).

    Goodfellow et al. 2013, "Maxout networks", eq. 1.
    """

    row_wise = True

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.pieces)).amax(-1)


def discriminator(inputs: int, width: int, depth: int, pieces: int) -> nn.Sequential:
    """`depth` maxout layers of `width` units and a linear output: (N, inputs) → (N,) logits."""
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise([inputs] + [width] * depth):
        layers += [nn.Linear(a, b * pieces), Maxout(pieces)]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(width, 1), nn.Flatten(0))

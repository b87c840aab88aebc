"""WGAN-GP (Gulrajani et al. 2017, algorithm 1): the Wasserstein critic with a gradient penalty (lambda 10) on random
points between real and generated samples, five critic steps, Adam(1e-4, 0, 0.9), and no batch norm in the critic,
whose output must depend on one sample alone.
"""

from typing import Literal

from pydantic import Field

from gans.adversarial import Adversarial
from gans.data.base import DataSpec
from gans.family import Networks
from gans.losses import LossName
from gans.networks import plain_pair
from gans.nn import Norm, picture_problems
from gans.schedule import Schedule


class WGANGP(Adversarial):
    """Convolutions for pictures, perceptrons of `depth` hidden layers for points."""

    loss: LossName = "wasserstein"
    lr_g: Schedule = 1e-4
    betas: tuple[Schedule, Schedule] = (0.0, 0.9)
    critic_steps: int = Field(5, ge=1)
    gp: float = Field(10.0, gt=0)
    width: int = Field(32, ge=1)
    depth: int = Field(2, ge=1)
    norm_g: Norm = "batch"
    norm_d: Literal["none", "group", "instance"] = "none"

    def check(self, spec: DataSpec) -> list[str]:
        return picture_problems(spec.x.shape) if spec.x.kind == "image" else []

    def networks(self, spec: DataSpec) -> Networks:
        return plain_pair(spec.x, self.latent_dim, self.width, self.depth, self.norm_g, self.norm_d)

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

    loss: LossName = Field("wasserstein", description="the critic's gap, without a sigmoid")
    lr_g: Schedule = Field(1e-4, description="learning rate of the generator (algorithm 1)")
    betas: tuple[Schedule, Schedule] = Field((0.0, 0.9), description="of Adam (algorithm 1)")
    critic_steps: int = Field(5, ge=1, description="critic updates a generator update (algorithm 1)")
    gp: float = Field(
        10.0,
        gt=0,
        description="weight of (|grad D| - 1)^2 between real and generated rows (lambda of algorithm 1)",
    )
    width: int = Field(
        32, ge=1, description="channels at the largest hidden resolution, or units of a hidden layer"
    )
    depth: int = Field(2, ge=1, description="hidden layers, for points")
    norm_g: Norm = Field("batch", description="norm in the generator")
    norm_d: Literal["none", "group", "instance"] = Field(
        "none", description="norm in the critic, never over the batch (section 4)"
    )

    def check(self, spec: DataSpec) -> list[str]:
        own = picture_problems(spec.x.shape) if spec.x.kind == "image" else []
        return [*super().check(spec), *own]

    def networks(self, spec: DataSpec) -> Networks:
        return plain_pair(spec.x, self.latent_dim, self.width, self.depth, self.norm_g, self.norm_d)

"""Wasserstein GAN (Arjovsky et al. 2017): a critic without a sigmoid, its weights clipped to [-c, c], five critic
steps a generator step, RMSProp(5e-5). The gap E[D(x)] - E[D(G(z))], reported as `wasserstein`, estimates the distance
up to the critic's Lipschitz constant.
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


class WGAN(Adversarial):
    """Convolutions for pictures, perceptrons of `depth` hidden layers for points."""

    loss: LossName = Field("wasserstein", description="the critic's gap, without a sigmoid")
    lr_g: Schedule = Field(5e-5, description="learning rate of the generator (algorithm 1)")
    optimiser: Literal["adam", "rmsprop"] = Field(
        "rmsprop", description="of both players (algorithm 1: RMSProp)"
    )
    critic_steps: int = Field(5, ge=1, description="critic updates a generator update (algorithm 1)")
    clip: float = Field(0.01, gt=0, description="bound c of the critic's weights (algorithm 1)")
    width: int = Field(
        32, ge=1, description="channels at the largest hidden resolution, or units of a hidden layer"
    )
    depth: int = Field(2, ge=1, description="hidden layers, for points")
    norm_g: Norm = Field("batch", description="norm in the generator")
    norm_d: Literal["batch", "none"] = Field("batch", description="norm in the critic of pictures")

    def check(self, spec: DataSpec) -> list[str]:
        own = picture_problems(spec.x.shape) if spec.x.kind == "image" else []
        return [*super().check(spec), *own]

    def networks(self, spec: DataSpec) -> Networks:
        return plain_pair(spec.x, self.latent_dim, self.width, self.depth, self.norm_g, self.norm_d)

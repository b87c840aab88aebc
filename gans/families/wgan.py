"""Wasserstein GAN (Arjovsky et al. 2017): a critic without a sigmoid, its weights clipped to [-c, c], five critic
steps a generator step, RMSProp(5e-5). The gap E[D(x)] - E[D(G(z))], reported as `d_gap`, estimates the distance up
to the critic's Lipschitz constant.
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

    loss: LossName = "wasserstein"
    lr_g: Schedule = 5e-5
    optimiser: Literal["adam", "rmsprop"] = "rmsprop"
    critic_steps: int = Field(5, ge=1)
    clip: float = Field(0.01, gt=0)
    width: int = Field(32, ge=1)
    depth: int = Field(2, ge=1)
    norm_g: Norm = "batch"
    norm_d: Literal["batch", "none"] = "batch"

    def check(self, spec: DataSpec) -> list[str]:
        return picture_problems(spec.x.shape) if spec.x.kind == "image" else []

    def networks(self, spec: DataSpec) -> Networks:
        return plain_pair(spec.x, self.latent_dim, self.width, self.depth, self.norm_g, self.norm_d)

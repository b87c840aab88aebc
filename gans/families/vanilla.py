"""The original GAN (Goodfellow et al. 2014): multilayer perceptrons, minimax or non-saturating loss, k critic
steps, normal or uniform latents, for points and small pictures alike.
"""

from typing import Literal

from pydantic import Field

from gans.adversarial import Adversarial
from gans.data.base import DataSpec
from gans.family import Networks
from gans.networks import mlp_discriminator, mlp_generator


class Vanilla(Adversarial):
    """ReLU generator and LeakyReLU discriminator with `depth` hidden layers of `width`."""

    width: int = Field(128, ge=1, description="units of a hidden layer")
    depth: int = Field(2, ge=1, description="hidden layers of either network")
    norm_g: Literal["batch", "none"] = Field(
        "none", description="norm of the generator's hidden layers (2014: none)"
    )
    norm_d: Literal["none", "spectral"] = Field(
        "none", description="spectral: the critic's weights are normalised (Miyato et al. 2018)"
    )
    latent_dim: int = Field(32, ge=1, description="entries of the latent z")

    def networks(self, spec: DataSpec) -> Networks:
        shape = spec.x.shape
        return {
            "generator": mlp_generator(shape, self.latent_dim, self.width, self.depth, self.norm_g),
            "discriminator": mlp_discriminator(shape, self.width, self.depth, self.norm_d),
        }

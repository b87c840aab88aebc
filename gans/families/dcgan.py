"""DCGAN (Radford et al. 2016): strided convolutions, no pooling, no hidden dense layers, batch norm in both
networks except the generator's output and the discriminator's input, ReLU up and LeakyReLU down, Adam(2e-4, 0.5).
"""

from pydantic import Field

from gans.adversarial import Adversarial
from gans.data.base import DataSpec
from gans.family import Networks
from gans.networks import conv_discriminator, conv_generator
from gans.nn import Norm, picture_problems


class DCGAN(Adversarial):
    """`width` is the channel count at the largest hidden resolution; it doubles with every halving."""

    width: int = Field(32, ge=1)
    norm_g: Norm = "batch"
    norm_d: Norm = "batch"
    latent_dim: int = Field(100, ge=1)

    def check(self, spec: DataSpec) -> list[str]:
        return picture_problems(spec.x.shape)

    def networks(self, spec: DataSpec) -> Networks:
        shape = spec.x.shape
        return {
            "generator": conv_generator(shape, self.latent_dim, self.width, self.norm_g),
            "discriminator": conv_discriminator(shape, self.width, self.norm_d),
        }

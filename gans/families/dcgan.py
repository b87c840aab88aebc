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

    width: int = Field(
        32, ge=1, description="channels at the largest hidden resolution (paper: 128 at 64 px)"
    )
    norm_g: Norm = Field("batch", description="norm in the generator (section 3: batch norm)")
    norm_d: Norm = Field("batch", description="norm in the discriminator (section 3: batch norm)")
    latent_dim: int = Field(100, ge=1, description="entries of the latent z (section 4: 100)")

    def check(self, spec: DataSpec) -> list[str]:
        return [*super().check(spec), *picture_problems(spec.x.shape)]

    def networks(self, spec: DataSpec) -> Networks:
        shape = spec.x.shape
        return {
            "generator": conv_generator(shape, self.latent_dim, self.width, self.norm_g),
            "discriminator": conv_discriminator(shape, self.width, self.norm_d),
        }

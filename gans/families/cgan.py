"""Conditional GAN (Mirza and Osindero 2014): the class label is given to generator and discriminator alike, as
one-hot next to the latent and next to the sample.
"""

from typing import ClassVar

from pydantic import Field

from gans.adversarial import Adversarial
from gans.data.base import DataSpec
from gans.family import Networks
from gans.networks import (
    LabelledDiscriminator,
    LabelledGenerator,
    conv_discriminator,
    conv_generator,
    mlp_discriminator,
    mlp_generator,
)
from gans.nn import Norm, picture_problems


class CGAN(Adversarial):
    """Convolutions for pictures, perceptrons of `depth` hidden layers for vectors, both told the label."""

    inputs: ClassVar[tuple[str, ...]] = ("label",)
    conditional: ClassVar[bool] = True

    width: int = Field(
        32, ge=1, description="channels at the largest hidden resolution, or units of a hidden layer"
    )
    depth: int = Field(2, ge=1, description="hidden layers, for vectors")
    norm_g: Norm = Field("batch", description="norm in the generator")
    norm_d: Norm = Field("spectral", description="norm in the discriminator (2014 had none)")

    def check(self, spec: DataSpec) -> list[str]:
        problems = super().check(spec)
        problems += picture_problems(spec.x.shape) if spec.x.kind == "image" else []
        if spec.num_classes is None:
            problems.append("cgan needs labels, and this data has none: set data.labels, or use dcgan")
        return problems

    def networks(self, spec: DataSpec) -> Networks:
        assert spec.num_classes is not None
        shape, k = spec.x.shape, spec.num_classes
        seen = (shape[0] + k, *shape[1:])
        if spec.x.kind == "image":
            generator = conv_generator(shape, self.latent_dim + k, self.width, self.norm_g)
            discriminator = conv_discriminator(seen, self.width, self.norm_d)
        else:
            generator = mlp_generator(shape, self.latent_dim + k, self.width, self.depth, self.norm_g)
            discriminator = mlp_discriminator(seen, self.width, self.depth, self.norm_d)
        return {
            "generator": LabelledGenerator(generator, k),
            "discriminator": LabelledDiscriminator(discriminator, k),
        }

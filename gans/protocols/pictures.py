"""What the stacked digits' protocol asks of DCGAN."""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from gans.families.dcgan import DCGAN
from gans.family import Phase


class StackedDCGAN(DCGAN):
    """DCGAN whose generator makes two steps a discriminator's step, each on latents of its own.

    PacGAN's code does so (on the same latents), "to make sure that d_loss does not go to zero".
    """

    generator_steps: int = Field(2, ge=1)

    def phases(self) -> tuple[Phase, ...]:
        *others, generator = super().phases()
        return (*others, replace(generator, repeats=self.generator_steps))

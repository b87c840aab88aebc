"""Recipes of BigGAN."""

from __future__ import annotations

from gans.data.digits import Digits
from gans.data.shapes import Shapes
from gans.families.biggan import BigGAN
from gans.options import Train
from orchestrator.experiment import Experiment
from orchestrator.recipes.spaces import balance


def biggan_digits() -> Experiment:
    """Class-conditional residual networks with self-attention on 16 px digits; columns are the classes 0 to 9."""
    return Experiment(
        name="biggan.digits",
        gan=BigGAN(width=12, latent_dim=48, shared_dim=32, attention=8, lr_g=5e-4, lr_ratio=2.0),
        data=Digits(size=16),
        train=Train(steps=1200, batch=64, evaluate_every=300, sample_every=300, sample_grid=60),
        search=balance(),
    )


def biggan_shapes() -> Experiment:
    """The same on 32 px procedural shapes by form: circle, square, triangle and the like, in any colour."""
    return Experiment(
        name="biggan.shapes",
        gan=BigGAN(width=8, latent_dim=48, shared_dim=32, attention=16, lr_g=5e-4, lr_ratio=2.0),
        data=Shapes(size=32),
        train=Train(steps=700, batch=32, evaluate_every=350, sample_every=350, sample_grid=64),
        search=balance(),
    )

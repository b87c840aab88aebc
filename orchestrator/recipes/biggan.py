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
        train=Train(steps=1100, batch=64, evaluate_every=275, sample_every=275, sample_grid=60),
        search=balance(),
    )


def biggan_shapes() -> Experiment:
    """The same on 16 px procedural shapes; columns are the colours asked for: red, green, blue, yellow, magenta.

    The colour is right nearly always after 3 CPU-minutes, and discs and squares are; thin outlines want more.
    """
    return Experiment(
        name="biggan.shapes",
        gan=BigGAN(width=12, latent_dim=48, shared_dim=32, attention=8, lr_g=1e-3, lr_ratio=1.0),
        data=Shapes(size=16, num=3000, label="colour"),
        train=Train(steps=1000, batch=64, evaluate_every=250, sample_every=250, sample_grid=40),
        search=balance(),
    )

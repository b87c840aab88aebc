"""Recipes of R3GAN."""

from __future__ import annotations

from gans.data.digits import Digits
from gans.data.stacked import StackedDigits
from gans.families.r3gan import R3GAN
from gans.options import Train
from gans.schedule import Cosine
from orchestrator.experiment import Experiment
from orchestrator.sweep.space import LogUniform, Space


def r3gan_digits() -> Experiment:
    """Relativistic pairing with R1 and R2 on residual networks, 16 px digits."""
    return Experiment(
        name="r3gan.digits",
        gan=R3GAN(
            width=16,
            lr_g=Cosine(start=1e-3, end=2e-4),
            lr_ratio=5.0,
            betas=(0.0, 0.99),
            r1=3.0,
            r2=3.0,
        ),
        data=Digits(size=16),
        train=Train(steps=1000, batch=64, evaluate_every=500, sample_every=500),
        search=Space({"gan.lr_ratio": LogUniform(low=1.0, high=20.0)}),
    )


def r3gan_stacked() -> Experiment:
    """Three digits stacked as red, green and blue: a thousand modes at 16 px.

    Many steps of few pictures, with a low gamma, take a small network furthest in three minutes of one core.
    """
    base = r3gan_digits()
    gan = base.gan.with_changes({"width": 8, "group": 8, "r1": 0.5, "r2": 0.5})
    train = Train(steps=4800, batch=16, evaluate_every=2400, sample_every=1200)
    return base.model_copy(
        update={"name": "r3gan.stacked", "gan": gan, "data": StackedDigits(size=16), "train": train}
    )

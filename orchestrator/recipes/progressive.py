"""Recipes of progressive GAN."""

from __future__ import annotations

from gans.data.digits import Digits
from gans.families.progressive import Progressive
from gans.health import HealthRules
from gans.options import Train
from gans.schedule import Cosine
from orchestrator.experiment import Experiment
from orchestrator.sweep.space import LogUniform, Space


def progressive_digits() -> Experiment:
    """Digits that grow from 4 to 32 px.

    Coarse pictures are few kinds of fine ones, so that health is judged from half-way on.
    """
    return Experiment(
        name="progressive.digits",
        gan=Progressive(
            latent_dim=64,
            width=8,
            width_max=64,
            lr_g=Cosine(start=8e-3, end=1e-3),
            lr_ratio=2.0,
            schedule=(2.0, 4.0, 6.0, 7.0),
            batches=(1.0, 1.0, 0.5),
        ),
        data=Digits(size=32),
        train=Train(steps=2000, batch=32, evaluate_every=1000, sample_every=500),
        health=HealthRules(grace=0.5),
        search=Space({"gan.lr_ratio": LogUniform(low=0.3, high=10.0)}),
    )

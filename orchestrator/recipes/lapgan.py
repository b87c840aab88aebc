"""Recipes of LAPGAN."""

from __future__ import annotations

from gans.data.digits import Digits
from gans.families.lapgan import LAPGAN
from gans.options import Train
from gans.schedule import Cosine
from orchestrator.experiment import Experiment
from orchestrator.recipes.spaces import balance


def lapgan_digits() -> Experiment:
    """Digits drawn at 8 px and refined to 16 and 32 px."""
    return Experiment(
        name="lapgan.digits",
        gan=LAPGAN(
            loss="relativistic",
            r1=0.5,
            lr_g=Cosine(start=2e-3, end=2e-4),
            lr_ratio=2.0,
            betas=(0.0, 0.9),
            latent_dim=64,
            hidden=256,
            hidden_d=256,
            width=8,
            kernel=3,
        ),
        data=Digits(size=32),
        train=Train(steps=2500, batch=64, evaluate_every=500, sample_every=500),
        search=balance(),
    )

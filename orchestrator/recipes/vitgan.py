"""Recipes of ViTGAN."""

from __future__ import annotations

from gans.data.digits import Digits
from gans.families.vitgan import ViTGAN
from gans.options import Train
from orchestrator.experiment import Experiment
from orchestrator.recipes.spaces import balance


def vitgan_digits() -> Experiment:
    """Transformers on both sides, 16 px digits in 16 patches."""
    return Experiment(
        name="vitgan.digits",
        gan=ViTGAN(latent_dim=32, width=48, depth=2, heads=4, mapping_layers=2, lr_g=1e-3),
        data=Digits(size=16),
        train=Train(steps=1500, batch=64, evaluate_every=300, sample_every=300, sample_grid=64),
        search=balance(),
    )

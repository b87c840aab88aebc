"""Recipes of StyleGAN2."""

from __future__ import annotations

from gans.data.digits import Digits
from gans.families.stylegan2 import StyleGAN2, auto_r1
from gans.options import Train
from orchestrator.experiment import Experiment
from orchestrator.recipes.spaces import balance

BATCH = 32


def stylegan2_digits() -> Experiment:
    """StyleGAN2 at 32 px: small widths, every phase, on digits; `--data DIR data.size=1024` takes any pictures."""
    return Experiment(
        name="stylegan2.digits",
        gan=StyleGAN2(
            latent_dim=64,
            style_dim=64,
            mapping_layers=4,
            channel_base=512,
            width_max=64,
            lr_g=2.5e-3,
            r1=auto_r1(32, BATCH),
        ),
        data=Digits(size=32),
        train=Train(steps=800, batch=BATCH, evaluate_every=400, sample_every=400),
        search=balance(),
    )

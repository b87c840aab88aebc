"""Recipes of StyleGAN2."""

from __future__ import annotations

from gans.data.digits import Digits
from gans.families.stylegan2 import StyleGAN2
from gans.options import Train
from orchestrator.experiment import Experiment
from orchestrator.recipes.spaces import balance


def stylegan2_digits() -> Experiment:
    """Every part of StyleGAN2 in small, by class, on 32 px digits: the grid's columns are the classes 0 to 9.

    What is unlike the paper's follows from a budget of a thousand steps: higher learning rates, also of the mapping
    network, and a mean path length that is found within a few dozen steps, before it draws paths to zero. For a folder
    of pictures of 8 to 1024 px, by the paper's own values:

        ganctl train stylegan2.digits --data DIR data.size=256 gan.by_class=false gan.latent_dim=512 gan.style_dim=512
            gan.mapping_layers=8 gan.mapping_lr=0.01 gan.channel_base=32768 gan.width_max=512 gan.lr_g=0.0025
            gan.path_decay=0.01 train.batch=32 train.steps=200000 gan.augment=ada
    """
    return Experiment(
        name="stylegan2.digits",
        gan=StyleGAN2(
            by_class=True,
            latent_dim=64,
            style_dim=64,
            mapping_layers=2,
            mapping_lr=0.1,
            channel_base=256,
            width_max=64,
            lr_g=6e-3,
            r1=1.0,
            path_decay=0.1,
        ),
        data=Digits(size=32),
        train=Train(steps=1100, batch=32, evaluate_every=550, sample_every=550, sample_grid=60),
        search=balance(),
    )

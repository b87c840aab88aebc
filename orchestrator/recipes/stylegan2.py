"""Recipes of StyleGAN2."""

from __future__ import annotations

from gans.data.digits import Digits
from gans.data.images import Images
from gans.families.stylegan2 import StyleGAN2, auto_r1
from gans.options import Train
from gans.schedule import Cosine
from orchestrator.experiment import Experiment
from orchestrator.sweep.space import LogUniform, Space


def stylegan2_digits() -> Experiment:
    """Every part of StyleGAN2 in small, by class, on 32 px digits: the grid's columns are the classes 0 to 9.

    What is unlike the paper's follows from a budget of a thousand steps: higher learning rates, also of the mapping
    network; a mean path length that is found within a few dozen steps, before it draws paths to zero; and a faster,
    more penalised discriminator, without which each class soon has but one form.
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
            lr_g=Cosine(start=5e-3, end=1e-3),
            lr_ratio=3.0,
            r1=8.0,
            penalty_every=8,
            path_decay=0.1,
        ),
        data=Digits(size=32),
        train=Train(steps=1100, batch=32, evaluate_every=550, sample_every=550, sample_grid=60),
        search=Space(
            {"gan.lr_ratio": LogUniform(low=1.0, high=10.0), "gan.r1": LogUniform(low=0.3, high=30.0)}
        ),
    )


def stylegan2_pictures() -> Experiment:
    """The paper's own values, with ADA, for a folder of pictures of 8 to 1024 px, on GPUs.

    Not among the recipes by name, since it needs pictures:

        ganctl train orchestrator.recipes.stylegan2:stylegan2_pictures --data DIR data.size=256

    R1's weight is the automatic one for 256 px; for other sizes set gan.r1 to 0.0002 size^2 / train.batch.
    """
    return Experiment(
        name="stylegan2.pictures",
        gan=StyleGAN2(lr_g=2.5e-3, r1=auto_r1(256, 32), augment="ada"),
        data=Images(path="pictures", size=256),
        train=Train(
            steps=None,
            images=5_000_000,
            batch=32,
            log_every=100,
            evaluate_every=5000,
            sample_every=5000,
            checkpoint_every=5000,
        ),
    )

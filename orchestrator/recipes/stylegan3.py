"""Recipes of StyleGAN3."""

from __future__ import annotations

from gans.data.digits import Digits
from gans.families.stylegan3 import StyleGAN3
from gans.options import Train
from orchestrator.experiment import Experiment
from orchestrator.recipes.spaces import balance


def stylegan3_digits() -> Experiment:
    """Alias-free synthesis that moves with its input (T), 16 px digits; evaluations also give EQ-T and EQ-R in dB.

    Four layers with a margin of 3 px; a first stopband of 4 lets the first of them work at 8 px.
    """
    return Experiment(
        name="stylegan3.digits",
        gan=StyleGAN3(
            latent_dim=32,
            style_dim=64,
            mapping_lr=0.1,
            channel_base=256,
            channel_base_d=512,
            width_max=32,
            num_layers=4,
            margin=3,
            first_stopband=4.0,
            magnitude_images=2000,
            lr_ratio=1.5,
            r1=1.0,
            penalty_every=4,
        ),
        data=Digits(size=16),
        train=Train(steps=1200, batch=32, evaluate_every=400, sample_every=400),
        search=balance(),
    )


def stylegan3r_digits() -> Experiment:
    """The same that also turns with its input (R): pointwise convolutions and radial filters.

    These see no neighbours, so that the input has to bring more frequencies: its cutoff is 3 cycles a picture.
    """
    base = stylegan3_digits()
    changes = {
        "variant": "r",
        "channel_base": 144,
        "num_layers": 3,
        "num_critical": 1,
        "margin": 2,
        "first_cutoff": 3.0,
        "first_stopband": 5.0,
        "blur": 1.0,
        "blur_images": 3200,
    }
    train = base.train.model_copy(
        update={"batch": 24, "steps": 1100, "evaluate_every": 550, "sample_every": 550}
    )
    return base.model_copy(
        update={"name": "stylegan3r.digits", "gan": base.gan.with_changes(changes), "train": train}
    )

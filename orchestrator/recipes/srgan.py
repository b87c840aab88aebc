"""Recipes of SRGAN."""

from __future__ import annotations

from gans.data.lowres import LowRes
from gans.data.photos import Photos
from gans.families.srgan import SRGAN
from gans.options import Train
from gans.schedule import Cosine
from orchestrator.experiment import Experiment
from orchestrator.sweep.space import Choice, LogUniform, Space


def srgan_photos() -> Experiment:
    """Photo crops from 8 to 32 px: columns are the low resolution, bicubic interpolation and the sample.

    A small generator without norms that begins at bicubic interpolation, and random features, which need no weights.
    """
    return Experiment(
        name="srgan.photos",
        gan=SRGAN(
            width=24,
            width_d=16,
            blocks=4,
            norm_g="none",
            skip="bicubic",
            content="random",
            pretrain=1600,
            lr_g=Cosine(start=1e-3, end=1e-4),
        ),
        data=LowRes(of=Photos(size=32), factor=4),
        train=Train(steps=2400, batch=16, evaluate_every=800, sample_every=800, sample_grid=32),
        search=Space(
            {
                "gan.adversarial": LogUniform(low=1e-4, high=1e-2),
                "gan.content": Choice(options=("mse", "random")),
            }
        ),
    )


def srgan_photos2x() -> Experiment:
    """The same from 16 to 32 px."""
    base = srgan_photos()
    data = LowRes(of=Photos(size=32), factor=2)
    return base.model_copy(update={"name": "srgan.photos2x", "data": data})

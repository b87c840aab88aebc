"""Recipes of LAPGAN."""

from __future__ import annotations

from gans.data.digits import Digits
from gans.data.photos import Photos
from gans.families.lapgan import LAPGAN
from gans.options import Train
from gans.schedule import Cosine
from orchestrator.experiment import Experiment
from orchestrator.sweep.space import LogUniform, Space


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
        train=Train(steps=2200, batch=48, evaluate_every=1100, sample_every=550, precision="fp32"),
        search=Space(
            {"gan.lr_ratio": LogUniform(low=0.3, high=10.0), "gan.r1": LogUniform(low=0.03, high=3.0)}
        ),
    )


def lapgan_photos() -> Experiment:
    """Crops of photos, drawn at 8 px and refined to 16 and 32 px."""
    digits = lapgan_digits()
    return digits.model_copy(
        update={
            "name": "lapgan.photos",
            "gan": digits.gan.with_changes({"latent_dim": 100, "width": 16, "kernel": 5}),
            "data": Photos(size=32),
            "train": digits.train.model_copy(update={"steps": 1400, "batch": 32}),
        }
    )

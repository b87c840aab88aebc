"""Recipes of CycleGAN."""

from __future__ import annotations

from gans.data.domains import DigitDomains
from gans.data.photos import PhotoDomains
from gans.families.cyclegan import CycleGAN
from gans.options import Train
from gans.schedule import Cosine
from orchestrator.experiment import Experiment


def cyclegan_digits() -> Experiment:
    """Unpaired translation between two domains made from the digits: as they are, and inverted with a shadow.

    Without the identity loss, which fights a map that inverts contrast.
    """
    return Experiment(
        name="cyclegan.digits",
        gan=CycleGAN(width=8, width_d=16, blocks=2, lr_g=1e-3, identity=0.0),
        data=DigitDomains(size=16),
        train=Train(steps=1200, batch=16, evaluate_every=300, sample_every=300, sample_grid=32),
    )


def cyclegan_photos() -> Experiment:
    """Unpaired translation of photo crops by day to crops at dusk, with other colours and less light.

    Without the identity loss, which fights a map of colours.
    """
    return Experiment(
        name="cyclegan.photos",
        gan=CycleGAN(width=12, width_d=16, blocks=2, lr_g=Cosine(start=2e-3, end=2e-4), identity=0.0),
        data=PhotoDomains(size=16),
        train=Train(steps=2000, batch=16, evaluate_every=500, sample_every=500, sample_grid=32),
    )

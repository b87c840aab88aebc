"""Recipes of StarGAN."""

from __future__ import annotations

from gans.data.shapes import Shapes
from gans.families.stargan import StarGAN
from gans.options import Train
from orchestrator.experiment import Experiment


def stargan_shapes() -> Experiment:
    """One generator recolours procedural shapes into any of five colours."""
    return Experiment(
        name="stargan.shapes",
        gan=StarGAN(width=16, width_d=16, blocks=2, lr_g=1e-3, betas=(0.0, 0.9), critic_steps=2),
        data=Shapes(size=32, label="colour"),
        train=Train(steps=1000, batch=16, evaluate_every=500, sample_every=500, sample_grid=12),
    )


def stargan_joint() -> Experiment:
    """Two label sets, colour and fill with rotation, of which each picture knows one, trained jointly by a mask."""
    sets = (("colour",), ("fill", "rotation"))
    base = stargan_shapes()
    return base.model_copy(
        update={
            "name": "stargan.joint",
            "gan": base.gan.with_changes({"sets": sets}),
            "data": Shapes(size=32, label="form", sets=sets),
        }
    )

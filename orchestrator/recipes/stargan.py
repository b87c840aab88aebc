"""Recipes of StarGAN."""

from __future__ import annotations

from gans.data.shapes import Shapes
from gans.families.stargan import StarGAN
from gans.options import Train
from gans.schedule import Cosine
from orchestrator.experiment import Experiment


def stargan_shapes() -> Experiment:
    """One generator recolours procedural shapes into any of five colours."""
    return Experiment(
        name="stargan.shapes",
        gan=StarGAN(
            width=16, width_d=16, blocks=2, lr_g=Cosine(start=1e-3, end=1e-4), critic_steps=2, identity=10.0
        ),
        data=Shapes(size=16, label="colour"),
        train=Train(steps=2000, batch=16, evaluate_every=1000, sample_every=1000, sample_grid=12),
    )


def stargan_joint() -> Experiment:
    """Two label sets, colour and fill with rotation, of which each picture knows one, trained jointly by a mask."""
    sets = (("colour",), ("fill", "rotation"))
    base = stargan_shapes()
    return base.model_copy(
        update={
            "name": "stargan.joint",
            "gan": base.gan.with_changes({"sets": sets}),
            "data": Shapes(size=16, label="form", sets=sets),
        }
    )

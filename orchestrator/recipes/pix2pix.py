"""Recipes of pix2pix."""

from __future__ import annotations

from gans.data.pairs import ShapePairs
from gans.families.pix2pix import Pix2Pix
from gans.options import Train
from gans.schedule import Cosine
from orchestrator.experiment import Experiment
from orchestrator.sweep.space import LogUniform, Space


def pix2pix_labels() -> Experiment:
    """A map of labels to the textured picture that follows from it, learned from pairs."""
    return Experiment(
        name="pix2pix.labels",
        gan=Pix2Pix(width=16, width_d=16, lr_g=Cosine(start=1e-3, end=1e-4)),
        data=ShapePairs(source="labels", size=32),
        train=Train(steps=2400, batch=16, evaluate_every=800, sample_every=800, sample_grid=50),
        search=Space(
            {
                "gan.lr_ratio": LogUniform(low=0.1, high=10.0),
                "gan.l1": LogUniform(low=1.0, high=100.0),
            }
        ),
    )


def pix2pix_edges() -> Experiment:
    """Edges to the picture."""
    base = pix2pix_labels()
    return base.model_copy(update={"name": "pix2pix.edges", "data": ShapePairs(source="edges", size=32)})

"""Recipes that show options of any family (docs/options.md): against overfitting few pictures, and for lost modes."""

from __future__ import annotations

from orchestrator.experiment import Experiment
from orchestrator.recipes.plain import dcgan_digits, vanilla_ring


def dcgan_ada() -> Experiment:
    """Adaptive augmentation for 1,397 digits, which a discriminator without norm learns by heart otherwise."""
    base = dcgan_digits()
    gan = base.gan.with_changes({"norm_d": "none", "augment": "ada", "ada_images": 20_000})
    train = base.train.model_copy(update={"steps": 3000})
    return base.model_copy(update={"name": "dcgan.ada", "gan": gan, "train": train, "search": None})


def dcgan_ssgan() -> Experiment:
    """SSGAN: a discriminator that also tells by how many quarters a digit is turned."""
    base = dcgan_digits()
    gan = base.gan.with_changes({"rotation": 1.0, "rotation_g": 0.2, "loss": "hinge"})
    return base.model_copy(update={"name": "dcgan.ssgan", "gan": gan, "search": None})


def vanilla_pacgan_ring() -> Experiment:
    """PacGAN: four points judged as one, on the ring, with a critic that is slow to find lost modes alone."""
    base = vanilla_ring()
    gan = base.gan.with_changes({"pac": 4})
    return base.model_copy(update={"name": "vanilla.pacgan-ring", "gan": gan})

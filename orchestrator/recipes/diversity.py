"""Recipes that show options of any family (docs/options.md has figures with and without them)."""

from __future__ import annotations

from gans.schedule import Cosine
from orchestrator.experiment import Experiment
from orchestrator.recipes.plain import dcgan_digits, vanilla_ring
from orchestrator.sweep.space import LogUniform, Space

RATIO = Space({"gan.lr_ratio": LogUniform(low=0.1, high=10.0)})


def dcgan_ada() -> Experiment:
    """Adaptive augmentation, for 1,397 digits that a discriminator without it learns by heart."""
    base = dcgan_digits()
    changes = {
        "norm_d": "none",
        "augment": "ada",
        "ada_images": 20_000,
        "r1": 0.2,
        "betas": (0.0, 0.99),
        "lr_g": Cosine(start=1e-3, end=1e-4),
        "lr_ratio": 2.0,
    }
    train = base.train.model_copy(update={"steps": 2500})
    gan = base.gan.with_changes(changes)
    return base.model_copy(update={"name": "dcgan.ada", "gan": gan, "train": train, "search": RATIO})


def dcgan_ssgan() -> Experiment:
    """SSGAN: a discriminator that also tells by how many quarters a digit is turned."""
    base = dcgan_digits()
    gan = base.gan.with_changes({"rotation": 1.0, "rotation_g": 0.2, "lr_g": Cosine(start=1e-3, end=1e-4)})
    train = base.train.model_copy(update={"steps": 3000})
    return base.model_copy(update={"name": "dcgan.ssgan", "gan": gan, "train": train, "search": RATIO})


def vanilla_pacgan_ring() -> Experiment:
    """PacGAN: a critic that judges four points as one, on the ring."""
    base = vanilla_ring()
    gan = base.gan.with_changes({"pac": 4, "lr_g": Cosine(start=1e-3, end=5e-5)})
    train = base.train.model_copy(update={"steps": 8000})
    return base.model_copy(
        update={"name": "vanilla.pacgan-ring", "gan": gan, "train": train, "search": RATIO}
    )

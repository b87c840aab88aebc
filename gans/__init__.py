"""GAN training that knows when it collapses: families, losses, the loop, data, metrics, health.

The public face is re-exported lazily, so that `import gans` stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gans.adversarial import Adversarial
    from gans.data.base import Batch, DataSpec
    from gans.family import Family, Networks, Optimiser, Phase, Step, Terms
    from gans.health import Monitor, Verdict
    from gans.loop import Tick, train
    from gans.options import Train

_FACE = {
    "Adversarial": "gans.adversarial",
    "Batch": "gans.data.base",
    "DataSpec": "gans.data.base",
    "Family": "gans.family",
    "Monitor": "gans.health",
    "Networks": "gans.family",
    "Optimiser": "gans.family",
    "Phase": "gans.family",
    "Step": "gans.family",
    "Terms": "gans.family",
    "Tick": "gans.loop",
    "Train": "gans.options",
    "Verdict": "gans.health",
    "train": "gans.loop",
}

__all__ = [
    "Adversarial",
    "Batch",
    "DataSpec",
    "Family",
    "Monitor",
    "Networks",
    "Optimiser",
    "Phase",
    "Step",
    "Terms",
    "Tick",
    "Train",
    "Verdict",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _FACE:
        return getattr(import_module(_FACE[name]), name)
    raise AttributeError(f"module 'gans' has no attribute {name!r}")

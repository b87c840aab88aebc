"""Tiny runs of every family, for tests of what is done with a run's state and networks.

A family that is not in `TINY` is taken from the cases of the contract suite.
"""

from __future__ import annotations

from typing import Any

import torch

from gans.data.base import DataConfig, Dataset
from gans.data.digits import Digits
from gans.data.domains import DigitDomains
from gans.families import family_class
from gans.family import Family
from gans.health import Monitor
from gans.loop import train
from gans.options import Train
from gans.training import State
from tests.support.families import CASES, loaded, with_fields

TINY: dict[str, dict[str, Any]] = {
    "vanilla": {"width": 8},
    "dcgan": {"width": 4},
    "wgan": {"width": 4},
    "wgan_gp": {"width": 4},
    "cgan": {"width": 4},
    "r3gan": {"width": 4},
    "cyclegan": {"width": 4, "width_d": 4, "blocks": 1, "pool": 6},
}
OPTIONS = Train(steps=4, batch=4, log_every=2, sample_grid=4, evaluate_every=0)


def tiny(tag: str, **fields: Any) -> tuple[Family, Dataset]:
    """A family of a few thousand weights, and data for it."""
    if tag not in TINY:
        case = with_fields(CASES[tag], **fields)
        return case.family, loaded(case.data)
    data: DataConfig = DigitDomains(size=16) if tag == "cyclegan" else Digits(size=8)
    return family_class(tag)(**{**TINY[tag], **fields}), data.load("train")


def state_after(
    tag: str, steps: int = 2, options: Train = OPTIONS, resume: State | None = None, **fields: Any
) -> State:
    """The state of a run on the CPU once `steps` (a multiple of `options.log_every`) are done."""
    family, dataset = tiny(tag, **fields)
    ticks = train(family, dataset, options, device=torch.device("cpu"), monitor=Monitor(), resume=resume)
    return next(tick.state() for tick in ticks if tick.step == steps)

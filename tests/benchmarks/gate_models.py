"""The models of the gate's benchmark: one recipe, many seeds, kept at several steps; trained as one batched model."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor

from gans.data.base import DataSpec
from gans.data.digits import Digits
from gans.families.vanilla import Vanilla
from gans.family import Networks
from gans.loop import train
from gans.options import Train
from gans.packing import Pack

DATA = Digits(size=8)
FAMILY = Vanilla(loss="relativistic", width=128, lr_g=1e-3, lr_ratio=2.0, betas=(0.0, 0.9), r1=0.5, r2=0.5)
KEEP_EVERY, STEPS = 50, 1000

#: The averaged generator's weights of one model by step.
Course = dict[int, dict[str, Tensor]]


def trained(num: int, seed: int, steps: int = STEPS) -> list[Course]:
    """`num` trainings of `steps` steps from seeds `seed`, `seed + 1`, ..., each kept every 50 steps."""
    data, pack = DATA.load("train"), Pack()
    options = Train(steps=steps, log_every=KEEP_EVERY, evaluate_every=0, on_collapse="ignore")
    runs = [
        train(FAMILY, data, options, seed=seed + i, device=torch.device("cpu"), pack=pack) for i in range(num)
    ]
    courses: list[Course] = [{} for _ in runs]
    for _ in range(steps // KEEP_EVERY):
        for course, run in zip(courses, runs, strict=True):
            tick = next(run)
            course[tick.step] = copy.deepcopy(tick.state()["averages"]["generator"])
    for run in runs:
        run.close()
    return courses


def kept(path: Path | None, num: int, seed: int, steps: int = STEPS) -> list[Course]:
    """The same, read from `path` where they are there, and written there where they are not."""
    if path is not None and path.exists():
        courses: list[Course] = torch.load(path, weights_only=True)
        return courses[:num]
    courses = trained(num, seed, steps)
    if path is not None:
        torch.save(courses, path)
    return courses


def networks(spec: DataSpec, weights: dict[str, Tensor]) -> Networks:
    """The family's networks with the generator's `weights`, to sample from."""
    nets = FAMILY.built(spec)
    nets["generator"].load_state_dict(weights)
    return nets

"""The labelled runs of the health benchmark: small trainings that collapse, diverge, stall or go well, each labelled by
what its generator covers at the end of the whole budget.

No detector sees the label's samples, labels, modes or classes. A sample is of a mode when it lies within half the
distance between modes (three sigma, PacGAN's "high quality", is out of reach of most healthy runs at these budgets),
and of the class a classifier gives it. A mode or class is captured when it gets at least `DUE` of what is due to it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from statistics import mean, median
from typing import Any, Literal

import torch
from torch import Tensor

from gans.data.base import DataConfig, Dataset
from gans.data.digits import Digits
from gans.data.points import Grid, Ring
from gans.families.vanilla import Vanilla
from gans.health import Kind, Monitor
from gans.loop import Tick, train
from gans.metrics import SampleProbe, extractor_for
from gans.metrics.extractors import Extractor, extract
from gans.options import Train

CALIBRATION = range(1000)
"""Seeds that thresholds were chosen on; printed results come from others."""

DUE, FULL, PARTIAL = 0.2, 0.5, 0.8
WON, SILENT, LOST = 0.95, 1e-4, 2
SAMPLES = 1000

POINTS: dict[str, Any] = {"latent_dim": 2, "width": 128, "depth": 3, "lr_g": 1e-3, "betas": (0.5, 0.999)}
PICTURES: dict[str, Any] = {"width": 128, "lr_g": 1e-3, "betas": (0.0, 0.9)}


@dataclass(frozen=True)
class Task:
    """A data set, the family's fields for it, and the budget."""

    data: DataConfig
    gan: dict[str, Any]
    train: dict[str, Any]


TASKS = {
    "ring": Task(Ring(num=20_000), POINTS, {"steps": 2000, "batch": 128, "log_every": 50}),
    "grid": Task(Grid(num=20_000), POINTS, {"steps": 2000, "batch": 128, "log_every": 50}),
    "digits": Task(Digits(size=8), PICTURES, {"steps": 1000, "batch": 64, "log_every": 25}),
}
LOSSES: dict[str, dict[str, Any]] = {
    "non-saturating": {"loss": "non_saturating"},
    "hinge": {"loss": "hinge"},
    "minimax": {"loss": "minimax"},
    "non-saturating + R1": {"loss": "non_saturating", "r1": 0.2},
    "relativistic + R1 + R2": {"loss": "relativistic", "r1": 0.5, "r2": 0.5},
}
RATIOS = (0.1, 0.3, 1.0, 3.0, 10.0)
PROVOKED: dict[str, dict[str, Any]] = {
    "fast": {"loss": "non_saturating", "lr_g": 0.03},
    "very fast": {"loss": "hinge", "lr_g": 0.3},
    "momentum": {"loss": "non_saturating", "lr_g": 5e-3, "betas": (0.9, 0.999)},
    "strong critic, minimax": {"loss": "minimax", "critic_steps": 5, "lr_ratio": 10.0, "lr_g": 2e-4},
    "strong critic, hinge": {"loss": "hinge", "critic_steps": 5, "lr_ratio": 20.0, "lr_g": 5e-5},
    "least squares": {"loss": "least_squares", "lr_ratio": 0.3},
    "unbounded critic": {"loss": "wasserstein"},
    "exploding": {"loss": "wasserstein", "lr_g": 0.05},
}


@dataclass(frozen=True)
class Case:
    """One run: where, with which fields, from which seed."""

    task: str
    name: str
    gan: dict[str, Any]
    seed: int


def cases(seed: int) -> Iterator[Case]:
    """99 runs, no two with one seed; ratios are drawn around `RATIOS`, within half the distance to the next."""
    for task in TASKS:
        for name, fields in LOSSES.items():
            for ratio in RATIOS:
                drawn = round(ratio * math.sqrt(10) ** random.Random(seed).uniform(-0.5, 0.5), 3)
                yield Case(task, f"{name}, {drawn:g}", {**fields, "lr_ratio": drawn}, seed)
                seed += 1
        for name, fields in PROVOKED.items():
            yield Case(task, name, fields, seed)
            seed += 1


@cache
def loaded(task: str) -> tuple[Dataset, Extractor]:
    """The task's data and its extractor."""
    dataset = TASKS[task].data.load("train")
    return dataset, extractor_for(dataset)


@cache
def probe(task: str) -> SampleProbe:
    """The probe a worker would make."""
    dataset, extractor = loaded(task)
    return SampleProbe(dataset.fetch(dataset.order(0, 0)[:512])["x"], extractor)


@dataclass
class Captured:
    """Evaluates samples as the share of modes or classes captured."""

    task: str
    num_samples: int = SAMPLES

    def __call__(self, x: Tensor, labels: Tensor | None = None) -> dict[str, float]:
        dataset, extractor = loaded(self.task)
        if not torch.isfinite(x).all():
            return {"captured": 0.0}
        if dataset.modes is not None:
            centres = dataset.modes.centres
            spacing = torch.cdist(centres, centres).fill_diagonal_(math.inf).min()
            distance, found = torch.cdist(x, centres).min(1)
            found, num = found[distance < spacing / 2], len(centres)
        else:
            shares = extract(extractor, x.clamp(-1, 1))[1]
            assert shares is not None
            found, num = shares.argmax(1), shares.shape[1]
        counts = torch.bincount(found, minlength=num)
        return {"captured": float((counts >= DUE * len(x) / num).double().mean())}


@dataclass
class Outcome:
    """What a run showed: verdicts as they came, and what it covered, which the monitor did not see."""

    called: Kind | None = None
    at: float = 1.0
    remedies: list[str] = field(default_factory=list)
    captured: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    gradient: list[float] = field(default_factory=list)
    finite: bool = True

    def take(self, tick: Tick) -> None:
        """Note a tick."""
        if self.called is None and not tick.verdict.healthy:
            self.called, self.at = tick.verdict.kind, tick.progress
        if tick.remedy is not None:
            self.remedies.append(tick.remedy.why)
        losses = [v for k, v in tick.metrics.items() if k.startswith("loss_")]
        self.finite = all(math.isfinite(v) and abs(v) < 1e4 for v in losses)
        self.accuracy.append(tick.metrics.get("d_accuracy", 0.5))
        self.gradient.append(tick.metrics.get("grad_generator", 0.0))
        if tick.evaluation is not None:
            self.captured.append(tick.evaluation["captured"])

    @property
    def covers(self) -> float:
        """Share captured over the last fifth of the budget: the median of five evaluations."""
        return median(self.captured[-5:])

    @property
    def label(self) -> Kind:
        """The first that applies: diverged (its last losses are not finite, or beyond 10⁴); captured at most half,
        or less than `PARTIAL`: a collapse, or, where the critic is right more often than `WON` over the last fifth,
        what the critic did; captured, but fallen from `PARTIAL` to half at least `LOST` times: oscillation; healthy.
        """
        if not self.finite:
            return "diverged"
        last = len(self.accuracy) // 5
        if self.covers < PARTIAL:
            if mean(self.accuracy[-last:]) > WON:
                silent = median(self.gradient[-last:]) <= SILENT * max(self.gradient)
                return "vanishing gradient" if silent else "discriminator overpowering"
            return "mode collapse" if self.covers <= FULL else "partial collapse"
        return "oscillation" if self._falls() >= LOST else "healthy"

    def _falls(self) -> int:
        high, falls = False, 0
        for share in self.captured:
            if share >= PARTIAL:
                high = True
            elif high and share <= FULL:
                high, falls = False, falls + 1
        return falls


def run(case: Case, on_collapse: Literal["ignore", "remedy"] = "ignore") -> Outcome:
    """Train the case for its whole budget under the monitor that a worker would use."""
    task = TASKS[case.task]
    steps = task.train["steps"]
    options = Train(
        **task.train,
        ema=False,
        on_collapse=on_collapse,
        evaluate_every=steps // 20,
        checkpoint_every=steps // 10,
    )
    outcome = Outcome()
    ticks = train(
        Vanilla.model_validate({**task.gan, **case.gan}),
        loaded(case.task)[0],
        options,
        seed=case.seed,
        device=torch.device("cpu"),
        evaluate=Captured(case.task),
        monitor=Monitor(probe(case.task)),
    )
    for tick in ticks:
        outcome.take(tick)
    return outcome

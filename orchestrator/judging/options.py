"""How champion and challenger are judged: what is drawn (`Evaluation`) and what is asked (`Gate`). Plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from pydantic import Field, field_validator

from gans.config import Config

Primary = Literal["fid", "kid", "coverage", "recall", "precision"]

#: Figures of which less is better; more is better of every other.
SMALLER = frozenset({"fid", "kid", "memorisation"})

#: Every figure that a guard or an absolute condition may name.
FIGURES = (*get_args(Primary), "density", "memorisation", "label_accuracy")

#: The most of each guarded figure that a challenger may lose, in the figure's own units.
GUARDS = {"coverage": 0.08, "recall": 0.08, "memorisation": 0.08}


class Evaluation(Config):
    """What both contestants draw: `samples` of each of `draws` latent seeds, the first of which is `seed`.

    `resamples` is how often the bootstrap draws samples and held-out rows anew.
    """

    samples: int = Field(2000, ge=64, le=50_000)
    draws: int = Field(2, ge=1, le=20)
    resamples: int = Field(200, ge=100, le=10_000)
    seed: int = Field(0, ge=0)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the latents."""
        return tuple(range(self.seed, self.seed + self.draws))


class Gate(Config):
    """When the challenger replaces the champion (docs/gate.md).

    `margin`: the relative improvement of `primary` that is worth a promotion. `guards`: the most of each figure that
    may be lost. `at_most`, `at_least`: conditions that hold whoever the champion is. Guards and conditions are held
    against the worse end of a one-sided interval at `confidence`. The defaults follow from how much trainings differ
    that differ in their seed alone (tests/benchmarks/gate.py).
    """

    primary: Primary = "fid"
    margin: float = Field(0.45, ge=0.0, le=1.0)
    guards: Mapping[str, float] = GUARDS
    confidence: float = Field(0.95, ge=0.5, lt=1.0)
    at_most: Mapping[str, float] = {}
    at_least: Mapping[str, float] = {}

    @field_validator("guards", "at_most", "at_least")
    @classmethod
    def _known(cls, bounds: Mapping[str, float]) -> Mapping[str, float]:
        if unknown := sorted(set(bounds) - set(FIGURES)):
            raise ValueError(f"no figure {', '.join(unknown)}; figures: {', '.join(FIGURES)}")
        return bounds

    @field_validator("guards")
    @classmethod
    def _losses(cls, guards: Mapping[str, float]) -> Mapping[str, float]:
        if negative := {name: bound for name, bound in guards.items() if bound < 0}:
            raise ValueError(f"{negative}: a guard is how much may be lost, 0 or more")
        return guards

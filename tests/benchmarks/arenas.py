"""What the sweep benchmark searches: three data sets, each with a recipe, over one space of two rates and a loss."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gans.data.base import DataConfig
from gans.data.digits import Digits
from gans.data.points import Grid, Ring
from gans.families.vanilla import Vanilla
from gans.metrics.modes import HQ_RADIUS
from gans.options import Train
from orchestrator.sweep.space import Choice, LogUniform, Space

EVALUATIONS, TICKS = 27, 54

LOSSES = ("non_saturating", "relativistic")
R1 = 0.1
SPACE = Space(
    {
        "gan.lr_ratio": LogUniform(low=1e-2, high=1e2),
        "gan.lr_g": LogUniform(low=1e-5, high=1e-1),
        "gan.loss": Choice(options=LOSSES),
        "gan.r1": Choice(options=(R1,), sets=("gan.r2",), when={"gan.loss": ("relativistic",)}),
    }
)
"""What somebody searches who knows neither rate nor balance: most of it collapses."""

CELLS = {"gan.lr_ratio": 7, "gan.lr_g": 7}
"""How many intervals, equal on a log scale, a range is cut into; a run is trained at the middle of each."""


@dataclass(frozen=True)
class Arena:
    """A data set with the recipe that is searched on it.

    A mode or class counts as captured where it has `share` of what is due to it of `counted` samples. A point is of
    the mode that it is within `radius` standard deviations of: 3 by PacGAN's protocol (Lin et al. 2018). On the grid,
    where PacGAN trains on 200 times as many images and these runs reach every mode long before they are as sharp, it
    is 10, a quarter of the way to the next mode.
    """

    name: str
    data: DataConfig
    gan: Vanilla
    batch: int
    steps: int
    share: float
    counted: int
    radius: float = HQ_RADIUS
    cells: Mapping[str, int] = field(default_factory=lambda: CELLS)

    @property
    def images(self) -> int:
        """The full budget of a run."""
        return self.steps * self.batch

    def quick(self) -> Arena:
        """The same with few configurations."""
        return replace(self, cells=dict.fromkeys(CELLS, 5))

    def configurations(self) -> list[str]:
        """Every configuration of the space, as sorted JSON: the key of its curve."""
        places = itertools.product(*(range(num) for num in self.cells.values()))
        balances = [
            {n: _at(n, i, self.cells[n]) for n, i in zip(self.cells, at, strict=True)} for at in places
        ]
        penalised: dict[str, dict[str, Any]] = {"relativistic": {"gan.r1": R1}}
        drawn = [{"gan.loss": loss, **b, **penalised.get(loss, {})} for loss in LOSSES for b in balances]
        return [json.dumps(fields, sort_keys=True) for fields in drawn]

    def nearest(self, params: Mapping[str, Any], among: Collection[str]) -> str:
        """The configuration that stands for `params`: of the same loss, if any is left, and the nearest otherwise."""
        return min(among, key=lambda name: _distance(params, json.loads(name)))

    def family(self, configuration: str) -> Vanilla:
        """The recipe with the fields of `configuration`."""
        chosen = {name.removeprefix("gan."): value for name, value in json.loads(configuration).items()}
        return self.gan.with_changes(chosen | ({"r2": chosen["r1"]} if "r1" in chosen else {}))

    def options(self) -> Train:
        """One tick in 54, an evaluation at every second one."""
        return Train(
            steps=self.steps,
            batch=self.batch,
            log_every=self.steps // TICKS,
            evaluate_every=self.steps // EVALUATIONS,
            evaluate_samples=300,
            sample_every=0,
            checkpoint_every=0,
            on_collapse="ignore",
        )


def _at(name: str, place: int, cells: int) -> float:
    """The middle of an interval."""
    low, high = _ends(name)
    return float(f"{low * (high / low) ** ((place + 0.5) / cells):.6g}")


def _ends(name: str) -> tuple[float, float]:
    distribution = SPACE.root[name]
    assert isinstance(distribution, LogUniform)
    return distribution.low, distribution.high


def _distance(params: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Squared, where every range is 1 long on a log scale and another loss is further than all else."""
    apart = 0.0 if params["gan.loss"] == other["gan.loss"] else float(len(CELLS))
    for name in CELLS:
        low, high = _ends(name)
        apart += (math.log(params[name] / other[name]) / math.log(high / low)) ** 2
    return apart


POINTS = Vanilla(latent_dim=8, width=64, depth=3, betas=(0.0, 0.9))
ARENAS = (
    Arena("ring", Ring(num=20_000), POINTS, batch=64, steps=1350, share=0.05, counted=2_500),
    Arena("grid", Grid(num=20_000), POINTS, batch=64, steps=3240, share=0.05, counted=2_500, radius=10),
    Arena(
        "digits",
        Digits(size=8),
        Vanilla(latent_dim=32, width=128, depth=2, betas=(0.0, 0.9)),
        batch=64,
        steps=810,
        share=0.4,
        counted=500,
    ),
)

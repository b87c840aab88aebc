"""What a sweep is asked for: how much, searched how, scored by what, stopped when. A value, stored in sweep.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from gans.config import Config
from gans.errors import ConfigError

Direction = Literal["minimize", "maximize"]

#: Figures of `gans.metrics.Evaluator` that a sweep may search by, and which way each is better.
OBJECTIVES: dict[str, Direction] = {
    "fid": "minimize",
    "kid": "minimize",
    "class_kl": "minimize",
    "mode_kl": "minimize",
    "coverage": "maximize",
    "recall": "maximize",
    "precision": "maximize",
    "density": "maximize",
    "classes": "maximize",
    "modes": "maximize",
    "hq": "maximize",
}

DEFAULT_TRIALS = 12

#: Below this a figure's logarithm is taken of this instead: an unbiased KID may be negative, a coverage zero.
EPSILON = 1e-4


class Plan(Config):
    """How a sweep is run. The first of `trials`, `hours`, `device_hours` that is spent ends it; none given: 12 trials.

    `hours` are wall-clock over all sessions of the sweep, `device_hours` the time its trials held devices. `objectives`
    are figures, their directions those of `OBJECTIVES`. `stop` is for trials that do badly at a rung (an evaluation):
    `asha` lets the best of `reduction` go on, at rungs that many times apart, and pauses the others; `median` ends the
    worse half; by default `asha`, with a population `none`. `population`: badly doing trials take over weights and
    hyperparameters of good ones (PBT). `seeds` per completed configuration, each a trial of its own. `warm_start`:
    earlier sweeps that the sampler learns from. `pack`: trials trained as one model, at most. `on_collapse`: as in
    `gans.options.Train`.
    """

    trials: int | None = Field(None, ge=1)
    hours: float | None = Field(None, gt=0)
    device_hours: float | None = Field(None, gt=0)
    sampler: str = "tpe"
    objectives: tuple[str, ...] = Field(("fid",), min_length=1)
    stop: Literal["asha", "median", "none"] = "asha"
    reduction: int = Field(3, ge=2)
    population: bool = False
    seeds: int = Field(1, ge=1)
    pack: Literal["auto"] | int = "auto"
    warm_start: tuple[str, ...] = ()
    on_collapse: Literal["stop", "remedy", "ignore"] = "stop"

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        fields = {name: value for name, value in given.items() if value is not None}
        if not fields.keys() & {"trials", "hours", "device_hours"}:
            fields["trials"] = DEFAULT_TRIALS
        if fields.get("population") is True:
            fields.setdefault("stop", "none")
        return fields

    @field_validator("objectives")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in OBJECTIVES:
                nearest = get_close_matches(name, OBJECTIVES, n=1)
                hint = f"; did you mean `{nearest[0]}`?" if nearest else ";"
                raise ValueError(f"unknown objective `{name}`{hint} objectives: {', '.join(OBJECTIVES)}")
        if len(set(names)) < len(names):
            raise ValueError(f"objectives {', '.join(names)} name one figure twice")
        return names

    @field_validator("pack")
    @classmethod
    def _some(cls, pack: Literal["auto"] | int) -> Literal["auto"] | int:
        if pack != "auto" and pack < 1:
            raise ValueError("pack is `auto` or at least 1")
        return pack

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        from orchestrator.sweep.study import check_sampler

        try:
            check_sampler(self.sampler, self.directions)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        if self.population and self.seeds > 1:
            raise ValueError(
                "seeds above 1 with population: its members' hyperparameters change while they train"
            )
        return self

    @property
    def directions(self) -> list[Direction]:
        """Which way each objective is better."""
        return [OBJECTIVES[name] for name in self.objectives]

    def values(self, figures: Mapping[str, Any]) -> list[float] | None:
        """The objectives among `figures`, in order. None where one is missing or not finite."""
        values = [figures.get(name) for name in self.objectives]
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
            return None
        return [float(value) for value in values if value is not None]

    def kept(self, values: Sequence[float]) -> float:
        """What a study keeps of a trial's objectives at a rung: the one there is, or the scalarisation of several."""
        return values[0] if len(values) == 1 else self.scalarised(values)

    def scalarised(self, values: Sequence[float]) -> float:
        """One number for one trial's objectives, smaller is better.

        One objective is itself, negative where it is maximised. Of several it is the sum of logarithms, those of
        maximised ones negative: halving FID is worth doubling coverage.
        """
        signs = [1.0 if direction == "minimize" else -1.0 for direction in self.directions]
        if len(values) != len(signs):
            raise ValueError(f"{len(values)} values for {len(signs)} objectives")
        if len(values) == 1:
            return signs[0] * values[0]
        return sum(sign * math.log(max(value, EPSILON)) for sign, value in zip(signs, values, strict=True))


def parse_plan(fields: Mapping[str, Any]) -> Plan:
    """A plan from plain values; None stands for the default. Raises ConfigError naming every wrong field at once."""
    try:
        return Plan.model_validate(dict(fields))
    except ValidationError as error:
        raise ConfigError("; ".join(_said(mistake) for mistake in error.errors())) from None


def _said(mistake: Any) -> str:
    field = str(mistake["loc"][0]) if mistake["loc"] else ""
    if mistake["type"] == "extra_forbidden":
        nearest = get_close_matches(field, Plan.model_fields, n=1)
        hint = f"; did you mean `{nearest[0]}`?" if nearest else ";"
        return f"unknown field `{field}` of a plan{hint} fields: {', '.join(Plan.model_fields)}"
    message = mistake["msg"].removeprefix("Value error, ")
    return f"`{field}` = {mistake['input']!r}: {message[:1].lower()}{message[1:]}" if field else message

"""Population based training: badly doing trials go on with the weights and nearby hyperparameters of good ones.

Jaderberg et al. 2017 (arXiv:1711.09846), asynchronous: each member is judged when it arrives at an interval (an
evaluation), against where the others were by then. Truncation selection, a quarter each way; what is tunable is then
perturbed by 0.8 or 1.25, or drawn anew.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial

from orchestrator.sweep.ledger import Ledger
from orchestrator.sweep.space import Choice, Distribution, Int, Space, Uniform
from orchestrator.sweep.stopping import competitors

QUANTILE = 4  # one of so many is bad, one of so many good
FACTORS = (0.8, 1.25)
RESAMPLE = 0.25

MEMBER = "member:"  # + step: where the ledger remembers how a member was at an interval


@dataclass(frozen=True)
class Exploit:
    """Go on from the weights of trial `donor` (run `run_id`) at `step`, with the fields `changes`."""

    donor: int
    run_id: str
    step: int
    changes: dict[str, Any]


@dataclass(frozen=True)
class Place:
    """A member at an interval, and what the ledger remembers of it there."""

    trial: FrozenTrial
    step: int

    @property
    def member(self) -> dict[str, Any]:
        remembered: dict[str, Any] = self.trial.system_attrs.get(f"{MEMBER}{self.step}", {})
        return remembered


class Population:
    """The members of a sweep, as far as the ledger remembers them. `tunable` are the fields that may change."""

    def __init__(self, ledger: Ledger, space: Space, tunable: Collection[str], seed: int) -> None:
        self._ledger = ledger
        self._space = space
        self._seed = seed
        parents = {parent for d in space.root.values() for parent in d.when}
        self._tunable = {
            name: d
            for name, d in space.root.items()
            if name not in parents and {name, *d.sets} <= set(tunable)
        }
        self._fields = {field for name, d in self._tunable.items() for field in (name, *d.sets)}
        self._ordered: dict[int, dict[str, Any]] = {}

    def arrive(self, number: int, step: int, healthy: bool, checkpoint: int | None) -> None:
        """Member `number` has been evaluated at `step`, where its weights are kept as `checkpoint`."""
        member = {"checkpoint": checkpoint, "params": self._current(number), "healthy": healthy}
        self._ledger.remember(number, f"{MEMBER}{step}", member)

    def goes_on(self, number: int) -> None:
        """Member `number` was heard again, so it follows what it was last told: that becomes its lineage."""
        if (entry := self._ordered.pop(number, None)) is not None:
            lineage = self._ledger.attributes(number).get("lineage", [])
            self._ledger.note(number, lineage=[*lineage, entry])

    def judge(self, number: int, step: int) -> Exploit | None:
        """What a member of the worst quarter at interval `step` goes on with. None: it goes on as it is."""
        seen = self._seen(step)
        quarter = len(seen) // QUANTILE
        if number not in [place.trial.number for place in seen[len(seen) - quarter :]]:
            return None
        return self._exploit(number, step, [p for p in seen[:quarter] if self._fits(number, p)])

    def rescue(self, number: int, step: int) -> Exploit | None:
        """What a member that collapsed by `step` goes on with. None: nobody can help it."""
        fitting = [place for place in self._seen(step) if self._fits(number, place)]
        return self._exploit(number, step, fitting[: math.ceil(len(fitting) / QUANTILE)])

    def _seen(self, step: int) -> list[Place]:
        """Where everyone was by `step`, the best first: at it, or for those behind at the last interval they reached.

        Who ended before it is no measure of those that went on.
        """
        sign = 1 if self._ledger.direction == "minimize" else -1
        places = []
        for trial in competitors(self._ledger):
            at = max((at for at in trial.intermediate_values if at <= step), default=None)
            if at is not None and (at == step or not trial.state.is_finished()):
                places.append(Place(trial, at))
        return sorted(places, key=lambda place: sign * place.trial.intermediate_values[place.step])

    def _exploit(self, number: int, step: int, donors: list[Place]) -> Exploit | None:
        if not donors:
            return None
        rng = random.Random(f"{self._seed} {number} {step}")  # the same after a kill
        donor = rng.choice(donors)
        changes = self._explore(donor.member["params"], rng)
        run_id, checkpoint = donor.trial.user_attrs["run_id"], donor.member["checkpoint"]
        self._ordered[number] = {
            "step": step,
            "from": donor.trial.number,
            "from_step": checkpoint,
            "changes": changes,
        }
        return Exploit(donor.trial.number, run_id, checkpoint, changes)

    def _fits(self, number: int, donor: Place) -> bool:
        """Whether the donor's weights are there, sound, and those of the same networks."""
        return (
            donor.trial.number != number
            and donor.member.get("checkpoint") is not None
            and donor.member["healthy"]
            and self._structure(donor.member["params"]) == self._structure(self._current(number))
        )

    def _structure(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in params.items() if name not in self._fields}

    def _current(self, number: int) -> dict[str, Any]:
        told = self._ledger.attributes(number)
        return current(told["params"], told.get("lineage", []))

    def _explore(self, params: Mapping[str, Any], rng: random.Random) -> dict[str, Any]:
        """The donor's tunable fields, each moved or drawn anew."""
        changes: dict[str, Any] = {}
        for name, distribution in self._tunable.items():
            drawn = all(params.get(parent) in allowed for parent, allowed in distribution.when.items())
            if name in params:
                value = _moved(distribution, params[name], rng) if drawn else params[name]
                changes |= dict.fromkeys((name, *distribution.sets), value)
        return changes


def current(params: Mapping[str, Any], lineage: list[dict[str, Any]]) -> dict[str, Any]:
    """The fields of a trial as they are after the changes of its lineage (rows of `Ledger.table`)."""
    return dict(params) | {name: value for entry in lineage for name, value in entry["changes"].items()}


def _moved(distribution: Distribution, value: Any, rng: random.Random) -> Any:
    if rng.random() < RESAMPLE:
        return _drawn(distribution, rng)
    if isinstance(distribution, Choice):
        return value
    factor = rng.choice(FACTORS)
    moved = min(max(value * factor, distribution.low), distribution.high)
    if not isinstance(distribution, Int):
        return moved
    whole = round(moved)
    if whole == value:  # 0.8 and 1.25 move no small whole number
        whole = min(max(value + (1 if factor > 1 else -1), distribution.low), distribution.high)
    return whole


def _drawn(distribution: Distribution, rng: random.Random) -> Any:
    if isinstance(distribution, Choice):
        return rng.choice(distribution.options)
    low, high = distribution.low, distribution.high
    if isinstance(distribution, Int) and not distribution.log:
        return rng.randint(distribution.low, distribution.high)
    if isinstance(distribution, Uniform):
        return rng.uniform(low, high)
    drawn = min(max(math.exp(rng.uniform(math.log(low), math.log(high))), low), high)
    return round(drawn) if isinstance(distribution, Int) else drawn

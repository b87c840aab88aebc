"""How a run changes course: other hyperparameters, or other weights, from a step on. The step itself never goes back.

A remedy is a change that the run makes by itself; whoever consumes its ticks may send others.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gans.family import Family
from gans.health import Kind
from gans.training import State, Training


@dataclass(frozen=True)
class Change:
    """What a run does differently from here on.

    `fields` are new values of family fields, `weights` a state (`Tick.state`) whose networks, averages, optimisers
    and memory to take up; `end` ends the run, for that reason. `why` is for people.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    weights: State | None = None
    end: str = ""
    why: str = ""


class Course:
    """The changes of one run so far, and the weights it may go back to. The same on every rank."""

    def __init__(self, training: Training) -> None:
        self.training = training
        self.changes: list[dict[str, Any]] = []
        self._begun: Family = training.family
        self._sound: State | None = None

    @property
    def mends(self) -> bool:
        """Whether the run has remedies left."""
        options = self.training.options
        return options.on_collapse == "remedy" and self._remedies < options.max_remedies

    def remedy(self, kind: Kind) -> Change | None:
        """The least remedy of the family for a verdict of `kind`, from the last sound weights."""
        family = self.training.family
        advice = family.remedies(kind) if self.mends else ()
        if not advice:
            return None
        step = 0 if self._sound is None else self._sound["position"]["step"]
        back = f"back to the weights of step {step}" if step else "back to the initial weights"
        why = f"{kind}: {back}, {advice[0].said(family)}"
        return Change(advice[0].changes, self._sound or self.training.initial(), why=why)

    def turn(self, change: Change, remedy: bool) -> None:
        """Make `change`. Raises ConfigError where the family does not take its fields."""
        family = self.training.family.with_changes(change.fields) if change.fields else None
        self.training.turn(family, change.weights)
        step = self.training.steps
        self.changes.append(
            {"step": step, "remedy": remedy, "why": change.why, "fields": dict(change.fields)}
        )

    def keep(self, state: State) -> None:
        """`state` is sound: a remedy goes back to it. It is copied: a state shares its tensors with the run."""
        self._sound = copy.deepcopy(state)

    def state(self, sound: bool, ill: Kind) -> dict[str, Any]:
        """What a resume needs: the changes, the sound weights where this checkpoint's own are not, and the verdict
        that a remedy is due for."""
        kept = None if sound else self._sound
        return {"changes": list(self.changes), "sound": sound, "weights": kept, "ill": ill}

    def load(self, state: State) -> None:
        """Take up the changes and sound weights of checkpoint `state`."""
        mine = state["course"]
        self.changes = mine["changes"]
        fields = {name: value for change in self.changes for name, value in change["fields"].items()}
        if fields:
            self.training.turn(self._begun.with_changes(fields), None)
        if self.mends:
            self._sound = state if mine["sound"] else mine["weights"]

    @property
    def _remedies(self) -> int:
        return sum(change["remedy"] for change in self.changes)

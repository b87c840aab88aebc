"""Lets trials that do badly at a rung wait there, or ends them, by what the ledger keeps.

Only trials that compete are looked at: no replicates (their mean would be biased), none of earlier sweeps, none that
was cut off. So it works with several objectives too, and decides the same after a kill.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from optuna.pruners import MedianPruner
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from orchestrator.sweep.account import PASSED, counts

if TYPE_CHECKING:
    from orchestrator.sweep.ledger import Ledger
    from orchestrator.sweep.plan import Plan

#: Completed trials that a median is taken of, at least.
MEDIAN_TRIALS = 4

#: Nobody goes on from a rung before the trials that reached it were given so much of a full run together: after less,
#: the best of a few bad draws is trained to its end; more delays the first good one.
WAIT = 0.6

FIRST_RUNG = "first_rung"  # where the study keeps step and progress of its first evaluation


@dataclass(frozen=True)
class Stop:
    """A trial is to end at `rung`, counted from 0."""

    rung: int
    reason: str


@dataclass(frozen=True)
class Judged:
    """A trial was judged at `rung`: it goes on, or waits there until it may."""

    rung: int
    goes_on: bool


class Halving:
    """Asynchronous successive halving that pauses trials (Li et al. 2020, arXiv:1810.05934, Algorithm 2).

    Rungs lie at the first evaluation of the sweep and `reduction` times further each. Of the trials that reached a
    rung the best of `reduction`, one at least, go on. The others wait there, and go on once so many worse ones have
    come that they are among the best. `WAIT` delays the first, unless all trials are `drawn` and nobody is to come.
    """

    def __init__(self, ledger: Ledger, plan: Plan, drawn: bool = False) -> None:
        self._paused, self._reduction, self._drawn = set(ledger.paused), plan.reduction, drawn
        first, self._share = ledger.kept(FIRST_RUNG)
        self._reached: list[list[tuple[float, int]]] = []  # at each rung, the best first
        self.highest: dict[int, int] = {}
        sign = 1 if ledger.direction == "minimize" else -1
        for trial in competitors(ledger):
            for rung, value in enumerate(at_rungs(trial, first, plan.reduction)):
                if rung == len(self._reached):
                    self._reached.append([])
                self._reached[rung].append((sign * value, trial.number))
                self.highest[trial.number] = rung
        for reached in self._reached:
            reached.sort()

    def worthy(self, number: int) -> bool:
        """Whether trial `number` is among those that go on from the highest rung that it has reached."""
        rung = self.highest[number]
        reached, wait = self._reached[rung], int(WAIT / (self._share * self._reduction**rung))
        if len(reached) < wait and not self._drawn:
            return False
        return number in [other for _, other in reached[: max(1, len(reached) // self._reduction)]]

    def waiting(self) -> Iterator[int]:
        """The paused trials: who came furthest first, and of those the best."""
        for rung in reversed(range(len(self._reached))):
            yield from (n for _, n in self._reached[rung] if n in self._paused and self.highest[n] == rung)

    def why(self, trial: FrozenTrial) -> str:
        """Why `trial` did not go on."""
        num = len(self._reached[self.highest[trial.number]])
        return f"asha: not in the best 1/{self._reduction} of {num} at step {trial.last_step}"


def at_rungs(trial: FrozenTrial, first: int, reduction: int) -> list[float]:
    """The trial's value at each rung that it reached."""
    step, values = first, []
    for at, value in sorted(trial.intermediate_values.items()):
        while at >= step:
            values.append(value)
            step *= reduction
    return values


class Rungs:
    """The part of `optuna.Study` that pruners use, over the trials that compete with each other."""

    def __init__(self, trials: list[FrozenTrial], minimise: bool) -> None:
        self._trials = trials
        self.direction = StudyDirection.MINIMIZE if minimise else StudyDirection.MAXIMIZE

    def get_trials(
        self, deepcopy: bool = False, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return [trial for trial in self._trials if states is None or trial.state in states]


def decide(ledger: Ledger, plan: Plan, number: int) -> Stop | Judged | None:
    """What becomes of trial `number` at the evaluation that it has just reported to the ledger. None: it goes on."""
    trial = ledger.frozen(number)
    if plan.stop == "none" or "replicate_of" in trial.user_attrs:
        return None
    return _asha(ledger, plan, trial) if plan.stop == "asha" else _median(ledger, trial)


def competitors(ledger: Ledger) -> list[FrozenTrial]:
    """The trials whose values at a rung may be compared."""
    return [trial for trial in ledger.trials() if counts(trial) and "replicate_of" not in trial.user_attrs]


def _asha(ledger: Ledger, plan: Plan, trial: FrozenTrial) -> Judged | None:
    """None between rungs."""
    # Not the least step in the ledger: a trial may be scored where it collapses, before any evaluation is due.
    step, known = max(1, trial.last_step or 1), ledger.kept(FIRST_RUNG)
    if known is None or step < known[0]:
        ledger.keep(FIRST_RUNG, [step, trial.user_attrs.get("spent", {}).get("progress") or 1.0])
    rung = len(at_rungs(trial, ledger.kept(FIRST_RUNG)[0], plan.reduction)) - 1
    if rung < trial.user_attrs.get(PASSED, 0):
        return None
    return Judged(rung, Halving(ledger, plan).worthy(trial.number))


def _median(ledger: Ledger, trial: FrozenTrial) -> Stop | None:
    """The median rule (Golovin et al. 2017): worse at its best than half of the completed ones were at this step."""
    pruner = MedianPruner(n_startup_trials=MEDIAN_TRIALS, n_min_trials=MEDIAN_TRIALS)
    rungs = Rungs(competitors(ledger), ledger.direction == "minimize")
    if not pruner.prune(cast("Study", rungs), trial):
        return None
    return Stop(len(trial.intermediate_values) - 1, f"median: in the worse half at step {trial.last_step}")

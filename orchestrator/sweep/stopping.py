"""Ends trials that do badly at a rung, by Optuna's own pruners over what the ledger keeps.

The pruners read a study; they see one thinned out: no replicates (their mean would be biased), no trials of earlier
sweeps, none that was cut off. So they work with several objectives too, and decide the same after a kill.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from optuna.pruners import BasePruner, MedianPruner, SuccessiveHalvingPruner
from optuna.storages import BaseStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from orchestrator.sweep.account import counts

if TYPE_CHECKING:
    from orchestrator.sweep.ledger import Ledger
    from orchestrator.sweep.plan import Plan

#: Completed trials that a median is taken of, at least.
MEDIAN_TRIALS = 4

FIRST_RUNG = "first_rung"  # where the study keeps the step of its first evaluation

RUNG = "completed_rung_"  # where SuccessiveHalvingPruner keeps a trial's value at a rung


@dataclass(frozen=True)
class Stop:
    """A trial is to end at `rung`, counted from 0."""

    rung: int
    reason: str


class Rungs:
    """The part of `optuna.Study` that pruners use, over the trials that compete with each other."""

    def __init__(self, storage: BaseStorage, trials: list[FrozenTrial], minimise: bool) -> None:
        self._storage = storage
        self._trials = trials
        self.direction = StudyDirection.MINIMIZE if minimise else StudyDirection.MAXIMIZE

    def get_trials(
        self, deepcopy: bool = False, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return [trial for trial in self._trials if states is None or trial.state in states]


def decide(ledger: Ledger, plan: Plan, number: int) -> Stop | None:
    """Whether trial `number` ends at the rung that it has just reported to the ledger."""
    trial = ledger.frozen(number)
    if plan.stop == "none" or "replicate_of" in trial.user_attrs:
        return None
    rungs = Rungs(ledger.storage, competitors(ledger), ledger.direction == "minimize")
    decision = _asha if plan.stop == "asha" else _median
    return decision(rungs, trial, plan.reduction, ledger)


def competitors(ledger: Ledger) -> list[FrozenTrial]:
    """The trials whose values at a rung may be compared."""
    return [trial for trial in ledger.trials() if counts(trial) and "replicate_of" not in trial.user_attrs]


def _asha(rungs: Rungs, trial: FrozenTrial, reduction: int, ledger: Ledger) -> Stop | None:
    """Asynchronous successive halving (Li et al. 2020), the first rung at the first evaluation of the sweep.

    Optuna's pruner also stops the second trial to reach a rung where it is worse than the first; here a rung begins to
    stop once `reduction` trials have reached it, for before that nobody is among the worst of so many.
    """
    # Not the least step in the ledger: a trial may be scored where it collapses, before any evaluation is due.
    step, known = max(1, trial.last_step or 1), ledger.kept(FIRST_RUNG)
    first = step if known is None else min(step, known)
    if first != known:
        ledger.keep(FIRST_RUNG, first)
    pruner = SuccessiveHalvingPruner(min_resource=first, reduction_factor=reduction)
    if not _asks(pruner, rungs, trial):
        return None
    rung = sum(name.startswith(RUNG) for name in ledger.frozen(trial.number).system_attrs) - 1
    reached = sum(f"{RUNG}{rung}" in other.system_attrs for other in competitors(ledger))
    if reached < reduction:
        return None
    return Stop(rung, f"asha: not in the best 1/{reduction} of {reached} at step {trial.last_step}")


def _median(rungs: Rungs, trial: FrozenTrial, reduction: int, ledger: Ledger) -> Stop | None:
    """The median rule (Golovin et al. 2017): worse at its best than half of the completed ones were at this step."""
    if not _asks(MedianPruner(n_startup_trials=MEDIAN_TRIALS, n_min_trials=MEDIAN_TRIALS), rungs, trial):
        return None
    return Stop(len(trial.intermediate_values) - 1, f"median: in the worse half at step {trial.last_step}")


def _asks(pruner: BasePruner, rungs: Rungs, trial: FrozenTrial) -> bool:
    return pruner.prune(cast("Study", rungs), trial)

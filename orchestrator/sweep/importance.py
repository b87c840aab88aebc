"""Which parameters made the good trials good: PED-ANOVA (Watanabe et al., arXiv 2304.10255), by objective."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState, create_trial

from orchestrator.sweep import account
from orchestrator.sweep.plan import OBJECTIVES

TOP = 5  # trials that an estimate of the good ones needs (Optuna's advice)
FEWEST = 2 * TOP
COMPLETE, PRUNED = TrialState.COMPLETE, TrialState.PRUNED
LAST = (2.0,)


@dataclass(frozen=True)
class Importance:
    """Share of each parameter in reaching the best trials, largest first, in all 1; or the `reason` there is none."""

    shares: dict[str, float] = field(default_factory=dict)
    reason: str = ""


def importance(trials: Sequence[FrozenTrial], objectives: Sequence[str]) -> dict[str, Importance]:
    """The importance of every parameter for each objective, over the trials that ended.

    PED-ANOVA compares the best tenth (at least 5) with all, so only the order counts: completed trials come first, then
    those stopped at a rung, the later the better, and those that were not healthy last. Conditional parameters are
    judged over the trials that have them (arXiv 2601.20800). Crashes say nothing.
    """
    return {name: _importance(trials, i, name) for i, name in enumerate(objectives)}


def _importance(trials: Sequence[FrozenTrial], index: int, name: str) -> Importance:
    places = {t.number: _place(t, index, name) for t in trials if t.state in (COMPLETE, PRUNED)}
    measured = sum(place != LAST for place in places.values())
    if len(places) < FEWEST or measured < TOP:
        some = (
            f"{measured} trials that were not stopped for their health, and {len(places)} in all, are too few"
        )
        return Importance(reason=f"{some}: at least {TOP} and {FEWEST}")
    ranks = {place: rank for rank, place in enumerate(sorted(set(places.values())))}
    if len(ranks) == 1:
        return Importance(reason="all trials came to the same")
    study = _study([(t, ranks[places[t.number]]) for t in trials if t.number in places])
    if not any(trial.params for trial in study.get_trials(deepcopy=False)):
        return Importance(reason="the trials differ in no parameter")
    evaluator = PedAnovaImportanceEvaluator(target_quantile=max(0.1, TOP / len(places)))
    shares = get_param_importances(study, evaluator=evaluator)
    return Importance({name: share for name, share in shares.items() if math.isfinite(share)})


def _place(trial: FrozenTrial, index: int, name: str) -> tuple[float, ...]:
    """Where a trial stands among the others; smaller is better."""
    sign = 1.0 if OBJECTIVES[name] == "minimize" else -1.0
    if trial.state == COMPLETE:
        return (0.0, 0.0, sign * trial.values[index])
    step = trial.last_step
    if step is None or account.sick(trial.user_attrs.get("verdict_document", {})):
        return LAST
    several = trial.user_attrs.get("last")  # of several objectives the study keeps their scalarisation
    value = several["values"][index] if several else trial.intermediate_values[step]
    return (1.0, -step, sign * value)


def _study(ranked: Sequence[tuple[FrozenTrial, int]]) -> optuna.Study:
    """The trials as completed ones of a study in memory, the smaller rank the better."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it announces each study on stderr
    study = optuna.create_study()
    study.add_trials(
        create_trial(params=t.params, distributions=t.distributions, value=rank) for t, rank in ranked
    )
    return study

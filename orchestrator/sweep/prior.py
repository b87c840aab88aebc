"""Warm start: the trials of earlier sweeps become prior trials of a study, which its sampler learns from.

None is run again, and none counts: not as a trial, not in a budget, not among the results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from orchestrator.errors import NotFound
from orchestrator.experiment import flatten
from orchestrator.store.objects import Objects
from orchestrator.sweep import account
from orchestrator.sweep.folder import open_sweep
from orchestrator.sweep.ledger import Ledger
from orchestrator.sweep.plan import Plan
from orchestrator.sweep.space import Scalar, Space

Document = Mapping[str, Any]


def remember(
    ledger: Ledger, objects: Objects, plan: Plan, space: Space, experiment: Document | None = None
) -> dict[str, tuple[int, int]]:
    """Give the ledger the trials of the sweeps in `plan.warm_start`, each once however often this is called.

    `experiment` is the document that is searched now: a trial of an earlier sweep that searched another field still
    fits where it had the value which that field has now. Returns for each sweep how many trials fit, and how many were
    left out. Raises NotFound where a sweep is not in the store, or has no result.
    """
    told: dict[str, tuple[int, int]] = {}
    for sweep_id in plan.warm_start:
        earlier = open_sweep(objects, sweep_id)
        if earlier.result is None:
            raise NotFound(
                f"sweep {sweep_id!r} has no result; finish it with `ganctl sweep resume {sweep_id}`"
            )
        begun = flatten(earlier.begun["experiment"])
        rows = [row for row in earlier.result.trials if row["state"] != "FAIL"]
        found = [
            prior_trial(row, f"{sweep_id}#{row['number']}", space, plan, begun, experiment) for row in rows
        ]
        fitting = [trial for trial in found if trial is not None]
        ledger.add(fitting)
        told[sweep_id] = len(fitting), len(rows) - len(fitting)
    return told


def prior_trial(
    row: Document,
    name: str,
    space: Space,
    plan: Plan,
    begun: Document | None = None,
    experiment: Document | None = None,
) -> FrozenTrial | None:
    """A row of an earlier sweep's result as a trial of this space. None where it does not fit, or says nothing.

    A completed trial needs every objective among its figures, one that was stopped only where it was healthy.
    """
    values, verdict = plan.values(row.get("figures") or {}), row.get("verdict") or {}
    complete, step = row["state"] == "COMPLETE", int(row.get("step") or 0)
    had = {**(begun or {}), **row["params"]}
    drawn = _Drawn(had)
    try:
        fields = space.suggest(drawn)  # type: ignore[arg-type] # it draws as an Optuna trial does
    except _Misfit:
        return None
    now = (flatten(experiment) if experiment else {}) | fields
    if any(had.get(name, value) != value for name, value in fields.items()):
        return None
    if any(name not in now or now[name] != value for name, value in row["params"].items()):
        return None
    if values is None and (complete or not account.sick(verdict)):
        return None
    kept = {} if complete or values is None else {step: plan.kept(values)}
    violation = None if complete else account.violation(verdict, step, len(plan.objectives))
    return create_trial(
        state=TrialState.COMPLETE if complete else TrialState.PRUNED,
        values=values if complete else None,
        params=drawn.params,
        distributions=drawn.distributions,
        intermediate_values=kept,
        user_attrs={"prior": name, "params": fields, **account.noted(verdict)},
        constraints=None if violation is None else {"health": violation},
    )


class _Misfit(Exception):
    """A value lies outside its distribution, or is not known."""


class _Drawn:
    """Stands in for the trial that a space draws from: it draws what `values` say, and keeps the distributions."""

    def __init__(self, values: Document) -> None:
        self._values = values
        self.params: dict[str, Any] = {}
        self.distributions: dict[str, BaseDistribution] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return float(self._take(name, FloatDistribution(low, high, log=log)))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return int(self._take(name, IntDistribution(low, high, log=log)))

    def suggest_categorical(self, name: str, choices: Sequence[Scalar]) -> Scalar:
        taken: Scalar = self._take(name, CategoricalDistribution(choices))
        return taken

    def _take(self, name: str, distribution: BaseDistribution) -> Any:
        value = self._values.get(name, _Misfit)
        try:
            inside = distribution._contains(distribution.to_internal_repr(value))
        except (ValueError, TypeError):
            inside = False
        if not inside or (isinstance(value, bool) and not isinstance(distribution, CategoricalDistribution)):
            raise _Misfit
        self.params[name], self.distributions[name] = value, distribution
        return value

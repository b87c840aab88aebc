"""Which trials of a sweep are better: their order, the best, the Pareto front. Rows are those of the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from orchestrator.sweep.plan import OBJECTIVES, Plan

Document = dict[str, Any]


def figure(row: Mapping[str, Any], name: str) -> float | None:
    """Figure `name` of a trial: as told to the ledger, else the last that its run measured."""
    value = row["objectives"].get(name)
    return row["figures"].get(name) if value is None else value


def ordered(rows: Sequence[Document], objective: str) -> list[Document]:
    """Completed trials by the objective, the best first, then those that were stopped, then the rest."""
    states = {"COMPLETE": 0, "PRUNED": 1}

    def place(row: Document) -> tuple[int, float, int]:
        value = figure(row, objective) if row["state"] == "COMPLETE" else None
        return states.get(row["state"], 2), _sign(objective) * (value or 0.0), row["number"]

    return sorted(rows, key=place)


def best_of(rows: Sequence[Document], plan: Plan) -> Document | None:
    """The completed trial that is best by the plan's scalarisation; of several seeds a configuration's mean counts."""
    groups: dict[int, list[tuple[float, Document]]] = {}
    for row in rows:
        if row["state"] == "COMPLETE":
            score = plan.scalarised([row["objectives"][name] for name in plan.objectives])
            first = row["number"] if row["replicate_of"] is None else row["replicate_of"]
            groups.setdefault(first, []).append((score, row))
    # A configuration that did not complete with every seed counts for less than one that did.
    most = max(map(len, groups.values()), default=0)
    whole = [group for group in groups.values() if len(group) == most]
    group = min(whole, key=lambda group: fmean(score for score, _ in group), default=[])
    return min(group, key=lambda scored: scored[0], default=(0.0, None))[1]


def front_of(rows: Sequence[Document], names: Sequence[str]) -> list[int]:
    """Numbers of the completed trials on the Pareto front of the figures `names`, best in the first of them first."""
    import optuna  # here, for it takes a while, and showing a sweep needs none of it

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it announces each study on stderr
    study = optuna.create_study(directions=[OBJECTIVES[name] for name in names])
    for row in rows:
        values: list[Any] = [figure(row, name) for name in names]
        if row["state"] == "COMPLETE" and None not in values:
            study.add_trial(optuna.trial.create_trial(values=values, user_attrs={"number": row["number"]}))
    best = sorted(study.best_trials, key=lambda trial: _sign(names[0]) * trial.values[0])
    return [trial.user_attrs["number"] for trial in best]


def _sign(objective: str) -> float:
    return 1.0 if OBJECTIVES[objective] == "minimize" else -1.0

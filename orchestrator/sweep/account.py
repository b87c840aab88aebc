"""What the trials of a study came to: rows, configurations, costs. Reads trials and writes nothing."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState, create_trial

from orchestrator import evidence

#: Reasons of trials that do not count: cut off and begun again as another, and drawn although tried before.
INTERRUPTED, REPEATED = "interrupted", "repeated"

#: Trials that fail before a sweep without a number of trials gives up: crashes at once would fill its hours.
HOPELESS = 10

#: Attributes that say how a trial ended, which the one begun again in its place does not inherit.
ENDS = ("reason", "why", "verdict", "evidence", "remedy", "verdict_document", "rung", "retry_of")

#: Where a trial keeps the rung that it pauses at, which is None once it goes on, and how many rungs it was let past.
PAUSED, PASSED = "paused", "passed"

#: Where the study keeps by how much a trial breaks the constraint that samplers are told of.
CONSTRAINT = "constraints:health"

#: How the system attributes begin that a trial keeps when it is begun again: what a population remembers of it.
MEMORY = "member:"

_TOLD = ("run_id", "reason", "rung", "seed", "replicate_of", "retry_of", "last")


def ran(trial: FrozenTrial) -> bool:
    """Whether the trial is one of this sweep's: neither taken from an earlier one nor a repeated draw."""
    return "prior" not in trial.user_attrs and trial.user_attrs.get("reason") != REPEATED


def counts(trial: FrozenTrial) -> bool:
    """Whether the trial counts among those asked for: what was cut off does not, its retry does."""
    return ran(trial) and trial.user_attrs.get("reason") != INTERRUPTED


def paused(trial: FrozenTrial) -> int | None:
    """The rung at which the trial waits to be taken up again. None: it does not."""
    return trial.user_attrs.get(PAUSED) if trial.state == TrialState.RUNNING else None


def completed(trials: Iterable[FrozenTrial]) -> bool:
    """Whether one of this sweep's has completed."""
    return any(trial.state == TrialState.COMPLETE and ran(trial) for trial in trials)


def spent(trial: FrozenTrial) -> float:
    """Device-seconds."""
    return float(trial.user_attrs.get("spent", {}).get("device_seconds", 0.0))


def hopeless(trials: Iterable[FrozenTrial]) -> bool:
    """Whether every trial failed, and there were enough of them that one more would too."""
    ended = [trial.state for trial in trials if counts(trial) and trial.state.is_finished()]
    return len(ended) >= HOPELESS and all(state == TrialState.FAIL for state in ended)


def lacking_seed(trials: Iterable[FrozenTrial], seeds: int) -> tuple[FrozenTrial, int] | None:
    """The first completed configuration with fewer than `seeds` trials, and which replicate (from 1) it lacks."""
    completed: list[FrozenTrial] = []
    replicates: dict[int, set[int]] = defaultdict(set)
    for trial in filter(counts, trials):
        if "replicate_of" in trial.user_attrs:
            replicates[trial.user_attrs["replicate_of"]].add(trial.user_attrs["replicate"])
        elif trial.state == TrialState.COMPLETE:
            completed.append(trial)
    for trial in completed:
        for replicate in range(1, seeds):
            if replicate not in replicates[trial.number]:
                return trial, replicate
    return None


def tried(trials: Iterable[FrozenTrial], drawn: FrozenTrial) -> str | None:
    """The trial of an earlier sweep that had the fields of `drawn`, unless that was asked for on purpose."""
    if drawn.user_attrs.keys() & {"retry_of", "replicate_of"}:
        return None
    priors = [trial for trial in trials if "prior" in trial.user_attrs]
    return next(
        (t.user_attrs["prior"] for t in priors if t.user_attrs["params"] == drawn.user_attrs["params"]), None
    )


def finite(values: Any, num_objectives: int) -> list[float] | None:
    """`values`, a number or a sequence, as that many finite floats; else None."""
    told = list(values) if isinstance(values, Sequence) else [values]
    if len(told) != num_objectives:
        return None
    if not all(isinstance(value, int | float | np.number) and math.isfinite(value) for value in told):
        return None
    return [float(value) for value in told]


def sick(verdict: Mapping[str, Any]) -> bool:
    """Whether a verdict's document says that something is wrong."""
    return verdict.get("kind", "unknown") not in ("healthy", "unknown")


def violation(verdict: Mapping[str, Any], step: int, num_objectives: int) -> float | None:
    """By how much a trial stopped at `step` breaks the constraint that samplers are told of; None: it breaks none.

    TPE ranks a pruned trial below every complete one and, among pruned ones, by how far it came; what breaks a
    constraint, as a trial that is not healthy does, ranks below all of those, by its violation. With several
    objectives every pruned trial has to break one: TPE raises where it compares them otherwise
    (optuna/samplers/_tpe/sampler.py, `_split_trials`, `_get_pruned_trial_score`).
    """
    if sick(verdict):
        return 1.0
    return 1.0 / (2 + step) if num_objectives > 1 else None


def noted(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """A verdict as attributes: kind, evidence and remedy as text for people, and the whole document."""
    if not verdict.get("kind"):
        return {}
    told = {"verdict": verdict["kind"], "evidence": evidence.line(verdict), "remedy": verdict.get("remedy")}
    return {name: text for name, text in told.items() if text} | {"verdict_document": dict(verdict)}


def retry(trial: FrozenTrial, **changes: Any) -> FrozenTrial | None:
    """What is to be asked in place of `trial`, which was cut off: all that it was told so far, and `changes`. None
    where it drew nothing."""
    params = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
    if not params:
        return None
    memory = {name: value for name, value in trial.system_attrs.items() if name.startswith(MEMORY)}
    attributes = {name: v for name, v in trial.user_attrs.items() if name not in ENDS}
    if "spent" in attributes:  # paid by the trial that was cut off
        attributes["spent"] = {**attributes["spent"], "device_seconds": 0.0}
    return create_trial(
        state=TrialState.WAITING,
        system_attrs={"fixed_params": params, **memory},
        user_attrs={**attributes, "retry_of": trial.number, **changes},
        intermediate_values=trial.intermediate_values,
    )


def row(trial: FrozenTrial) -> dict[str, Any]:
    """One trial as JSON. What is not known is None.

    `state` is Optuna's name for it, `paused` the rung at which one that is RUNNING waits, `params` fields as drawn,
    `lineage` the changes that a population made since; `evidence` the verdict's list, `duration` seconds between being
    asked and told, `counts` as `counts` says.
    """
    attributes, used = trial.user_attrs, trial.user_attrs.get("spent", {})
    document = attributes.get("verdict_document", {})
    params = attributes.get("params") or trial.params or trial.system_attrs.get("fixed_params", {})
    signs = [entry["step"] for entry in document.get("evidence") or () if "step" in entry]
    return {
        "number": trial.number,
        "state": trial.state.name,
        "params": dict(params),
        "values": trial.values,
        **{name: attributes.get(name) for name in _TOLD},
        "verdict": document.get("kind"),
        "evidence": document.get("evidence"),
        "remedy": document.get("remedy"),
        "step": max(signs, default=used.get("step")),
        "progress": used.get("progress"),
        "paused": paused(trial),
        "tries": attributes.get("tries", 1),
        "lineage": attributes.get("lineage", []),
        "rungs": dict(sorted(trial.intermediate_values.items())),
        "device_seconds": spent(trial),
        "duration": trial.duration.total_seconds() if trial.duration else None,
        "counts": counts(trial),
    }


def configurations(trials: Iterable[FrozenTrial]) -> list[dict[str, Any]]:
    """One row a configuration that counts, in order of its first trial, its replicates with it.

    `numbers` are its trials; `values` and `spread` the mean and standard deviation (None of one) of each objective over
    the `complete` ones; `ends` counts how its trials ended.
    """
    groups: dict[int, list[FrozenTrial]] = defaultdict(list)
    for trial in trials:
        if counts(trial) and trial.state.is_finished():
            groups[trial.user_attrs.get("replicate_of", trial.number)].append(trial)
    return [_configuration(group) for _, group in sorted(groups.items())]


def _configuration(group: list[FrozenTrial]) -> dict[str, Any]:
    values = [trial.values for trial in group if trial.state == TrialState.COMPLETE]
    columns = list(zip(*values, strict=True))
    ends: dict[str, int] = defaultdict(int)
    for trial in group:
        ends[end(trial)] += 1
    return {
        "params": row(group[0])["params"],
        "numbers": [trial.number for trial in group],
        "complete": len(values),
        "values": [fmean(column) for column in columns] or None,
        "spread": [stdev(column) for column in columns] if len(values) > 1 else None,
        "ends": dict(ends),
    }


def end(trial: FrozenTrial) -> str:
    """How a trial ended, in one word or two: "complete", a verdict's kind, why it was stopped, "failed", …"""
    attributes, state = trial.user_attrs, trial.state
    reason = attributes.get("reason", "")
    if state == TrialState.FAIL:
        return reason if reason in (INTERRUPTED, REPEATED) else "failed"
    if state != TrialState.PRUNED:
        return state.name.lower()
    document = attributes.get("verdict_document", {})
    return str(document["kind"] if sick(document) else reason.partition(":")[0] or "stopped")


def costs(trials: Iterable[FrozenTrial]) -> dict[str, Any]:
    """Device-seconds: `total`, `by_end` (see `end`), `trials` by end, and `saved` by stopping, by end.

    A trial stopped at progress p after t device-seconds would have taken t/p: it saved t (1/p - 1).
    """
    by_end: dict[str, float] = defaultdict(float)
    numbers: dict[str, int] = defaultdict(int)
    saved: dict[str, float] = defaultdict(float)
    for trial in filter(ran, trials):
        how, cost = end(trial), spent(trial)
        by_end[how] += cost
        numbers[how] += 1
        progress = trial.user_attrs.get("spent", {}).get("progress") or 0.0
        if trial.state == TrialState.PRUNED and 0 < progress < 1:
            saved[how] += cost * (1 / progress - 1)
    told = {"total": sum(by_end.values()), "by_end": dict(by_end), "trials": dict(numbers)}
    return told | {"saved": dict(saved), "saved_total": sum(saved.values())}

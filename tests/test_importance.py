"""Importance of parameters: planted effects are found, and too little to go by is said."""

from __future__ import annotations

import random
from typing import Any

import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from orchestrator.sweep.importance import importance

DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "ratio": FloatDistribution(0.0, 1.0),
    "loss": CategoricalDistribution(["a", "b"]),
    "weight": FloatDistribution(0.0, 1.0),
    "noise": FloatDistribution(0.0, 1.0),
}


def trials(num: int, stopped_below: float = 0.0) -> list[FrozenTrial]:
    """FID grows with `ratio`, or for loss b alone with `weight`; coverage is `noise`. Low ratios may be stopped."""
    rng = random.Random(0)
    made = []
    for _ in range(num):
        params: dict[str, Any] = {"ratio": rng.random(), "loss": rng.choice("ab"), "noise": rng.random()}
        params |= {"weight": rng.random()} if params["loss"] == "b" else {}
        stopped = params["ratio"] < stopped_below
        trial = create_trial(
            state=TrialState.PRUNED if stopped else TrialState.COMPLETE,
            params=params,
            distributions={name: DISTRIBUTIONS[name] for name in params},
            values=None if stopped else [10 * params["ratio"], params["noise"]],
        )
        made.append(trial)
    return numbered(made)


def numbered(made: list[FrozenTrial]) -> list[FrozenTrial]:
    for number, trial in enumerate(made):
        trial.number = number
    return made


def test_each_objective_has_its_own_most_important_parameter() -> None:
    found = importance(trials(60), ("fid", "coverage"))
    assert next(iter(found["fid"].shares)) == "ratio"
    assert next(iter(found["coverage"].shares)) == "noise"
    assert sum(found["fid"].shares.values()) == pytest.approx(1.0)
    assert found["fid"].reason == ""


def test_conditional_parameters_have_a_share() -> None:
    assert "weight" in importance(trials(60), ("fid", "coverage"))["fid"].shares


def test_what_gets_trials_stopped_is_important_though_they_have_no_value() -> None:
    """Among those that completed, `ratio` says nothing of coverage."""
    names = ("fid", "coverage")
    stopped = trials(100, stopped_below=0.8)
    survivors = [trial for trial in stopped if trial.state == TrialState.COMPLETE]
    without, found = importance(survivors, names)["coverage"], importance(stopped, names)["coverage"]
    assert found.shares["ratio"] > 1.5 * without.shares["ratio"]


def test_of_trials_stopped_at_rungs_the_later_ones_count_as_better() -> None:
    """None completed; how far one came is up to `ratio` alone, and its last value to `noise`."""
    made = trials(60, stopped_below=2.0)
    for trial in made:
        trial.intermediate_values = {10 * (1 + int(10 * trial.params["ratio"])): trial.params["noise"]}
    shares = importance(made, ("fid",))["fid"].shares
    assert shares["ratio"] > 2 * shares["noise"]


@pytest.mark.parametrize(("num", "stopped_below"), [(0, 0.0), (1, 0.0), (9, 0.0), (30, 0.95)])
def test_too_few_trials_are_said_and_not_guessed_from(num: int, stopped_below: float) -> None:
    found = importance(trials(num, stopped_below), ("fid", "coverage"))["fid"]
    assert found.shares == {}
    assert "too few" in found.reason


def test_equal_results_give_none() -> None:
    same = trials(12)
    for trial in same:
        trial.values = [1.0, 1.0]
    assert importance(same, ("fid", "coverage"))["fid"].reason == "all trials came to the same"


def test_trials_without_parameters_give_none() -> None:
    bare = numbered([create_trial(value=float(i)) for i in range(12)])
    assert importance(bare, ("fid",))["fid"].reason == "the trials differ in no parameter"


def test_a_parameter_with_one_value_is_no_trouble() -> None:
    one = {"ratio": CategoricalDistribution([1]), "noise": FloatDistribution(0.0, 1.0)}
    same = [
        create_trial(params={"ratio": 1, "noise": i / 12}, distributions=one, value=float(i))
        for i in range(12)
    ]
    assert importance(numbered(same), ("fid",))["fid"].shares["noise"] == pytest.approx(1.0)

"""Warm start: what an earlier sweep learned is known to the sampler, and none of it is run or counted again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import NotFound
from orchestrator.recipes import load
from orchestrator.store.documents import encode
from orchestrator.store.objects import Objects, open_objects
from orchestrator.sweep.conductor import Conductor
from orchestrator.sweep.folder import SweepResult, sweep_key
from orchestrator.sweep.ledger import Ledger, open_ledger
from orchestrator.sweep.plan import Plan
from orchestrator.sweep.prior import prior_trial, remember
from orchestrator.sweep.space import Choice, Int, LogUniform, Space, Uniform
from tests.support.simulation import COLLAPSE, HEALTHY, World, opened, quick_journal

__all__ = ["quick_journal"]

pytestmark = pytest.mark.usefixtures("quick_journal")

SPACE = Space(
    {
        "gan.lr_ratio": LogUniform(low=0.1, high=10),
        "gan.loss": Choice(options=("hinge", "relativistic")),
        "gan.r1": LogUniform(
            low=0.01, high=1, sets=("gan.r2",), when={"gan.loss": ("relativistic",)}, otherwise=0.0
        ),
        "gan.steps": Int(low=1, high=4),
    }
)
FID = Plan()
HINGE = {"gan.lr_ratio": 2.0, "gan.loss": "hinge", "gan.r1": 0.0, "gan.r2": 0.0, "gan.steps": 2}
RELATIVISTIC = HINGE | {"gan.loss": "relativistic", "gan.r1": 0.1, "gan.r2": 0.1}


def row(params: dict[str, Any], state: str = "COMPLETE", **changes: Any) -> dict[str, Any]:
    """A row of a sweep's result."""
    told = {"number": 0, "state": state, "params": params, "figures": {"fid": 7.0, "coverage": 0.5}}
    return {**told, "verdict": HEALTHY, "step": 90, "reason": None, **changes}


def stored(store: Path, sweep_id: str, rows: list[dict[str, Any]]) -> Objects:
    """A store with a finished sweep of vanilla.ring."""
    objects, experiment = open_objects(str(store)), load("vanilla.ring").document()
    begun = {"id": sweep_id, "created": time.time(), "experiment": experiment, "on": "local"}
    begun |= {"plan": FID.model_dump(mode="json")}
    numbered = [{**told, "number": number} for number, told in enumerate(rows)]
    objects.put(sweep_key(sweep_id, "sweep.json"), encode(begun))
    objects.put(sweep_key(sweep_id, "result.json"), encode(vars(SweepResult(sweep_id, numbered))))
    return objects


def ledger(path: Path, plan: Plan = FID) -> Ledger:
    return open_ledger(path / "ledger.journal", "s", plan.directions, plan.sampler, 1)


@pytest.mark.parametrize(
    ("params", "drawn"),
    [
        (HINGE, {"gan.lr_ratio", "gan.loss", "gan.steps"}),
        (RELATIVISTIC, {"gan.lr_ratio", "gan.loss", "gan.steps", "gan.r1"}),
    ],
)
def test_a_completed_trial_is_told_as_if_the_space_had_drawn_it(
    tmp_path: Path, params: dict[str, Any], drawn: set[str]
) -> None:
    trial = prior_trial(row(params), "old#3", SPACE, FID)
    assert trial is not None
    assert (trial.state.name, trial.values) == ("COMPLETE", [7.0])
    assert trial.params == {name: params[name] for name in drawn}
    assert (trial.user_attrs["prior"], trial.user_attrs["params"]) == ("old#3", params)
    with ledger(tmp_path) as study:
        number, _ = study.ask(SPACE)
        asked = study.frozen(number).distributions
        assert {n: trial.distributions[n] for n in asked.keys() & drawn} == {
            n: asked[n] for n in asked.keys() & drawn
        }


@pytest.mark.parametrize(
    "misfit",
    [
        row(HINGE | {"gan.lr_ratio": 11.0}),
        row(HINGE | {"gan.loss": "wasserstein"}),
        row(HINGE | {"gan.steps": 5}),
        row(HINGE | {"gan.steps": True}),
        row(HINGE | {"gan.r2": 0.5}),
        row(RELATIVISTIC | {"gan.r2": 0.5}),
        row(HINGE | {"gan.width": 64}),
        row({name: value for name, value in HINGE.items() if name != "gan.steps"}),
        row(HINGE, figures={"coverage": 0.5}),
        row(HINGE, figures={"fid": None}),
        row(HINGE, "PRUNED", figures={}),
    ],
    ids=lambda misfit: str(misfit["params"] | misfit["figures"]),
)
def test_what_does_not_fit_or_says_nothing_is_left_out(misfit: dict[str, Any]) -> None:
    assert prior_trial(misfit, "old#0", SPACE, FID) is None


def test_a_field_that_only_one_of_the_sweeps_searched_fits_where_its_fixed_value_does() -> None:
    wide = row(HINGE | {"gan.width": 64})
    assert prior_trial(wide, "o#0", SPACE, FID, experiment={"gan": {"width": 64}}) is not None
    assert prior_trial(wide, "o#0", SPACE, FID, experiment={"gan": {"width": 32}}) is None
    fixed = row({name: value for name, value in HINGE.items() if name != "gan.steps"})
    assert prior_trial(fixed, "o#0", SPACE, FID, begun={"gan.steps": 4}) is not None
    assert prior_trial(fixed, "o#0", SPACE, FID, begun={"gan.steps": 9}) is None
    searched = {name: RELATIVISTIC[name] for name in ("gan.lr_ratio", "gan.loss", "gan.steps")}
    for r2, fits in ((0.1, True), (0.5, False)):  # here one parameter sets both
        told = prior_trial(row(searched), "o#0", SPACE, FID, begun={"gan.r1": 0.1, "gan.r2": r2})
        assert (told is not None) == fits


@pytest.mark.parametrize("objectives", [("fid",), ("fid", "coverage")])
def test_a_collapse_is_remembered_as_one_and_an_early_stop_by_how_far_it_came(
    objectives: tuple[str, ...],
) -> None:
    plan = Plan(objectives=objectives)
    collapsed = prior_trial(row(HINGE, "PRUNED", figures={}, verdict=COLLAPSE), "o#0", SPACE, plan)
    stopped = prior_trial(row(HINGE, "PRUNED", step=10), "o#1", SPACE, plan)
    assert collapsed is not None
    assert stopped is not None
    assert (collapsed.state.name, collapsed.user_attrs["verdict"]) == ("PRUNED", "mode collapse")
    assert stopped.intermediate_values == {10: plan.kept([7.0, 0.5][: len(objectives)])}
    assert sum(collapsed.constraints.values()) > sum(stopped.constraints.values())


@pytest.mark.parametrize("objectives", [("fid",), ("fid", "coverage")])
@pytest.mark.parametrize("seed", range(3))
def test_a_warm_start_searches_near_what_was_good_from_its_first_trial_on(
    tmp_path: Path, objectives: tuple[str, ...], seed: int
) -> None:
    space, plan = Space({"x": Uniform(low=0, high=1)}), Plan(objectives=objectives)
    with open_ledger(tmp_path / "l", "s", plan.directions, "tpe", seed) as study:
        earlier = []
        for i in range(30):
            distance = abs(i / 30 - 0.7)
            verdict = COLLAPSE if i < 10 else HEALTHY
            figures = {"fid": 1 + distance, "coverage": 1 - distance} if i >= 10 else {}
            earlier.append(
                row({"x": i / 30}, "PRUNED" if i < 10 else "COMPLETE", figures=figures, verdict=verdict)
            )
        trials = [prior_trial(told, f"o#{i}", space, plan) for i, told in enumerate(earlier)]
        assert study.add([trial for trial in trials if trial]) == 30
        drawn = []
        for _ in range(6):
            number, params = study.ask(space)
            drawn.append(params["x"])
            study.complete(
                number, [1 + abs(params["x"] - 0.7), 1 - abs(params["x"] - 0.7)][: len(objectives)]
            )
    assert sum(abs(x - 0.7) < 0.25 for x in drawn) >= 5
    assert min(drawn) > 1 / 3


def test_priors_count_nowhere_and_are_added_once(tmp_path: Path) -> None:
    rows = [row(HINGE), row(RELATIVISTIC), row(HINGE | {"gan.steps": 9}), row(HINGE, "FAIL")]
    objects = stored(tmp_path / "store", "20260101-000000-aaaaaa", rows)
    plan = Plan(trials=2, warm_start=("20260101-000000-aaaaaa",))
    for _ in range(2):
        with ledger(tmp_path) as study:
            assert remember(study, objects, plan, SPACE) == {"20260101-000000-aaaaaa": (2, 1)}
            assert len(study.trials()) == 2
            assert study.table() == study.configurations() == []
            assert study.remaining(2) == 2
            assert study.costs()["total"] == 0


def test_no_configuration_of_the_earlier_sweep_is_run_again(tmp_path: Path) -> None:
    space, plan = (
        Space({"gan.lr_g": Choice(options=(0.01, 0.02, 0.03, 0.04, 0.05))}),
        Plan(trials=6, sampler="random", stop="none"),
    )
    world = World(curve=lambda params, step: ({"fid": params["gan.lr_g"]}, "running"))
    with opened(tmp_path, plan) as study:
        done = [prior_trial(row({"gan.lr_g": lr}), f"o#{lr}", space, plan) for lr in (0.01, 0.02)]
        study.add([trial for trial in done if trial])
        world.drive(Conductor(study, space, plan, clock=world.clock))
        rows, trials = study.table(), study.trials()
    assert [r["state"] for r in rows] == ["COMPLETE"] * 6
    assert {r["params"]["gan.lr_g"] for r in rows} <= {0.03, 0.04, 0.05}
    repeated = [t for t in trials if t.user_attrs.get("reason") == "repeated"]
    assert repeated
    assert {t.user_attrs["repeats"] for t in repeated} <= {"o#0.01", "o#0.02"}


def test_where_everything_has_been_tried_a_sweep_still_ends(tmp_path: Path) -> None:
    space, plan = Space({"gan.lr_g": Choice(options=(0.01,))}), Plan(trials=2, stop="none")
    world = World(curve=lambda params, step: ({"fid": 1.0}, "running"))
    with opened(tmp_path, plan) as study:
        prior = prior_trial(row({"gan.lr_g": 0.01}), "o#0", space, plan)
        assert prior is not None
        study.add([prior])
        world.drive(Conductor(study, space, plan, clock=world.clock))
        assert [r["state"] for r in study.table()] == ["COMPLETE"] * 2


def test_a_trial_that_had_to_repeat_an_earlier_one_is_taken_up_again_after_a_kill(tmp_path: Path) -> None:
    space, plan = Space({"gan.lr_g": Choice(options=(0.01,))}), Plan(trials=1)
    with opened(tmp_path, plan) as study:
        prior = prior_trial(row({"gan.lr_g": 0.01}), "o#0", space, plan)
        assert prior is not None
        study.add([prior])
        given = Conductor(study, space, plan).next()
        assert given is not None
        study.note(given.number, run_id="begun")
    with opened(tmp_path, plan) as study:
        again = Conductor(study, space, plan).next()
        assert again is not None
        assert again.run_id == "begun"


def test_a_sweep_that_is_not_there_or_not_finished_is_named(tmp_path: Path) -> None:
    objects = stored(tmp_path / "store", "20260101-000000-aaaaaa", [])
    objects.delete(sweep_key("20260101-000000-aaaaaa", "result.json"))
    with ledger(tmp_path) as study:
        for sweep_id, told in (
            ("20260101-000000-bbbbbb", "no sweep"),
            ("20260101-000000-aaaaaa", "has no result"),
        ):
            with pytest.raises(NotFound, match=told):
                remember(study, objects, Plan(warm_start=(sweep_id,)), SPACE)

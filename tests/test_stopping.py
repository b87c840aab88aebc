"""Trials that do badly at a rung wait there, or end, with one objective and with two, and nobody else does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.sweep.conductor import Conductor
from orchestrator.sweep.messages import Beat
from orchestrator.sweep.plan import Plan
from orchestrator.sweep.stopping import Halving
from tests.support.simulation import COLLAPSE, LR_SPACE, World, bowl, opened, quick_journal, sweep

__all__ = ["quick_journal"]

pytestmark = pytest.mark.usefixtures("quick_journal")


def hinge(params: Mapping[str, Any], step: int) -> tuple[dict[str, float], str]:
    """`bowl` without its collapse."""
    return bowl({**params, "gan.loss": "hinge"}, step)


def mirrored(params: Mapping[str, Any], step: int) -> tuple[dict[str, float], str]:
    """The same order of trials by a coverage alone."""
    figures, state = hinge(params, step)
    return {"coverage": figures["coverage"]}, state


def orders(path: Path, plan: Plan, told: list[tuple[int, dict[str, float]]]) -> list[str]:
    """One trial after another is heard at a step with figures."""
    with opened(path, plan) as ledger:
        conductor = Conductor(ledger, LR_SPACE, plan)
        said: list[str] = []
        for step, figures in told:
            given = conductor.next()
            assert given is not None
            said.append(conductor.hear(Beat(given.number, step=step, figures=figures)).do)
        return said


@pytest.mark.parametrize("objectives", [("fid",), ("fid", "coverage"), ("coverage",)])
@pytest.mark.parametrize("seed", range(3))
def test_asha_trains_less_than_half_and_ends_with_as_good_a_trial(
    tmp_path: Path, objectives: tuple[str, ...], seed: int
) -> None:
    steps, best = {}, {}
    for stop in ("none", "asha"):
        world = World(curve=mirrored if objectives == ("coverage",) else hinge)
        plan = Plan.model_validate(
            {"trials": 20, "stop": stop, "sampler": "random", "objectives": objectives}
        )
        with opened(tmp_path / stop, plan, seed) as ledger:
            world.drive(Conductor(ledger, LR_SPACE, plan, clock=world.clock))
            rows = ledger.table()
        steps[stop] = sum(run.step for run in world.runs.values())
        best[stop] = min(plan.scalarised(row["values"]) for row in rows if row["state"] == "COMPLETE")
    assert steps["asha"] < 0.5 * steps["none"]
    assert best["asha"] <= best["none"] + 0.05


def test_a_stopped_trial_says_at_which_rung_and_against_how_many(tmp_path: Path) -> None:
    rows = sweep(tmp_path, Plan(trials=12, sampler="random"), World(curve=hinge))
    stopped = [row for row in rows if row["state"] == "PRUNED"]
    assert stopped
    for row in stopped:
        step = {0: 10, 1: 30}[row["rung"]]
        assert row["reason"].startswith("asha: not in the best 1/3 of ")
        assert row["reason"].endswith(f" at step {step}")
        assert max(row["rungs"]) == step
        assert row["values"] == [row["rungs"][step]]


def test_of_those_that_reached_a_rung_a_third_goes_on_and_one_at_least(tmp_path: Path) -> None:
    told = [(10, {"fid": fid}) for fid in (1.0, 5.0, 2.0, 0.5, 3.0, 0.6)]
    # The fourth is the best of four, the sixth the second best of six.
    assert orders(tmp_path, Plan(), told) == ["go on", "pause", "pause", "go on", "pause", "go on"]


def test_with_two_objectives_halving_fid_is_worth_doubling_coverage(tmp_path: Path) -> None:
    plan = Plan(objectives=("fid", "coverage"))
    told = [(10, {"fid": 8.0, "coverage": c}) for c in (0.1, 0.1)]
    assert orders(tmp_path / "a", plan, [*told, (10, {"fid": 4.0, "coverage": 0.1})])[-1] == "go on"
    assert orders(tmp_path / "b", plan, [*told, (10, {"fid": 8.0, "coverage": 0.2})])[-1] == "go on"
    assert orders(tmp_path / "c", plan, [*told, (10, {"fid": 2.0, "coverage": 0.01})])[-1] == "pause"


def test_between_rungs_nobody_is_stopped(tmp_path: Path) -> None:
    told = [(10, {"fid": 1.0})] * 3
    plan = Plan()
    with opened(tmp_path, plan) as ledger:
        conductor = Conductor(ledger, LR_SPACE, plan)
        for step, figures in told:
            given = conductor.next()
            assert given is not None
            conductor.hear(Beat(given.number, step=step, figures=figures))
        said = [conductor.hear(Beat(0, step=step, figures={"fid": 99.0})).do for step in (20, 29)]
        assert said == ["go on"] * 2
        conductor.hear(Beat(1, step=30, figures={"fid": 1.0}))
        assert conductor.hear(Beat(0, step=30, figures={"fid": 99.0})).do == "pause"


def test_a_collapse_before_the_first_evaluation_moves_no_rung(tmp_path: Path) -> None:
    plan = Plan(trials=20)
    with opened(tmp_path, plan) as ledger:
        conductor = Conductor(ledger, LR_SPACE, plan)
        for _ in range(5):
            conductor.next()
        for number in range(3):
            assert conductor.hear(Beat(number, step=10, figures={"fid": 3.0 - number})).do == "go on"
        conductor.hear(Beat(3, "collapsed", step=4, figures={"fid": 0.5}, verdict=COLLAPSE))
        for number in range(3):
            assert conductor.hear(Beat(number, step=20, figures={"fid": 1.0 + number})).do == "go on"
        assert conductor.hear(Beat(4, step=10, figures={"fid": 2.0})).do == "pause"
        assert ledger.table()[4]["paused"] == 0


def test_the_median_rule_stops_the_worse_half_once_enough_have_completed(tmp_path: Path) -> None:
    plan = Plan(stop="median", trials=20)
    with opened(tmp_path, plan) as ledger:
        conductor = Conductor(ledger, LR_SPACE, plan)

        def heard(fid: float) -> str:
            given = conductor.next()
            assert given is not None
            order = conductor.hear(Beat(given.number, step=10, figures={"fid": fid}))
            state = "pruned" if order.do == "stop" else "complete"
            conductor.hear(
                Beat(given.number, state, step=90, figures={"fid": fid / 2} if state == "complete" else {})
            )
            return order.do

        assert [heard(fid) for fid in (1.0, 2.0, 3.0, 4.0)] == ["go on"] * 4
        assert [heard(fid) for fid in (2.4, 2.6)] == ["go on", "stop"]
        assert ledger.table()[-1]["reason"] == "median: in the worse half at step 10"
        assert ledger.table()[-1]["rung"] == 0


def test_a_median_is_not_taken_of_replicates(tmp_path: Path) -> None:
    plan = Plan(stop="median", trials=20, seeds=4)
    with opened(tmp_path, plan) as ledger:
        conductor = Conductor(ledger, LR_SPACE, plan)
        for _ in range(4):  # one configuration, four seeds
            given = conductor.next()
            assert given is not None
            conductor.hear(Beat(given.number, step=10, figures={"fid": 1.0}))
            conductor.hear(Beat(given.number, "complete", step=90, figures={"fid": 0.5}))
        fresh = conductor.next()
        assert fresh is not None
        assert fresh.seed is None
        assert conductor.hear(Beat(fresh.number, step=10, figures={"fid": 9.0})).do == "go on"


def test_replicates_are_not_stopped_and_raise_no_bar(tmp_path: Path) -> None:
    plan = Plan(trials=20, seeds=2, sampler="random")
    with opened(tmp_path, plan) as ledger:
        conductor = Conductor(ledger, LR_SPACE, plan)
        for number in range(3):
            conductor.next()
            conductor.hear(Beat(number, step=10, figures={"fid": 1.0}))
        conductor.hear(Beat(0, "complete", step=90, figures={"fid": 0.5}))
        replicate = conductor.next()
        assert replicate is not None
        assert replicate.seed == 1
        assert conductor.hear(Beat(replicate.number, step=10, figures={"fid": 99.0})).do == "go on"
        conductor.hear(Beat(replicate.number, "complete", step=90, figures={"fid": 0.5}))
        fresh = conductor.next()
        assert fresh is not None
        assert conductor.hear(Beat(fresh.number, step=10, figures={"fid": 2.0})).do == "pause"
        why = Halving(ledger, plan).why(ledger.frozen(fresh.number))
    assert why == "asha: not in the best 1/3 of 4 at step 10"


def test_a_trial_begun_again_after_a_kill_does_not_compete_with_itself(tmp_path: Path) -> None:
    plan = Plan(trials=20, sampler="random")
    with opened(tmp_path, plan) as ledger:
        conductor = Conductor(ledger, LR_SPACE, plan)
        for number in range(3):
            conductor.next()
            conductor.hear(Beat(number, step=10, figures={"fid": 1.0}))
    with opened(tmp_path, plan) as ledger:
        conductor = Conductor(ledger, LR_SPACE, plan)
        for _ in range(3):
            conductor.next()
        fresh = conductor.next()
        assert fresh is not None
        assert conductor.hear(Beat(fresh.number, step=10, figures={"fid": 2.0})).do == "pause"
        why = Halving(ledger, plan).why(ledger.frozen(fresh.number))
    assert why == "asha: not in the best 1/3 of 4 at step 10"

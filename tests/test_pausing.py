"""Trials that pause at a rung go on once they may, before anything new begins, or end there with the sweep."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.sweep.conductor import Conductor
from orchestrator.sweep.messages import Assignment, Beat, Order
from orchestrator.sweep.plan import Plan
from tests.support.simulation import COLLAPSE, LR_SPACE, opened, quick_journal

__all__ = ["quick_journal"]

pytestmark = pytest.mark.usefixtures("quick_journal")


def begun(conductor: Conductor) -> Assignment:
    given = conductor.next()
    assert given is not None
    return given


def heard(conductor: Conductor, fid: float) -> Order:
    """A trial is begun and reaches the first rung, at step 10; where it is told to pause, it does."""
    number = begun(conductor).number
    order = conductor.hear(Beat(number, step=10, figures={"fid": fid}))
    if order.do == "pause":
        conductor.hear(Beat(number, "paused", step=10))
    return order


def test_nobody_goes_on_before_a_rung_has_had_its_share_of_a_full_run(tmp_path: Path) -> None:
    plan = Plan(trials=20, sampler="random")
    with opened(tmp_path, plan) as ledger:
        conductor = Conductor(ledger, LR_SPACE, plan)
        said = []
        for number, fid in enumerate((5.0, 1.0, 4.0, 3.0, 0.5, 6.0)):  # a tenth of a run each
            assert begun(conductor).number == number
            order = conductor.hear(Beat(number, step=10, progress=1 / 9, figures={"fid": fid}))
            said.append(order.do)
            if order.do == "pause":
                conductor.hear(Beat(number, "paused", step=10))
        assert said == [*["pause"] * 4, "go on", "pause"]  # five ninths of a run are due
        assert [begun(conductor).number for _ in range(2)] == [1, 6]  # the second of six, then a new one


def test_a_paused_trial_goes_on_once_it_is_among_the_best_and_before_a_new_one(tmp_path: Path) -> None:
    plan = Plan(trials=20, sampler="random")
    with opened(tmp_path, plan) as ledger:
        conductor = Conductor(ledger, LR_SPACE, plan)
        first = heard(conductor, 1.0)
        second = heard(conductor, 2.0)
        assert (first.do, second.do) == ("go on", "pause")
        for fid in (3.0, 4.0, 5.0):
            assert heard(conductor, fid).do == "pause"
        fresh = begun(conductor)
        assert fresh.number == 5
        conductor.hear(Beat(5, step=10, figures={"fid": 6.0}))  # the sixth: two of them go on
        again = begun(conductor)
        assert (again.number, ledger.table()[1]["paused"]) == (1, None)
        assert again.run_id == ledger.table()[1]["run_id"]
        assert conductor.hear(Beat(1, step=20, figures={"fid": 9.0})).do == "go on"
        assert begun(conductor).number == 6


def test_who_came_furthest_goes_on_first(tmp_path: Path) -> None:
    plan = Plan(trials=20, sampler="random", reduction=2)
    with opened(tmp_path, plan) as ledger:
        conductor = Conductor(ledger, LR_SPACE, plan)
        for number, fid in enumerate((1.0, 2.0, 3.0)):
            assert heard(conductor, fid).do == ("go on" if number == 0 else "pause")
        assert conductor.hear(Beat(0, step=20, figures={"fid": 5.0})).do == "go on"
        assert heard(conductor, 4.0).do == "pause"
        assert begun(conductor).number == 1
        assert conductor.hear(Beat(1, step=20, figures={"fid": 6.0})).do == "pause"
        conductor.hear(Beat(1, "paused", step=20))
        for fid in (0.1, 0.2):
            heard(conductor, fid)
        for number, value in ((4, 7.0), (5, 8.0)):
            conductor.hear(Beat(number, step=20, figures={"fid": value}))
        assert begun(conductor).number == 1  # at 20, where it is the second of four; trial 2 waits at 10


def test_a_paused_trial_says_so_and_is_stopped_at_its_rung_when_the_sweep_ends(tmp_path: Path) -> None:
    plan = Plan(trials=3, sampler="random")
    with opened(tmp_path, plan) as ledger:
        conductor = Conductor(ledger, LR_SPACE, plan)
        for fid in (1.0, 2.0, 3.0):
            heard(conductor, fid)
        assert [(row["state"], row["paused"]) for row in ledger.table()[1:]] == [("RUNNING", 0)] * 2
        assert conductor.running == (0,)
        assert conductor.next() is None
        assert ledger.paused == (1, 2)  # as long as one runs, that may change
        conductor.hear(Beat(0, "complete", step=90, figures={"fid": 0.5}))
        assert not conductor.over
        assert conductor.next() is None
        assert conductor.over
        ends = [(row["state"], row["rung"], row["reason"], row["paused"]) for row in ledger.table()[1:]]
    assert ends == [("PRUNED", 0, "asha: not in the best 1/3 of 3 at step 10", None)] * 2


@pytest.mark.parametrize("completes", [False, True])
def test_where_the_best_collapse_others_go_on_until_one_has_completed(
    tmp_path: Path, completes: bool
) -> None:
    plan = Plan(trials=9, sampler="random")
    with opened(tmp_path, plan) as ledger:
        conductor = Conductor(ledger, LR_SPACE, plan)
        for number in range(9):
            assert begun(conductor).number == number
        for number in range(9):
            conductor.hear(Beat(number, step=10, figures={"fid": float(number)}))
            conductor.hear(Beat(number, "paused" if number else "collapsed", step=10, verdict=COLLAPSE))
        taken_up = []
        while (given := conductor.next()) is not None:
            taken_up.append(given.number)
            healthy = completes and given.number == 4
            state = "complete" if healthy else "collapsed"
            conductor.hear(Beat(given.number, state, step=20, figures={"fid": 1.0}))
        assert conductor.over
    # Two more are among the best three of nine.
    assert taken_up == [1, 2, 3, 4] if completes else taken_up == list(range(1, 9))


@pytest.mark.parametrize("why", ["asked to stop", "budget"])
def test_a_sweep_that_is_stopped_ends_who_might_have_gone_on_with_the_reason(
    tmp_path: Path, why: str
) -> None:
    plan = Plan(device_hours=1.0, sampler="random")
    with opened(tmp_path, plan) as ledger:
        conductor = Conductor(ledger, LR_SPACE, plan)
        for _ in range(7):
            begun(conductor)
        for number, fid in enumerate(
            (1.0, 3.0, 4.0, 2.0, 5.0, 6.0)
        ):  # the best goes on; then the best two may
            conductor.hear(Beat(number, step=10, figures={"fid": fid}))
            if number:
                conductor.hear(Beat(number, "paused", step=10))
        if why == "budget":
            conductor.hear(Beat(0, "complete", step=90, seconds=3600.0, figures={"fid": 0.5}))
        else:
            conductor.stop(why)
            conductor.hear(Beat(0, "pruned", step=15))
        conductor.hear(Beat(6, "pruned", step=5))
        assert not conductor.over
        assert conductor.next() is None
        assert conductor.over
        rows = ledger.table()[1:6]
    beaten = "asha: not in the best 1/3 of 6 at step 10"
    assert [(row["state"], row["rung"]) for row in rows] == [("PRUNED", 0)] * 5
    assert [row["reason"] for row in rows] == [beaten, beaten, why, beaten, beaten]


def test_the_last_trials_are_kept_for_the_seeds_of_who_pauses(tmp_path: Path) -> None:
    plan = Plan(trials=8, seeds=3, sampler="random")
    with opened(tmp_path, plan) as ledger:
        conductor = Conductor(ledger, LR_SPACE, plan)
        for number in range(6):
            assert begun(conductor).number == number
        for number in range(6):
            conductor.hear(Beat(number, step=10, progress=1 / 27, figures={"fid": float(number)}))
            conductor.hear(Beat(number, "paused", step=10))
        assert begun(conductor).number == 0  # two are left, so nobody else comes
        assert begun(conductor).number == 1
        conductor.hear(Beat(1, "collapsed", step=20, verdict=COLLAPSE))
        assert conductor.next() is None  # while one may complete
        conductor.hear(Beat(0, "complete", step=270, figures={"fid": 0.1}))
        replicates = [begun(conductor) for _ in range(2)]
        assert [(given.number, given.seed) for given in replicates] == [(6, 1), (7, 2)]
        for given in replicates:
            conductor.hear(Beat(given.number, "complete", step=270, figures={"fid": 0.1}))
        assert conductor.next() is None
        assert conductor.over
        (whole,) = [group for group in ledger.configurations() if group["complete"]]
    assert whole["numbers"] == [0, 6, 7]


def test_what_a_trial_holds_while_it_pauses_is_nothing(tmp_path: Path) -> None:
    plan = Plan(trials=20, sampler="random")
    with opened(tmp_path, plan) as ledger:
        conductor = Conductor(ledger, LR_SPACE, plan)
        for _ in range(6):
            begun(conductor)
        for number, fid in enumerate((1.0, 2.0, 3.0, 4.0, 5.0, 6.0)):
            conductor.hear(Beat(number, step=10, seconds=4.0, devices=0.5, figures={"fid": fid}))
        conductor.hear(Beat(1, "paused", step=10, seconds=6.0, devices=0.5))
        assert begun(conductor).number == 1
        conductor.hear(
            Beat(1, step=20, seconds=7.0, devices=1.0, figures={"fid": 1.0})
        )  # more than when it paused
        assert ledger.table()[1]["device_seconds"] == 3.0 + 7.0
        conductor.hear(Beat(1, "complete", step=90, seconds=9.0, figures={"fid": 0.5}))
        assert ledger.costs()["by_end"]["complete"] == 3.0 + 9.0

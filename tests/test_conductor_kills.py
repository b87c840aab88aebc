"""Drivers and trials are killed, and the same sweep carries on: nothing is lost, doubled, or left RUNNING."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.sweep.conductor import Conductor
from orchestrator.sweep.ledger import open_ledger
from orchestrator.sweep.messages import Beat
from orchestrator.sweep.plan import Plan
from orchestrator.sweep.stopping import MEDIAN_TRIALS
from tests.support.simulation import (
    LR_SPACE,
    Clock,
    Curve,
    Killed,
    World,
    abandon,
    carried_on,
    counted,
    exact,
    killed_after,
    opened,
    quick_journal,
)

__all__ = ["quick_journal"]

pytestmark = pytest.mark.usefixtures("quick_journal")


def hurt(path: Path, plan: Plan, world: World, writes: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Drive a session that dies after so many writes. Returns whether it died."""
    with killed_after(writes, monkeypatch):
        ledger = None
        try:
            ledger = opened(path, plan)
            world.drive(Conductor(ledger, LR_SPACE, plan, clock=world.clock))
            ledger.close()
            return False
        except Killed:
            if ledger is not None:
                abandon(ledger)
    return True


@pytest.mark.parametrize(
    "changes",
    [{}, {"objectives": ("fid", "coverage")}, {"seeds": 2}, {"population": True}, {"stop": "median"}],
    ids=str,
)
def test_a_driver_killed_at_any_write_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    plan = Plan.model_validate({"trials": 4, "sampler": "random", **changes})
    for writes in range(1000):
        path, world = tmp_path / str(writes), World(every=30, slots=2)
        died = hurt(path, plan, world, writes, monkeypatch)
        exact(carried_on(path, plan, world), world, 4)
        if not died:
            break
    assert writes > 40


def test_a_driver_killed_while_it_takes_up_what_a_kill_left_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(trials=4, sampler="random")
    for writes in range(40):
        path, world = tmp_path / str(writes), World(every=30, slots=3)
        assert hurt(path, plan, world, 30, monkeypatch)
        assert hurt(path, plan, world, writes, monkeypatch)
        exact(carried_on(path, plan, world), world, 4)


@pytest.mark.parametrize("seed", range(3))
def test_a_driver_killed_ten_times_ends_with_the_exact_total(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    world, plan, rng = World(), Plan(trials=24), random.Random(seed)
    for _ in range(10):
        hurt(tmp_path, plan, world, rng.randrange(5, 60), monkeypatch)
    exact(carried_on(tmp_path, plan, world), world, 24)


def test_a_trial_cut_off_takes_up_its_run_with_its_parameters(tmp_path: Path) -> None:
    world, plan = World(slots=2), Plan(trials=2, stop="none")
    with opened(tmp_path, plan) as ledger:
        world.drive(Conductor(ledger, LR_SPACE, plan, clock=world.clock), beats=5)
        before = ledger.table()
    rows = carried_on(tmp_path, plan, world)
    assert [row["state"] for row in rows[:2]] == ["FAIL"] * 2
    assert [row["reason"] for row in rows[:2]] == ["interrupted"] * 2
    assert [row["retry_of"] for row in rows[2:]] == [0, 1]
    for old, new in zip(before, rows[2:], strict=True):
        assert (new["run_id"], new["params"]) == (old["run_id"], old["params"])
        assert old["rungs"].items() <= new["rungs"].items()
    assert len(world.runs) == 2


def test_a_trial_whose_process_dies_is_begun_three_times_and_then_failed_for_good(tmp_path: Path) -> None:
    plan = Plan(trials=1)
    with opened(tmp_path, plan) as ledger:
        conductor = Conductor(ledger, LR_SPACE, plan)
        params = []
        while (given := conductor.next()) is not None:
            params.append(given.params)
            conductor.hear(Beat(given.number, run_id="run-1", seconds=2.0))
            conductor.lost(given.number, "out of memory")
        rows = ledger.table()
    assert params == [params[0]] * 3
    assert conductor.over
    assert [row["tries"] for row in rows] == [1, 2, 3]
    assert [row["counts"] for row in rows] == [False, False, True]
    assert rows[2]["reason"] == "its process died 3 times, the last time: out of memory"
    assert [row["device_seconds"] for row in rows] == [2.0] * 3


def test_deaths_of_the_driver_are_no_tries_of_its_trials(tmp_path: Path) -> None:
    plan = Plan(trials=1)
    for _ in range(5):
        with opened(tmp_path, plan) as ledger:
            assert Conductor(ledger, LR_SPACE, plan).next() is not None
    with opened(tmp_path, plan) as ledger:
        conductor = Conductor(ledger, LR_SPACE, plan)
        given = conductor.next()
        assert given is not None
        conductor.hear(Beat(given.number, "complete", figures={"fid": 1.0}))
        assert [row["state"] for row in counted(ledger.table())] == ["COMPLETE"]
        assert conductor.over


def test_what_pauses_when_the_driver_dies_still_does_afterwards_and_goes_on_in_its_run(
    tmp_path: Path,
) -> None:
    plan = Plan(trials=20, sampler="random")
    ledger = opened(tmp_path, plan)
    conductor = Conductor(ledger, LR_SPACE, plan)
    for _ in range(4):
        conductor.next()
    for number, fid in enumerate((1.0, 3.0, 2.0, 4.0)):
        conductor.hear(Beat(number, step=10, seconds=5.0, figures={"fid": fid}))
    conductor.hear(Beat(1, "paused", step=10, seconds=6.0))  # the others had no time to say so
    runs = [row["run_id"] for row in ledger.table()]
    abandon(ledger)
    with opened(tmp_path, plan) as ledger:
        assert ledger.paused == (1, 2, 3)
        conductor = Conductor(ledger, LR_SPACE, plan)
        given = [conductor.next() for _ in range(3)]
        assert [g.number for g in given if g] == [4, 5, 6]  # the first again, and two new ones
        for number, fid in ((5, 5.0), (6, 6.0)):
            conductor.hear(Beat(number, step=10, figures={"fid": fid}))
        again = conductor.next()
        assert again is not None
        assert (again.number, again.run_id) == (2, runs[2])  # the second of six
        conductor.hear(Beat(2, step=20, seconds=2.0, figures={"fid": 1.0}))
        assert ledger.table()[2]["device_seconds"] == 7.0
        assert ledger.paused == (1, 3)


def test_a_trial_whose_process_dies_while_it_is_to_pause_pauses(tmp_path: Path) -> None:
    plan = Plan(trials=20, sampler="random")
    with opened(tmp_path, plan) as ledger:
        conductor = Conductor(ledger, LR_SPACE, plan)
        for number in range(2):
            conductor.next()
            conductor.hear(Beat(number, step=10, figures={"fid": 1.0 + number}))
        conductor.lost(1, "killed")
        assert (conductor.running, ledger.paused) == ((0,), (1,))
        assert ledger.table()[1]["tries"] == 1


@pytest.mark.parametrize("changes", [{}, {"objectives": ("fid", "coverage")}], ids=str)
def test_a_driver_killed_at_any_write_of_a_sweep_whose_trials_pause_and_go_on_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    plan = Plan.model_validate({"trials": 7, "sampler": "random", "reduction": 2, **changes})
    for writes in range(1000):
        path, world = tmp_path / str(writes), World(curve=worse_and_worse(), every=20, steps=80, slots=2)
        died = hurt(path, plan, world, writes, monkeypatch)
        rows = carried_on(path, plan, world)
        exact(rows, world, 7)
        assert all(row["paused"] is None for row in rows)
        if not died:
            break
    assert writes > 100
    assert any(run.pauses and run.pauses[0] < run.step for run in world.runs.values())


def worse_and_worse() -> Curve:
    """Each run is worse than those begun before, so that those that paused may go on."""
    begun: list[Mapping[str, Any]] = []

    def curve(params: Mapping[str, Any], step: int) -> tuple[dict[str, float], str]:
        if params not in begun:
            begun.append(params)
        fid = 1.0 + begun.index(params) + 1.0 / step
        return {"fid": fid, "coverage": 1.0 / fid}, "running"

    return curve


def test_a_stop_decided_before_a_kill_is_carried_out_after_it(tmp_path: Path) -> None:
    plan, clock = Plan(trials=9, sampler="random", stop="median"), Clock()
    ledger = opened(tmp_path, plan)
    conductor = Conductor(ledger, LR_SPACE, plan, clock=clock)
    for number in range(MEDIAN_TRIALS):
        conductor.next()
        conductor.hear(Beat(number, step=10, figures={"fid": 2.0}))
        conductor.hear(Beat(number, "complete", step=90, figures={"fid": 1.0}))
    orders = []
    for fid in (1.0, 3.0):
        given = conductor.next()
        assert given is not None
        orders.append(conductor.hear(Beat(given.number, step=10, figures={"fid": fid}, run_id=f"run-{fid}")))
    assert [order.do for order in orders] == ["go on", "stop"]
    abandon(ledger)
    with opened(tmp_path, plan) as ledger:
        conductor = Conductor(ledger, LR_SPACE, plan, clock=clock)
        retries = [conductor.next() for _ in range(2)]
        again = [conductor.hear(Beat(given.number, step=15)) for given in retries if given]
        assert [order.do for order in again] == ["go on", "stop"]
        assert again[1].reason == orders[1].reason
        conductor.hear(Beat(7, "pruned"))
        (row,) = [row for row in ledger.table() if row["number"] == 7]
    assert (row["state"], row["rung"], row["reason"]) == ("PRUNED", 0, orders[1].reason)


def test_a_whole_sweep_with_two_objectives_lives_in_a_database_too(tmp_path: Path) -> None:
    world, plan = World(every=45), Plan(trials=4, objectives=("fid", "coverage"), seeds=2)
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    for beats in (4, 10**6):
        ledger = open_ledger(url, "s", plan.directions, plan.sampler, 1, plan.objectives)
        world.drive(Conductor(ledger, LR_SPACE, plan, clock=world.clock), beats)
        rows = ledger.table()
        ledger._storage.remove_session()  # as a kill would
    exact(rows, world, 4)
    assert any(not row["counts"] for row in rows)

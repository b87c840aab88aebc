"""A sweep ends within a rung of its budget, over all its sessions, and says what everything cost."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.sweep.conductor import Conductor
from orchestrator.sweep.messages import Beat
from orchestrator.sweep.plan import Plan
from tests.support.simulation import (
    COLLAPSE,
    LR_SPACE,
    World,
    abandon,
    carried_on,
    opened,
    quick_journal,
    sweep,
)

__all__ = ["quick_journal"]

pytestmark = pytest.mark.usefixtures("quick_journal")


def test_a_sweep_of_hours_ends_within_a_rung_of_them(tmp_path: Path) -> None:
    world, plan = World(), Plan(hours=100 / 3600, stop="none")
    begun = world.clock()
    rows = sweep(tmp_path, plan, world)
    assert 100 <= world.clock() - begun <= 105
    assert all(row["state"] in ("COMPLETE", "PRUNED") for row in rows)
    assert [row["reason"] for row in rows].count("budget") == 3


def test_hours_are_those_of_all_sessions_even_of_one_that_was_killed(tmp_path: Path) -> None:
    world, plan = World(), Plan(hours=100 / 3600, stop="none")
    used = 0.0
    for _ in range(3):
        begun = world.clock()
        ledger = opened(tmp_path, plan)
        world.drive(Conductor(ledger, LR_SPACE, plan, clock=world.clock), beats=90)
        abandon(ledger)
        used += world.clock() - begun
        world.clock.now += 5000.0  # nobody was at work
    begun = world.clock()
    carried_on(tmp_path, plan, world)
    used += world.clock() - begun
    assert 100 <= used <= 100 + 3 * 10 + 5  # a kill forgets ten seconds at most


def test_a_sweep_of_device_hours_counts_what_each_trial_held(tmp_path: Path) -> None:
    world, plan = World(), Plan(device_hours=120 / 3600, stop="none")
    with opened(tmp_path, plan) as ledger:
        world.drive(Conductor(ledger, LR_SPACE, plan, clock=world.clock))
        costs, rows = ledger.costs(), ledger.table()
    assert 120 <= costs["total"] <= 130
    assert costs["total"] == pytest.approx(sum(row["device_seconds"] for row in rows))
    assert costs["trials"]["budget"] == 3


def test_device_hours_are_those_of_all_sessions(tmp_path: Path) -> None:
    world, plan = World(), Plan(device_hours=120 / 3600, stop="none")
    for beats in (60, 60, 10**6):
        with opened(tmp_path, plan) as ledger:
            world.drive(Conductor(ledger, LR_SPACE, plan, clock=world.clock), beats)
            used = ledger.costs()["total"]
    assert 120 <= used <= 130


def test_costs_say_what_each_end_took_and_what_stopping_saved(tmp_path: Path) -> None:
    plan = Plan(trials=3, stop="none")
    with opened(tmp_path, plan) as ledger:
        conductor = Conductor(ledger, LR_SPACE, plan)
        for _ in range(3):
            conductor.next()
        for number in range(3):
            conductor.hear(Beat(number, progress=0.25, seconds=50.0, devices=2.0))
        conductor.hear(Beat(0, "complete", 90, 1.0, 200.0, 2.0, {"fid": 1.0}))
        conductor.hear(Beat(1, "collapsed", 40, 1.0, 50.0, 2.0, verdict=COLLAPSE))
        conductor.hear(Beat(2, "failed", 10, 1.0, 60.0, 2.0, reason="crash"))
        costs = ledger.costs()
    assert costs["by_end"] == {"complete": 400.0, "mode collapse": 100.0, "failed": 120.0}
    assert costs["saved"] == {"mode collapse": pytest.approx(300.0)}
    assert (costs["total"], costs["saved_total"]) == (620.0, pytest.approx(300.0))


def test_a_packed_trial_costs_its_share_of_the_device_and_a_cut_off_one_what_it_used(tmp_path: Path) -> None:
    plan = Plan(trials=1)
    with opened(tmp_path, plan) as ledger:
        conductor = Conductor(ledger, LR_SPACE, plan)
        conductor.next()
        conductor.hear(Beat(0, seconds=40.0, devices=0.25, figures={"fid": 3.0}, step=10))
        conductor.hear(
            Beat(0, seconds=10.0, devices=0.5, figures={"fid": 2.0}, step=20)
        )  # its process began anew
        conductor.lost(0, "node lost")
        assert ledger.costs()["total"] == 15.0
        conductor.next()
        conductor.hear(Beat(1, "complete", seconds=20.0, devices=1.0, figures={"fid": 1.0}, step=90))
        costs = ledger.costs()
    assert costs["by_end"] == {"interrupted": 15.0, "complete": 20.0}


def test_a_sweep_of_hours_gives_up_where_every_trial_fails(tmp_path: Path) -> None:
    plan = Plan(hours=8)
    with opened(tmp_path, plan) as ledger:
        conductor = Conductor(ledger, LR_SPACE, plan)
        while (given := conductor.next()) is not None:
            conductor.hear(Beat(given.number, "failed", reason="no such data"))
        assert conductor.over
        assert [row["state"] for row in ledger.table()] == ["FAIL"] * 10

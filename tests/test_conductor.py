"""What a sweep decides, on made-up learning curves and without Ray: who runs, how each ends, who comes next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import ConfigError
from orchestrator.sweep.conductor import Conductor
from orchestrator.sweep.ledger import open_ledger
from orchestrator.sweep.messages import Beat
from orchestrator.sweep.plan import Plan
from orchestrator.sweep.space import Int, Space
from tests.support.simulation import (
    HEALTHY,
    LR_SPACE,
    World,
    bowl,
    exact,
    opened,
    quick_journal,
    sweep,
)

__all__ = ["quick_journal"]

pytestmark = pytest.mark.usefixtures("quick_journal")


def test_every_trial_of_a_sweep_ends_as_its_beats_say(tmp_path: Path) -> None:
    world, plan = World(), Plan(trials=12, sampler="random", stop="none")
    rows = sweep(tmp_path, plan, world)
    exact(rows, world, 12)
    for row in rows:
        collapses = row["params"]["gan.loss"] == "wgan"
        assert row["state"] == ("PRUNED" if collapses else "COMPLETE")
        assert row["verdict"] == ("mode collapse" if collapses else "healthy")
        assert row["values"] == [bowl(row["params"], 40 if collapses else 90)[0]["fid"]]
        assert row["rungs"][10] == bowl(row["params"], 10)[0]["fid"]


@pytest.mark.parametrize(
    ("beat", "state", "reason"),
    [
        (
            {"state": "complete", "figures": {"fid": float("nan")}},
            "FAIL",
            "the objective is None; 1 finite needed",
        ),
        ({"state": "complete", "figures": {"kid": 1.0}}, "FAIL", "the objective is None; 1 finite needed"),
        ({"state": "failed", "reason": "no space left on device"}, "FAIL", "no space left on device"),
        ({"state": "diverged", "figures": {"fid": float("inf")}}, "PRUNED", "diverged"),
        ({"state": "puzzled"}, "FAIL", "the trial ended as 'puzzled', which says nothing"),
    ],
)
def test_no_end_leaves_a_trial_running(tmp_path: Path, beat: dict[str, Any], state: str, reason: str) -> None:
    plan = Plan(trials=1)
    with opened(tmp_path, plan) as ledger:
        conductor = Conductor(ledger, LR_SPACE, plan)
        conductor.next()
        conductor.hear(Beat(0, **beat))
        (row,) = ledger.table()
    assert (row["state"], row["reason"]) == (state, reason)
    assert conductor.over


def test_a_trial_that_has_ended_or_belongs_to_no_one_is_told_to_stop(tmp_path: Path) -> None:
    plan = Plan(trials=1)
    with opened(tmp_path, plan) as ledger:
        conductor = Conductor(ledger, LR_SPACE, plan)
        conductor.next()
        conductor.hear(Beat(0, "complete", figures={"fid": 1.0}))
        rows = ledger.table()
        for zombie in (Beat(0, figures={"fid": 0.0}), Beat(0, "complete", figures={"fid": 0.0}), Beat(7)):
            assert conductor.hear(zombie).do == "stop"
        assert ledger.table() == rows


def test_each_completed_configuration_is_run_with_as_many_seeds_as_asked(tmp_path: Path) -> None:
    world, plan = World(), Plan(trials=12, seeds=3, sampler="random")
    with opened(tmp_path, plan) as ledger:
        world.drive(Conductor(ledger, LR_SPACE, plan, seed=5, clock=world.clock))
        rows, groups = ledger.table(), ledger.configurations()
    exact(rows, world, 12)
    whole = [group for group in groups if group["complete"] == 3]
    assert whole
    for group in whole:
        members = [rows[number] for number in group["numbers"]]
        assert [row["seed"] for row in members] == [None, 6, 7]
        assert [row["params"] for row in members] == [group["params"]] * 3
        assert group["values"] == [pytest.approx(bowl(group["params"], 90)[0]["fid"])]
        assert group["spread"] == [pytest.approx(0.0)]
    assert all(row["reason"] is None for row in rows if row["replicate_of"] is not None)


def test_seeds_that_the_space_draws_itself_are_not_replicated(tmp_path: Path) -> None:
    with open_ledger(tmp_path / "l", "s", ["minimize"]) as ledger, pytest.raises(ConfigError, match="`seed`"):
        Conductor(ledger, Space({"seed": Int(low=0, high=9)}), Plan(seeds=2))


def test_a_wish_to_stop_ends_what_runs_and_begins_nothing(tmp_path: Path) -> None:
    world, plan = World(), Plan(trials=20, stop="none")
    with opened(tmp_path, plan) as ledger:
        conductor = Conductor(ledger, LR_SPACE, plan, clock=world.clock)
        world.drive(conductor, beats=1)
        conductor.stop("asked to stop")
        assert conductor.next() is None
        assert not conductor.over
        for number in conductor.running:
            order = conductor.hear(Beat(number))
            assert (order.do, order.reason) == ("stop", "asked to stop")
            conductor.hear(Beat(number, "pruned", verdict=HEALTHY))
        assert conductor.over
        assert [row["reason"] for row in ledger.table()] == ["asked to stop"] * 3


def test_another_space_is_refused_before_anything_runs(tmp_path: Path) -> None:
    plan = Plan(trials=1)
    sweep(tmp_path, plan)
    with opened(tmp_path, plan) as ledger, pytest.raises(ConfigError, match="another space"):
        Conductor(ledger, Space({"gan.width": Int(low=1, high=2)}), plan)

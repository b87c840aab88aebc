"""Population based training on a toy whose best learning rate falls as it trains: no constant one does well."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from orchestrator.sweep.conductor import Conductor
from orchestrator.sweep.messages import Beat, Order
from orchestrator.sweep.plan import Plan
from orchestrator.sweep.population import current
from orchestrator.sweep.space import Choice, Int, LogUniform, Space, Uniform
from tests.support.simulation import COLLAPSE, HEALTHY, World, opened, quick_journal

__all__ = ["quick_journal"]

pytestmark = pytest.mark.usefixtures("quick_journal")

SPACE = Space({"gan.lr_g": LogUniform(low=1e-3, high=1.0)})
WIDTHS = Space({**SPACE.root, "gan.width": Choice(options=(32, 64))})
LR = ["gan.lr_g"]
PLAN = Plan(trials=12, population=True, sampler="random")


@dataclass
class Toy(World):
    """Weights are one number, the distance to the optimum; a checkpoint is kept at every step."""

    slots: int = 12
    steps: int = 300
    weights: dict[str, dict[int, float]] = field(default_factory=dict)

    def train(self, run_id: str) -> tuple[dict[str, float], str]:
        run = self.runs[run_id]
        kept = self.weights.setdefault(run_id, {0: 1.0})
        before = kept.get(run.step - self.every, 1.0)
        best = 0.1 * 30 ** (-run.step / self.steps)
        kept[run.step] = before * (1 - 0.15 * math.exp(-(math.log(run.params["gan.lr_g"] / best) ** 2)))
        return {"fid": 1.0 + 100.0 * kept[run.step]}, "running"

    def exploit(self, run_id: str, order: Order) -> None:
        assert order.run_id is not None
        assert order.step is not None
        self.weights[run_id][self.runs[run_id].step] = self.weights[order.run_id][order.step]
        super().exploit(run_id, order)


def bred(path: Path, plan: Plan, seed: int = 1) -> tuple[list[dict[str, Any]], Toy]:
    toy = Toy()
    with opened(path, plan, seed) as ledger:
        toy.drive(Conductor(ledger, SPACE, plan, seed=seed, tunable=LR, clock=toy.clock))
        return ledger.table(), toy


@pytest.mark.parametrize("seed", range(3))
def test_a_population_ends_better_than_the_same_trials_with_constant_hyperparameters(
    tmp_path: Path, seed: int
) -> None:
    alone, _ = bred(tmp_path / "alone", Plan(trials=12, stop="none", sampler="random"), seed)
    rows, _ = bred(tmp_path / "bred", PLAN, seed)
    assert [row["params"] for row in rows] == [row["params"] for row in alone]
    fids = [min(row["values"][0] for row in table) - 1.0 for table in (alone, rows)]
    assert fids[1] < 0.7 * fids[0]


def test_the_lineage_tells_every_weight_and_hyperparameter_that_was_taken_over(tmp_path: Path) -> None:
    rows, toy = bred(tmp_path, PLAN)
    assert {row["state"] for row in rows} == {"COMPLETE"}
    assert sum(len(row["lineage"]) for row in rows) > 5
    for row in rows:
        run = toy.runs[row["run_id"]]
        assert current(row["params"], row["lineage"]) == run.params
        assert 1e-3 <= run.params["gan.lr_g"] <= 1.0
        for entry in row["lineage"]:
            donor = rows[entry["from"]]
            assert entry["from_step"] <= entry["step"]
            assert donor["rungs"][entry["from_step"]] < row["rungs"][entry["step"]]
            assert list(entry["changes"]) == LR


def test_what_is_explored_lies_beside_what_the_donor_trained_with_by_then(tmp_path: Path) -> None:
    rows, _ = bred(tmp_path, PLAN)
    beside = []
    for entry in (entry for row in rows for entry in row["lineage"]):
        donor = rows[entry["from"]]
        then = [past for past in donor["lineage"] if past["step"] < entry["from_step"]]
        factor = entry["changes"]["gan.lr_g"] / current(donor["params"], then)["gan.lr_g"]
        beside.append(math.isclose(factor, 0.8) or math.isclose(factor, 1.25))
    assert 0.6 < sum(beside) / len(beside) < 0.9  # a quarter is drawn anew


def test_who_has_ended_is_no_measure_of_those_that_went_on(tmp_path: Path) -> None:
    plan = Plan(trials=20, population=True)
    with opened(tmp_path, plan) as ledger:
        conductor = Conductor(ledger, SPACE, plan, tunable=LR)
        arrivals(conductor, [99.0, 1.0, 2.0])
        conductor.hear(Beat(0, "collapsed", step=15, verdict=COLLAPSE))
        for number, fid in ((3, 3.0), (4, 4.0)):
            assert conductor.next() is not None
            conductor.hear(Beat(number, step=10, figures={"fid": fid}, run_id="later", checkpoint=10))
        said = [
            conductor.hear(Beat(number, step=20, figures={"fid": float(number)}, run_id="r", checkpoint=20))
            for number in (1, 2, 3, 4)
        ]
    assert [order.do for order in said] == ["go on", "go on", "go on", "exploit"]


def test_a_population_killed_again_and_again_breeds_on(tmp_path: Path) -> None:
    toy = Toy()
    for beats in (15, 40, 30, 10**6):
        with opened(tmp_path, PLAN) as ledger:
            toy.drive(Conductor(ledger, SPACE, PLAN, seed=1, tunable=LR, clock=toy.clock), beats)
            rows = [row for row in ledger.table() if row["counts"]]
    assert len(rows) == len(toy.runs) == 12
    assert {row["state"] for row in rows} == {"COMPLETE"}
    for row in rows:
        assert current(row["params"], row["lineage"]) == toy.runs[row["run_id"]].params


def arrivals(conductor: Conductor, fids: list[float], **options: Any) -> list[Order]:
    """One member after another arrives at step 10."""
    said = []
    for number, fid in enumerate(fids):
        given = conductor.next()
        assert given is not None
        beat = {"run_id": f"run-{number}", "checkpoint": 10, "verdict": HEALTHY, **options}
        figures = {"fid": fid, "coverage": 1 / (1 + fid)}
        said.append(conductor.hear(Beat(given.number, step=10, figures=figures, **beat)))
    return said


@pytest.mark.parametrize("objectives", [("fid",), ("coverage",), ("fid", "coverage")])
def test_only_the_worst_quarter_takes_over_from_the_best_quarter(
    tmp_path: Path, objectives: tuple[str, ...]
) -> None:
    plan = Plan(trials=20, population=True, objectives=objectives)
    with opened(tmp_path, plan) as ledger:
        said = arrivals(
            Conductor(ledger, SPACE, plan, tunable=LR), [5.0, 1.0, 2.0, 9.0, 3.0, 4.0, 2.5, 10.0, 8.5]
        )
    assert [order.do for order in said] == [*["go on"] * 3, "exploit", *["go on"] * 3, "exploit", "go on"]
    assert said[3].run_id == "run-1"
    assert said[7].run_id in ("run-1", "run-2")
    assert {order.step for order in said if order.do == "exploit"} == {10}


def test_nobody_takes_over_weights_that_were_not_kept(tmp_path: Path) -> None:
    plan = Plan(trials=20, population=True)
    with opened(tmp_path, plan) as ledger:
        said = arrivals(
            Conductor(ledger, SPACE, plan, tunable=LR), [1.0, 2.0, 3.0, 4.0, 5.0], checkpoint=None
        )
    assert [order.do for order in said] == ["go on"] * 5


def test_nobody_takes_over_the_weights_of_a_collapsed_member(tmp_path: Path) -> None:
    plan = Plan(trials=20, population=True)
    with opened(tmp_path, plan) as ledger:
        conductor = Conductor(ledger, SPACE, plan, tunable=LR)
        arrivals(conductor, [1.0], verdict=COLLAPSE)
        for fid in (2.0, 3.0, 4.0):
            given = conductor.next()
            assert given is not None
            beat = Beat(given.number, step=10, figures={"fid": fid}, run_id=f"run {fid}", checkpoint=10)
            assert conductor.hear(beat).do == "go on"


def test_nobody_takes_over_the_weights_of_other_networks(tmp_path: Path) -> None:
    plan = Plan(trials=20, population=True, sampler="random")
    with opened(tmp_path, plan) as ledger:
        ledger.bind(WIDTHS)
        for width in (32, 64, 64, 64):
            ledger.enqueue({"gan.width": width})
        said = arrivals(Conductor(ledger, WIDTHS, plan, tunable=LR), [1.0, 2.0, 3.0, 4.0])
    assert [order.do for order in said] == ["go on"] * 4


def test_a_collapsed_member_goes_on_from_a_healthy_one_where_there_is_one(tmp_path: Path) -> None:
    plan = Plan(trials=20, population=True)
    with opened(tmp_path, plan) as ledger:
        conductor = Conductor(ledger, SPACE, plan, tunable=LR)
        (alone,) = arrivals(conductor, [5.0], verdict=COLLAPSE)
        assert (alone.do, alone.reason) == ("stop", "mode collapse")
        conductor.hear(Beat(0, "pruned", step=10, verdict=COLLAPSE))
        healthy = conductor.next()
        assert healthy is not None
        conductor.hear(Beat(healthy.number, step=10, figures={"fid": 3.0}, run_id="sound", checkpoint=10))
        sick = conductor.next()
        assert sick is not None
        beat = Beat(
            sick.number, step=20, figures={"fid": 9.0}, verdict=COLLAPSE, run_id="sick", checkpoint=20
        )
        order = conductor.hear(beat)
        assert (order.do, order.reason) == ("exploit", "mode collapse")
        assert (order.run_id, order.step) == ("sound", 10)
        row = ledger.table()[0]
        assert (row["state"], row["verdict"]) == ("PRUNED", "mode collapse")


def test_what_is_explored_stays_in_range_and_of_its_kind(tmp_path: Path) -> None:
    space = Space(
        {
            "gan.lr_g": LogUniform(low=1e-3, high=1.0),
            "gan.beta": Uniform(low=0.0, high=1.0),
            "gan.steps": Int(low=1, high=4),
            "gan.loss": Choice(options=("hinge", "relativistic")),
            "gan.r1": LogUniform(low=0.1, high=1.0, sets=("gan.r2",), when={"gan.loss": ("relativistic",)}),
            "gan.decay": LogUniform(low=0.5, high=2.0, sets=("gan.width",)),
        }
    )
    plan = Plan(trials=80, population=True, sampler="random")
    tunable = ["gan.lr_g", "gan.beta", "gan.steps", "gan.loss", "gan.r1", "gan.r2", "gan.decay"]
    with opened(tmp_path, plan) as ledger:
        conductor = Conductor(ledger, space, plan, tunable=tunable)
        # Networks depend on gan.width, and so does the loss on what it makes conditional: neither may change.
        exploits = [
            order.changes
            for order in arrivals(conductor, [float(fid) for fid in range(60)])
            if order.do == "exploit"
        ]
    assert exploits == []  # gan.width differs from trial to trial
    space = Space({name: d for name, d in space.root.items() if name != "gan.decay"})
    with opened(tmp_path / "again", plan) as ledger:
        conductor = Conductor(ledger, space, plan, tunable=tunable)
        exploits = [
            o.changes for o in arrivals(conductor, [float(f) for f in range(60)]) if o.do == "exploit"
        ]
        rows = ledger.table()
    assert len(exploits) > 20
    for changes in exploits:
        assert set(changes) in ({*tunable[:3]}, {*tunable[:3], "gan.r1", "gan.r2"})
        assert 1e-3 <= changes["gan.lr_g"] <= 1.0
        assert 0.0 <= changes["gan.beta"] <= 1.0
        assert isinstance(changes["gan.steps"], int)
        assert 1 <= changes["gan.steps"] <= 4
        assert changes.get("gan.r1") == changes.get("gan.r2")
    assert len({changes["gan.lr_g"] for changes in exploits}) > 10
    assert {changes["gan.steps"] for changes in exploits} == {1, 2, 3, 4}
    assert not any(row["lineage"] for row in rows)  # none was heard again, so none is known to have followed

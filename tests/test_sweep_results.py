"""What a finished sweep leaves behind: rows, best, front, costs, importance, files. Its runs are made up."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from orchestrator.errors import RunFailed
from orchestrator.store.documents import decode
from orchestrator.store.objects import Objects, open_objects
from orchestrator.sweep.folder import open_sweep, sweep_key
from orchestrator.sweep.plan import parse_plan
from orchestrator.sweep.ranking import front_of, ordered
from orchestrator.sweep.results import finish
from orchestrator.sweep.space import LogUniform, Space
from tests.support.sweeps import (
    FLOOR,
    Made,
    begin,
    drive,
    experiment_of,
    figures_of,
    ledger_of,
    make_sweep,
)

TRIALS = 24


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """One objective; trials with a slow critic collapse."""
    return make_sweep(str(tmp_path_factory.mktemp("one")), trials=TRIALS)


@pytest.fixture(scope="module")
def traded(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Quality against diversity."""
    return make_sweep(str(tmp_path_factory.mktemp("two")), trials=TRIALS, objectives=["fid", "coverage"])


def parquet(objects: Objects, sweep_id: str, name: str) -> list[dict[str, Any]]:
    return list(pq.read_table(io.BytesIO(objects.get(sweep_key(sweep_id, name)))).to_pylist())


def test_parquet_and_json_hold_every_trial_as_the_ledger_tells_it(made: Made) -> None:
    with ledger_of(made.objects, made.id, made.plan) as ledger:
        told = ledger.table()
    rows = parquet(made.objects, made.id, "trials.parquet")
    document = decode(made.objects.get(sweep_key(made.id, "result.json")))
    assert document["trials"] == made.result.trials
    assert len(rows) == len(told) == TRIALS
    for row, true, plain in zip(rows, told, document["trials"], strict=True):
        for name in ("number", "state", "run_id", "reason", "device_seconds"):
            assert row[name] == true[name] == plain[name], name
        assert row["objective"] == (true["values"][0] if true["values"] else None)
        assert json.loads(row["evidence"]) == (true["evidence"] or [])
        assert {k: row[f"params.{k}"] for k in true["params"]} == true["params"]
        assert row["figures.fid"] == plain["figures"]["fid"] == plain["objectives"]["fid"]


def test_a_stopped_trial_has_its_verdict_evidence_and_remedy(made: Made) -> None:
    stopped = [row for row in made.result.trials if row["state"] == "PRUNED"]
    assert {row["end"] for row in stopped} == {"mode collapse"}
    assert {row["verdict"]["remedy"] for row in stopped} == {"raise gan.lr_ratio from 0.2 to 2"}
    assert all(row["verdict"]["evidence"][0]["step"] == row["step"] == 40 for row in stopped)
    assert all(row["params"]["gan.lr_ratio"] < 0.3 for row in stopped)
    completed = [row for row in made.result.trials if row["end"] == "complete"]
    assert len(completed) + len(stopped) == TRIALS
    assert completed
    assert stopped


def test_the_study_holds_every_value_of_every_trial(made: Made) -> None:
    rows = parquet(made.objects, made.id, "study.parquet")
    for trial in made.result.trials:
        curve = {row["step"]: row["value"] for row in rows if row["number"] == trial["number"]}
        steps = range(20, (100 if trial["end"] == "complete" else 40) + 1, 20)
        assert curve == {step: figures_of(trial["params"], step)["fid"] for step in steps}


def test_of_one_objective_the_best_is_the_front(made: Made) -> None:
    completed = [row for row in made.result.trials if row["state"] == "COMPLETE"]
    assert made.result.best == min(completed, key=lambda row: row["objective"])
    assert made.result.front == [made.result.best["number"]]
    assert made.result.floor == FLOOR


def test_nothing_beats_a_trial_of_the_front_in_both_objectives_and_something_beats_each_other(
    traded: Made,
) -> None:
    completed = {r["number"]: r["objectives"] for r in traded.result.trials if r["state"] == "COMPLETE"}

    def beaten(of: dict[str, float]) -> bool:
        return any(
            o["fid"] <= of["fid"] and o["coverage"] >= of["coverage"] and o != of for o in completed.values()
        )

    assert {n for n, objectives in completed.items() if not beaten(objectives)} == set(traded.result.front)
    assert len(traded.result.front) > 2
    qualities = [completed[n]["fid"] for n in traded.result.front]
    assert qualities == sorted(qualities)


def test_of_several_objectives_the_best_is_the_one_with_the_best_scalarisation(traded: Made) -> None:
    assert traded.result.best is not None
    completed = [row for row in traded.result.trials if row["state"] == "COMPLETE"]
    scores = {r["number"]: traded.plan.scalarised(list(r["objectives"].values())) for r in completed}
    assert scores[traded.result.best["number"]] == min(scores.values())
    assert traded.result.best["number"] in traded.result.front


def test_costs_by_end_sum_to_the_device_time_and_stopping_saved_the_rest_of_each_run(made: Made) -> None:
    costs = made.result.costs
    assert costs["total"] == pytest.approx(sum(costs["by_end"].values()))
    assert costs["total"] == pytest.approx(sum(row["device_seconds"] for row in made.result.trials))
    assert costs["trials"] == {
        end: sum(row["end"] == end for row in made.result.trials) for end in ("complete", "mode collapse")
    }
    assert costs["saved_total"] > 0


def test_the_parameter_that_decides_is_the_most_important(made: Made) -> None:
    shares = made.result.importance["fid"]["shares"]
    assert next(iter(shares)) == "gan.lr_ratio"
    assert sum(shares.values()) == pytest.approx(1.0)
    assert set(shares) == {"gan.lr_ratio", "gan.loss", "gan.r1"}


def test_a_configuration_counts_by_the_mean_over_its_seeds(tmp_path: Path) -> None:
    made = make_sweep(str(tmp_path), trials=18, seeds=2)
    assert made.result.best is not None
    pairs = [c for c in made.result.configurations if c["complete"] == 2]
    best = min(pairs, key=lambda c: c["values"][0])
    assert made.result.best["number"] in best["numbers"]
    replicas = [row for row in made.result.trials if row["replicate_of"] is not None]
    assert {row["seed"] for row in replicas} == {1}
    assert best["spread"][0] == pytest.approx(0.1 / 2**0.5)


def test_an_attempt_that_was_cut_off_is_kept_and_marked_and_its_run_belongs_to_the_next(
    tmp_path: Path,
) -> None:
    objects, experiment, plan = open_objects(str(tmp_path)), experiment_of(), parse_plan({"trials": 4})
    sweep_id = begin(objects, experiment, plan)
    with ledger_of(objects, sweep_id, plan) as ledger:
        drive(objects, ledger, experiment, plan, most=2)
        number, _ = ledger.ask(experiment.search)
    with ledger_of(objects, sweep_id, plan) as ledger:
        drive(objects, ledger, experiment, plan)
        result = finish(objects, sweep_id, ledger, plan, experiment)
    cut = result.trials[number]
    assert (cut["state"], cut["end"], cut["figures"]) == ("FAIL", "interrupted", {})
    [again] = [row for row in result.trials if row["retry_of"] == number]
    assert again["params"] == cut["params"]
    assert sum(row["end"] != "interrupted" for row in result.trials) == 4


def test_a_sweep_of_which_no_trial_completes_writes_its_files_and_says_how_each_ended(tmp_path: Path) -> None:
    objects, plan = open_objects(str(tmp_path)), parse_plan({"trials": 2})
    experiment = experiment_of(Space({"gan.lr_ratio": LogUniform(low=0.1, high=0.2)}))
    sweep_id = begin(objects, experiment, plan)
    with ledger_of(objects, sweep_id, plan) as ledger:
        drive(objects, ledger, experiment, plan)
        with pytest.raises(RunFailed, match=r"no trial completed \(trial 0 mode collapse, trial 1 mode coll"):
            finish(objects, sweep_id, ledger, plan, experiment)
    found = open_sweep(objects, sweep_id)
    assert found.state == "finished"
    assert found.result is not None
    assert found.result.best is None
    assert len(parquet(objects, sweep_id, "trials.parquet")) == 2
    assert b"No trial completed" in objects.get(sweep_key(sweep_id, "report.html"))


def test_the_end_takes_away_what_told_of_the_running_sweep(made: Made) -> None:
    names = {key.rpartition("/")[2] for key in made.objects.list(f"sweeps/{made.id}")}
    assert {"sweep.json", "result.json", "trials.parquet", "study.parquet", "report.html"} <= names
    assert not names & {"live.json", "stop.json"}


def test_finishing_again_gives_the_same(tmp_path: Path) -> None:
    made = make_sweep(str(tmp_path), trials=12)
    with ledger_of(made.objects, made.id, made.plan) as ledger:
        again = finish(made.objects, made.id, ledger, made.plan, made.experiment)
    assert again == made.result


def test_trials_are_ordered_by_the_objective_with_the_stopped_ones_last(made: Made) -> None:
    rows = ordered(made.result.trials, "fid")
    states = [row["state"] for row in rows]
    completed = states.count("COMPLETE")
    assert states == ["COMPLETE"] * completed + ["PRUNED"] * (TRIALS - completed)
    values = [row["objective"] for row in rows[:completed]]
    assert values == sorted(values)
    coverage = [row["figures"]["coverage"] for row in ordered(rows, "coverage")[:completed]]
    assert coverage == sorted(coverage, reverse=True)


def test_a_front_leaves_out_what_was_not_measured(made: Made) -> None:
    assert front_of(made.result.trials, ("fid", "recall")) == []

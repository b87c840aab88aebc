"""A sweep from start to winner on a real Ray: what it stores, what it recognises, and how it is carried on.

A small relativistic GAN on 8 px digits collapses at lr_d/lr_g = 0.1 in every seed tried, and at 3 it never does.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from orchestrator.errors import RunFailed
from orchestrator.experiment import Experiment, parse
from orchestrator.recipes import load
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.reader import Run
from orchestrator.sweep.driver import open_sweep_ledger, run_sweep
from orchestrator.sweep.folder import SweepResult, read_sweep, sweep_key
from orchestrator.sweep.plan import Plan
from orchestrator.sweep.space import Choice, Space
from tests.support.commands import ganctl
from tests.support.exactness import check_exact
from tests.support.guard import end
from tests.support.rays import local_ray, nothing_left, processes_of, restored_environment, short_folder
from tests.support.threads import one_thread

__all__ = ["local_ray", "one_thread"]

STEPS = 600
COLLAPSING, HEALTHY = 0.1, 3.0


def searching(space: dict[str, Any], **changes: Any) -> Experiment:
    """Six hundred steps on 8 px digits: about a second a trial."""
    fields = {
        "name": "small",
        "gan.width": 64,
        "gan.depth": 2,
        "gan.latent_dim": 16,
        "gan.loss": "relativistic",
        "gan.r1": 0.3,
        "gan.r2": 0.3,
        "gan.betas": [0.0, 0.9],
        "data.kind": "digits",
        "data.size": 8,
        "train.steps": STEPS,
        "train.batch": 32,
        "train.log_every": 20,
        "train.evaluate_every": 200,
        "train.sample_every": 0,
        "train.checkpoint_every": 0,
        "train.on_collapse": "stop",
    }
    return load("vanilla.ring").override(fields | changes).model_copy(update={"search": Space(space)})


def planned(trials: int) -> Plan:
    """Random trials that only their health may end early."""
    return Plan(trials=trials, sampler="random", stop="none")


BALANCE = {
    "gan.lr_ratio": Choice(options=(COLLAPSING, HEALTHY)),
    "gan.width": Choice(options=(48, 64)),
}


@dataclass(frozen=True)
class Swept:
    """A finished sweep of six trials."""

    objects: Objects
    result: SweepResult
    beats: list[dict[str, Any]]


@pytest.fixture(scope="module")
def swept(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Swept:
    store, beats = str(tmp_path_factory.mktemp("sweep")), list[dict[str, Any]]()
    with restored_environment():
        result = run_sweep(searching(BALANCE, seed=1), store, planned(6), progress=beats.append)
    return Swept(open_objects(store), result, beats)


def ledger(objects: Objects, sweep_id: str) -> list[dict[str, Any]]:
    """Every trial of the study, as the ledger itself tells it."""
    with open_sweep_ledger(objects, sweep_id, planned(6), 0) as study:
        return study.table()


def stored(objects: Objects, sweep_id: str) -> list[dict[str, Any]]:
    """The rows of trials.parquet."""
    table = pq.read_table(io.BytesIO(objects.get(sweep_key(sweep_id, "trials.parquet"))))
    return list(table.to_pylist())


def test_the_stored_trials_are_those_of_the_ledger(swept: Swept) -> None:
    told = ledger(swept.objects, swept.result.sweep_id)
    assert [row["number"] for row in told] == list(range(6))
    for row, true in zip(stored(swept.objects, swept.result.sweep_id), told, strict=True):
        params = {k.removeprefix("params."): v for k, v in row.items() if k.startswith("params.")}
        objective = true["values"][0] if true["values"] else None
        assert params == true["params"]
        assert row["objective"] == objective
        assert row["verdict"] == (true["verdict"] or "healthy")
        assert all(row[name] == true[name] for name in ("number", "state", "run_id", "reason"))
        assert json.loads(row["evidence"]) == (true["evidence"] or [])


def test_every_trial_has_ended_and_so_has_its_run(swept: Swept) -> None:
    states = {row["state"] for row in ledger(swept.objects, swept.result.sweep_id)}
    assert states == {"COMPLETE", "PRUNED"}
    runs = swept.objects.folders("runs")
    assert sorted(row["run_id"] for row in swept.result.trials) == runs
    assert all(Run(swept.objects, run_id).sealed() for run_id in runs)
    assert swept.objects.list("live") == []


def test_a_trial_is_a_run_with_the_parameters_and_figures_of_its_row(swept: Swept) -> None:
    for row in swept.result.trials:
        run = Run(swept.objects, row["run_id"])
        document, sealed = run.document(), run.sealed()
        assert sealed is not None
        assert (document["sweep"], document["trial"]) == (swept.result.sweep_id, row["number"])
        assert document["params"] == row["params"]
        gan = document["experiment"]["gan"]
        assert {f"gan.{k}": gan[k] for k in ("lr_ratio", "width")} == row["params"]
        if row["state"] == "COMPLETE":
            assert (sealed["state"], sealed["step"]) == ("completed", STEPS)
            assert row["figures"] == sealed["figures"]
            assert row["objective"] == sealed["figures"]["fid"]


def test_collapsed_trials_are_stopped_early_with_the_evidence(swept: Swept) -> None:
    pruned = [row for row in swept.result.trials if row["state"] == "PRUNED"]
    assert {row["params"]["gan.lr_ratio"] for row in pruned} == {COLLAPSING}
    for row in pruned:
        assert row["verdict"]["kind"] == "mode collapse"
        assert "gan.lr_ratio" in row["verdict"]["remedy"]
        assert row["reason"] == "collapsed"
        for evidence in row["verdict"]["evidence"]:
            assert evidence["value"] < evidence["threshold"]
            assert evidence["step"] == row["step"] < STEPS
        assert row["verdict"]["evidence"]
        assert (Run(swept.objects, row["run_id"]).sealed() or {})["state"] == "collapsed"


def test_the_best_trial_is_a_healthy_one_beside_the_real_floor(swept: Swept) -> None:
    completed = [row for row in swept.result.trials if row["state"] == "COMPLETE"]
    assert {row["params"]["gan.lr_ratio"] for row in completed} == {HEALTHY}
    assert swept.result.best == min(completed, key=lambda row: row["objective"])
    assert 0 < swept.result.floor["fid"] < swept.result.best["objective"]


def test_its_progress_ends_with_every_trial_told(swept: Swept) -> None:
    ended = [beat["label"] for beat in swept.beats if beat["end"]]
    assert sorted(ended) == ["sweep", *(f"trial {i}" for i in range(6))]
    shares = [beat["done"] for beat in swept.beats if beat["label"] == "sweep"]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_trials_that_paused_went_on_in_their_runs_or_ended_at_their_rung(
    local_ray: None, file_store: str
) -> None:
    few = {"train.steps": 180, "train.evaluate_every": 20, "gan.width": 16, "train.on_collapse": "ignore"}
    rates, beats = {"gan.lr_g": Choice(options=(1e-6, 1e-4, 1e-3))}, list[dict[str, Any]]()
    plan = Plan(trials=8, sampler="random", on_collapse="ignore", pack=1)
    with restored_environment():
        result = run_sweep(searching(rates, **few), file_store, plan, progress=beats.append)
    objects = open_objects(file_store)
    check_exact(objects, result.sweep_id, 8)
    assert objects.list("live") == []
    ends = {row["number"]: (Run(objects, row["run_id"]).sealed() or {}) for row in result.trials}
    assert any(end["state"] == "completed" and end["attempt"] > 1 for end in ends.values())
    stopped = [row for row in result.trials if row["state"] == "PRUNED"]
    assert stopped
    for row in stopped:
        assert row["step"] == {0: 20, 1: 60}[row["rung"]]
        assert row["figures"]["fid"] == row["objectives"]["fid"] == ends[row["number"]]["metrics"]["fid"]
        assert ends[row["number"]]["reason"] == row["reason"]
        assert row["reason"].startswith("asha: not in the best 1/3 of ")
    paused = {beat["label"] for beat in beats if beat["note"] == "paused"}
    assert {f"trial {row['number']}" for row in stopped} < paused
    assert [beat["done"] for beat in beats if beat["label"] == "sweep"][-1] == 1.0


def test_what_was_asked_for_is_stored(swept: Swept) -> None:
    document = read_sweep(swept.objects, swept.result.sweep_id)
    assert Plan.model_validate(document["plan"]) == planned(6)
    assert parse(document["experiment"]) == searching(BALANCE, seed=1)


def test_carried_on_it_adds_only_the_trials_that_are_missing(swept: Swept) -> None:
    """Last of those on this sweep, which it changes."""
    sweep_id, store = swept.result.sweep_id, swept.objects.url
    before = stored(swept.objects, sweep_id)
    with restored_environment():
        same = run_sweep(searching({}), store, sweep_id=sweep_id)
        assert same.trials == swept.result.trials
        more = run_sweep(searching({}), store, planned(8), sweep_id=sweep_id)
    after = stored(swept.objects, sweep_id)
    assert [row["number"] for row in after] == list(range(8))
    assert [{k: row[k] for k in old} for row, old in zip(after, before, strict=False)] == before
    assert sorted(row["run_id"] for row in more.trials) == swept.objects.folders("runs")
    assert {row["state"] for row in after} == {"COMPLETE", "PRUNED"}


def test_a_trial_that_cannot_train_on_its_data_fails_with_the_reason_and_the_others_go_on(
    local_ray: None, file_store: str
) -> None:
    labels = Space({"data.labelled": Choice(options=(True, False))})
    small = {"gan.width": 4, "data.size": 8, "train.steps": 20, "train.log_every": 10, "seed": 4}
    experiment = load("cgan.digits").override(small).model_copy(update={"search": labels})
    with restored_environment():
        result = run_sweep(experiment, file_store, planned(4))
    states = {row["params"]["data.labelled"]: row["state"] for row in result.trials}
    assert states == {True: "COMPLETE", False: "FAIL"}
    failed = [row for row in result.trials if row["state"] == "FAIL"]
    assert all("cgan needs labels" in row["reason"] for row in failed), failed
    objects = open_objects(file_store)
    assert {(Run(objects, row["run_id"]).sealed() or {})["state"] for row in failed} == {"failed"}


def test_a_sweep_of_which_no_trial_completes_says_how_each_ended(local_ray: None, file_store: str) -> None:
    space = {"gan.lr_ratio": Choice(options=(COLLAPSING,))}
    with restored_environment(), pytest.raises(RunFailed) as caught:
        run_sweep(searching(space), file_store, planned(1))
    assert "no trial completed (trial 0 mode collapse)" in str(caught.value)


def test_a_dry_run_prints_the_experiment_with_its_space_and_writes_nothing(tmp_path: Path) -> None:
    words = ("vanilla.ring", "lr_ratio=loguniform(0.5,2)", "train.steps=7", "--dry-run")
    told = json.loads(ganctl("sweep", *words, "--store", tmp_path / "store").stdout)
    assert told["search"]["gan.lr_ratio"] | {"low": 0.5, "high": 2.0} == told["search"]["gan.lr_ratio"]
    assert told["train"]["steps"] == 7
    assert not (tmp_path / "store").exists()


@pytest.mark.slow
@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGKILL])
def test_a_sweep_whose_driver_is_ended_is_carried_on_and_leaves_no_process(
    blow: signal.Signals, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    (tmp_path / "small.yaml").write_text(json.dumps(searching(BALANCE, seed=1).document()))
    words = ["--store", str(store), "--trials", "6", "--sampler", "random", "--stop", "none", "--json"]
    command = [sys.executable, "-m", "orchestrator.cli", "sweep"]
    objects = open_objects(str(store))
    with short_folder() as folder:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        environ["GANCTL_RAY_TMP"] = folder
        begun = subprocess.Popen(
            [*command, str(tmp_path / "small.yaml"), *words],
            env=environ,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        deadline = time.monotonic() + 120
        while len(objects.folders("runs")) < 4:
            assert time.monotonic() < deadline
            assert begun.poll() is None, begun.communicate()
            time.sleep(0.1)
        os.killpg(begun.pid, blow) if blow == signal.SIGINT else begun.kill()
        _, said = begun.communicate(timeout=60)
        assert begun.returncode == (130 if blow == signal.SIGINT else -signal.SIGKILL), said
        if blow == signal.SIGINT:
            nothing_left(folder)
        else:
            end(processes_of(folder))  # Ray's agents would notice within two minutes
        [sweep_id] = objects.folders("sweeps")
        again = subprocess.run(
            [*command, "--resume", sweep_id, *words], env=environ, capture_output=True, text=True, timeout=200
        )
        assert again.returncode == 0, again.stderr
        nothing_left(folder)
    told = ledger(objects, sweep_id)
    counted = [row for row in told if row["reason"] != "interrupted"]
    assert len(counted) == 6
    assert {row["state"] for row in counted} == {"COMPLETE", "PRUNED"}
    assert len({row["run_id"] for row in counted}) == 6

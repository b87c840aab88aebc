"""Ray Tune over a conductor: what trials tell arrives, orders come back, and every trial has the end it came to."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.sweep.conductor import Conductor
from orchestrator.sweep.ledger import Ledger, open_ledger
from orchestrator.sweep.messages import Assignment, Beat
from orchestrator.sweep.plan import Plan
from orchestrator.sweep.searcher import LedgerSearch
from orchestrator.sweep.space import LogUniform, Space
from tests.support.rays import local_ray

__all__ = ["local_ray"]

SPACE = Space({"gan.lr_ratio": LogUniform(low=0.1, high=10)})
COLLAPSE = {
    "kind": "mode collapse",
    "evidence": [{"signal": "coverage", "value": 0.1, "threshold": 0.15, "window": 3, "step": 40}],
    "remedy": "raise gan.lr_ratio",
}
ENDS: dict[int, dict[str, Any]] = {
    2: {"figures": {}},
    3: {"state": "collapsed", "figures": {"fid": 4.0}, "verdict": COLLAPSE},
    5: {"state": "failed", "reason": "no space left on device"},
}


def opened(folder: Path, plan: Plan) -> Ledger:
    return open_ledger(folder / "journal.log", "s", plan.directions, plan.sampler, 1)


def swept(folder: Path, plan: Plan, size: int = 1) -> list[dict[str, Any]]:
    """The ledger's table after a sweep whose trials end as `ENDS` has it, in hosts of `size`."""
    from orchestrator.sweep.desk import open_desk

    with open_desk() as desk:
        return swept_with(desk, folder, plan, size)


def swept_with(desk: Any, folder: Path, plan: Plan, size: int) -> list[dict[str, Any]]:
    from ray import tune

    from orchestrator.sweep.desk import orders_of

    def host(config: dict[str, Any]) -> None:
        """A host that does not train: every trial beats twice, and does as it is told."""
        from orchestrator.sweep.trial import through

        tell = through(desk)
        waiting = [Assignment(**given) for given in config["trials"]]
        while waiting:
            given = waiting.pop(0)
            beat = Beat(given.number, step=10, progress=0.25, seconds=1.0, run_id=f"run-{given.number}")
            answers = tell([replace(beat, figures={"fid": 5.0 + given.number})])
            orders = dict(answer for answer in answers if isinstance(answer, tuple))
            if given.number == 1:
                os._exit(1)
            if given.number == 6:
                raise RuntimeError("as asked")
            end = replace(beat, state="complete", step=40, progress=1.0, figures={"fid": 1.0 + given.number})
            if orders[given.number].do in ("stop", "pause"):
                end = replace(beat, state={"stop": "pruned", "pause": "paused"}[orders[given.number].do])
            answers = tell([replace(end, **ENDS.get(given.number, {}))])
            waiting += [answer for answer in answers if isinstance(answer, Assignment)]

    with opened(folder / "s3cret", plan) as ledger:
        search = LedgerSearch(
            Conductor(ledger, SPACE, plan),
            lambda trial_id, answers: desk.put.remote(orders_of(trial_id), answers),
            size,
        )
        config = tune.TuneConfig(
            search_alg=search, num_samples=-1, max_concurrent_trials=2, reuse_actors=True
        )
        run = tune.RunConfig(storage_path=str(folder), name="tune", verbose=0)
        tune.Tuner(host, tune_config=config, run_config=run).fit()
        return ledger.table()


@pytest.mark.usefixtures("local_ray")
def test_tune_runs_a_sweep_to_exactly_these_ends(tmp_path: Path) -> None:
    rows = swept(tmp_path, Plan(trials=8, sampler="random", stop="none"))
    counted = {row["number"]: row for row in rows if row["reason"] != "interrupted"}
    # Number 1 was lost with its process, and number 6 raised, which to Tune is the same: both are tried again.
    assert counted.keys() == set(range(10)) - {1, 6}
    assert {row["retry_of"] for row in rows if row["retry_of"] is not None} == {1, 6}
    states = {number: row["state"] for number, row in counted.items()}
    assert states == {0: "COMPLETE", 2: "FAIL", 3: "PRUNED", 4: "COMPLETE", 5: "FAIL", 7: "COMPLETE"} | {
        8: "COMPLETE",
        9: "COMPLETE",
    }
    assert counted[0]["values"] == [1.0]
    assert (counted[3]["verdict"], counted[3]["evidence"]) == ("mode collapse", COLLAPSE["evidence"])
    assert counted[5]["reason"] == "no space left on device"
    assert b"s3cret" not in (tmp_path / "tune" / "tuner.pkl").read_bytes()


@pytest.mark.usefixtures("local_ray")
def test_packs_that_die_lose_no_trial_and_double_none(tmp_path: Path) -> None:
    rows = swept(tmp_path, Plan(trials=8, sampler="random", stop="none"), size=3)
    assert {row["state"] for row in rows} <= {"COMPLETE", "PRUNED", "FAIL"}
    counted = [row for row in rows if row["reason"] != "interrupted"]
    interrupted = {row["number"] for row in rows if row["reason"] == "interrupted"}
    assert len(counted) == 8
    assert {1, 6} <= interrupted
    assert interrupted == {row["retry_of"] for row in rows if row["retry_of"] is not None}


@pytest.mark.usefixtures("local_ray")
def test_orders_reach_the_trials_they_are_for(tmp_path: Path) -> None:
    rows = swept(tmp_path, Plan(trials=5, sampler="random", stop="asha"))
    pruned = [row for row in rows if (row["reason"] or "").startswith("asha")]
    assert pruned
    assert all(row["state"] == "PRUNED" and row["step"] == 10 for row in pruned)


def test_no_connection_is_pickled(tmp_path: Path) -> None:
    plan = Plan(trials=1)
    with opened(tmp_path / "s3cret", plan) as ledger:
        assert b"s3cret" not in pickle.dumps(LedgerSearch(Conductor(ledger, SPACE, plan), print))
        with pytest.raises(TypeError, match="never pickled"):
            pickle.dumps(ledger)

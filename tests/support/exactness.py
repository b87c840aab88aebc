"""What must hold of a sweep that has ended, however often something was killed while it ran."""

from __future__ import annotations

import io
from typing import Any

import optuna
import pyarrow.parquet as pq
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from orchestrator.store.catalogue import Catalogue
from orchestrator.store.objects import Objects
from orchestrator.store.reader import Run
from orchestrator.sweep import account
from orchestrator.sweep.folder import sweep_key


def trials_of(objects: Objects, sweep_id: str) -> list[FrozenTrial]:
    """The study as it lies in the store. The ledger itself would mend it on opening."""
    path = objects.local_path(sweep_key(sweep_id, "journal.log"))
    storage = JournalStorage(JournalFileBackend(str(path)))
    return optuna.load_study(study_name=sweep_id, storage=storage).get_trials(deepcopy=False)


def check_exact(objects: Objects, sweep_id: str, total: int) -> list[FrozenTrial]:
    """Fail unless exactly `total` trials count and each has ended once, with a run of its own that has ended too, and
    study, catalogue and trials.parquet agree. Returns the trials that count."""
    trials = trials_of(objects, sweep_id)
    assert all(trial.state.is_finished() for trial in trials), [trial.state.name for trial in trials]
    counted = [trial for trial in trials if account.counts(trial)]
    assert len(counted) == total
    runs = {trial.user_attrs["run_id"]: trial for trial in counted}
    assert len(runs) == total, "two trials have one run"
    _cut_off_trials_have_one_heir(trials)
    _runs_ended_as_their_trials(objects, runs)
    _same_in_parquet(objects, sweep_id, trials)
    return counted


def _cut_off_trials_have_one_heir(trials: list[FrozenTrial]) -> None:
    """What was cut off was begun again once, with the same parameters in the same run."""
    heirs = {trial.user_attrs["retry_of"]: trial for trial in trials if "retry_of" in trial.user_attrs}
    assert len(heirs) == sum("retry_of" in trial.user_attrs for trial in trials)
    cut_off = {trial.number: trial for trial in trials if account.ran(trial) and not account.counts(trial)}
    assert heirs.keys() == {number for number, trial in cut_off.items() if trial.params}
    for number, heir in heirs.items():
        assert heir.params == cut_off[number].params
        assert cut_off[number].user_attrs.get("run_id") in (None, heir.user_attrs["run_id"])


def _runs_ended_as_their_trials(objects: Objects, runs: dict[str, FrozenTrial]) -> None:
    ends = {
        TrialState.COMPLETE: {"completed", "collapsed", "unhealthy"},
        TrialState.PRUNED: {"pruned", "collapsed", "diverged", "unhealthy"},
        TrialState.FAIL: {"failed"},
    }
    catalogue = {row["id"]: row["state"] for row in Catalogue(objects).runs()}
    assert objects.folders("runs") == sorted(runs) == sorted(catalogue)
    for run_id, trial in runs.items():
        sealed: dict[str, Any] = Run(objects, run_id).sealed() or {}
        assert catalogue[run_id] == sealed["state"]
        assert sealed["state"] in ends[trial.state], run_id
        if trial.state == TrialState.COMPLETE:
            assert [sealed["figures"]["fid"]] == trial.values
        steps = Run(objects, run_id).metrics()["step"].to_pylist()
        assert steps == sorted(set(steps)), "its curve goes back"


def _same_in_parquet(objects: Objects, sweep_id: str, trials: list[FrozenTrial]) -> None:
    table = pq.read_table(io.BytesIO(objects.get(sweep_key(sweep_id, "trials.parquet")))).to_pylist()
    rows = [account.row(trial) for trial in trials if account.ran(trial)]
    same = ("number", "state", "run_id", "reason", "retry_of")
    assert [[row[name] for name in same] for row in table] == [[row[name] for name in same] for row in rows]
    for row, told in zip(table, rows, strict=True):
        assert {k: v for k, v in row.items() if k.startswith("params.")} == {
            f"params.{k}": v for k, v in told["params"].items()
        }
        assert row["objective"] == (told["values"][0] if told["values"] else None)

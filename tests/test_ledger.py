"""The ledger of a sweep: no trial is lost, doubled, or left RUNNING, and every end is told truly."""

from __future__ import annotations

import json
import math
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend, JournalStorage

from orchestrator.errors import ConfigError, StoreError
from orchestrator.sweep.ledger import Ledger, open_ledger
from orchestrator.sweep.space import Choice, LogUniform, Space, Uniform
from tests.support.simulation import COLLAPSE, HEALTHY, quick_journal

__all__ = ["quick_journal"]

pytestmark = pytest.mark.usefixtures("quick_journal")

SPACE = Space(
    {
        "gan.lr_ratio": LogUniform(low=0.1, high=10),
        "gan.loss": Choice(options=("hinge", "relativistic")),
        "gan.r1": LogUniform(low=0.01, high=1, sets=("gan.r2",), when={"gan.loss": ("relativistic",)}),
    }
)


def opened(path: Path, sampler: str = "random", **options: Any) -> Ledger:
    return open_ledger(path / "ledger.journal", "s", ["minimize"], sampler=sampler, seed=1, **options)


def states(ledger: Ledger) -> list[str]:
    return [row["state"] for row in ledger.table()]


def leave_running(path: Path, **params: float) -> None:
    """A trial as a driver leaves it that is killed while the trial runs."""
    storage = JournalStorage(JournalFileBackend(str(path / "ledger.journal")))
    trial = optuna.load_study(study_name="s", storage=storage).ask()
    for name, value in params.items():
        trial.suggest_float(name, value, value)


def test_a_trial_is_asked_reported_and_completed(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        number, params = ledger.ask(SPACE)
        ledger.note(number, run_id="run-1")
        ledger.report(number, 10, 3.0)
        ledger.report(number, 10, 99.0)
        ledger.complete(number, 2.0)
        (row,) = ledger.table()
    assert row["duration"] > 0
    assert (row["number"], row["state"], row["params"]) == (0, "COMPLETE", params)
    assert (row["values"], row["rungs"], row["run_id"]) == ([2.0], {10: 3.0}, "run-1")
    assert (row["verdict"], row["evidence"], row["reason"], row["rung"]) == (None, None, None, None)
    assert ("gan.r1" in params) == ("gan.r2" in params) == (params["gan.loss"] == "relativistic")


def test_a_collapse_is_pruned_with_its_evidence_and_last_finite_value(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        number, _ = ledger.ask(SPACE)
        ledger.report(number, 10, 3.0)
        ledger.report(number, 20, math.nan)
        ledger.prune(number, COLLAPSE, "collapsed")
        (row,), (trial,) = ledger.table(), ledger.trials()
    assert (row["state"], row["values"], row["reason"]) == ("PRUNED", [3.0], "collapsed")
    assert (row["verdict"], row["evidence"], row["step"]) == ("mode collapse", COLLAPSE["evidence"], 40)
    shown = {"verdict": "mode collapse", "remedy": "raise gan.lr_ratio"}  # what optuna-dashboard prints
    shown["evidence"] = "coverage 0.1 against 0.15 over 3 ticks at step 40"
    assert shown.items() <= trial.user_attrs.items()


@pytest.mark.parametrize("values", [math.nan, math.inf, -math.inf, None, "2.0", [1.0, 2.0], []])
def test_an_objective_that_is_no_finite_number_fails_the_trial(tmp_path: Path, values: Any) -> None:
    with opened(tmp_path) as ledger:
        ledger.complete(ledger.ask(SPACE)[0], values)
        (row,) = ledger.table()
    assert (row["state"], row["values"]) == ("FAIL", None)
    assert repr(values) in row["reason"]


def test_only_the_first_end_of_a_trial_counts(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        number, _ = ledger.ask(SPACE)
        ledger.complete(number, 2.0)
        before = ledger.table()
        ledger.complete(number, 1.0)
        ledger.prune(number, COLLAPSE, "collapsed")
        ledger.fail(number, "again")
        ledger.report(number, 30, 0.0)
        ledger.note(number, run_id="another")
        assert ledger.table() == before


def test_remaining_counts_what_was_begun_and_not_what_was_interrupted(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        ledger.complete(ledger.ask(SPACE)[0], 1.0)
        ledger.fail(ledger.ask(SPACE)[0], "raised")
        ledger.ask(SPACE)
        assert ledger.remaining(5) == 2
        assert ledger.remaining(2) == 0
    with opened(tmp_path) as ledger:
        assert states(ledger) == ["COMPLETE", "FAIL", "FAIL", "WAITING"]
        assert ledger.remaining(5) == 3


def test_what_was_left_running_is_asked_again_once_however_often_it_is_reopened(tmp_path: Path) -> None:
    opened(tmp_path).close()
    leave_running(tmp_path, x=0.25)
    space = Space({"x": Uniform(low=0, high=1)})
    for _ in range(3):
        with opened(tmp_path) as ledger:
            assert states(ledger) == ["FAIL", "WAITING"]
            assert [row["reason"] for row in ledger.table()] == ["interrupted", None]
            assert ledger.table()[1]["params"] == {"x": 0.25}
    with opened(tmp_path) as ledger:
        assert ledger.ask(space) == (1, {"x": 0.25})
        ledger.complete(1, 1.0)
        assert ledger.ask(space)[1] != {"x": 0.25}


def test_a_retry_killed_before_it_drew_its_values_keeps_them(tmp_path: Path) -> None:
    opened(tmp_path).close()
    leave_running(tmp_path, x=0.25)
    opened(tmp_path).close()
    leave_running(tmp_path)  # takes the waiting retry and draws nothing
    with opened(tmp_path) as ledger:
        assert states(ledger) == ["FAIL", "FAIL", "WAITING"]
        assert ledger.ask(Space({"x": Uniform(low=0, high=1)})) == (2, {"x": 0.25})


def test_a_kill_between_enqueueing_and_telling_does_not_double_the_trial(tmp_path: Path) -> None:
    opened(tmp_path).close()
    leave_running(tmp_path, x=0.25)
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "ledger.journal")))
    optuna.load_study(study_name="s", storage=storage).enqueue_trial({"x": 0.25}, user_attrs={"retry_of": 0})
    with opened(tmp_path) as ledger:
        assert states(ledger) == ["FAIL", "WAITING"]


def test_a_driver_killed_at_work_leaves_a_ledger_that_carries_on(tmp_path: Path) -> None:
    driver = (
        "import json, os, signal, sys; from pathlib import Path; from tests.test_ledger import SPACE, opened\n"
        "ledger = opened(Path(sys.argv[1])); ledger.complete(ledger.ask(SPACE)[0], 1.0)\n"
        "print(json.dumps(ledger.ask(SPACE)[1]), flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run(
        [sys.executable, "-c", driver, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with opened(tmp_path) as ledger:
        assert states(ledger) == ["COMPLETE", "FAIL", "WAITING"]
        assert ledger.ask(SPACE) == (2, json.loads(killed.stdout))


def test_a_record_cut_off_by_a_kill_does_not_spoil_the_ledger(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        ledger.complete(ledger.ask(SPACE)[0], 1.0)
    with (tmp_path / "ledger.journal").open("ab") as journal:
        journal.write(b'{"op_code":4,"worker_id":"x","stu')
    for num_trials in (1, 2):
        with opened(tmp_path) as ledger:
            assert states(ledger) == ["COMPLETE"] * num_trials
            ledger.complete(ledger.ask(SPACE)[0], 1.0)


def test_a_second_driver_is_turned_away_until_the_first_has_closed(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        number, _ = ledger.ask(SPACE)
        with pytest.raises(StoreError, match="open in another driver"):
            opened(tmp_path)
        ledger.complete(number, 1.0)
        assert states(ledger) == ["COMPLETE"]
    opened(tmp_path).close()


def test_of_several_objectives_a_rung_keeps_the_scalarisation_and_the_last_vector(tmp_path: Path) -> None:
    with open_ledger(tmp_path / "l", "s", ["minimize", "maximize"]) as ledger:
        number, _ = ledger.ask(SPACE)
        for step in (10, 20):
            ledger.report(number, step, [float(step), 0.5], scalar=step / 2)
        ledger.prune(number, HEALTHY, "asha", rung=1)
        (row,) = ledger.table()
    assert row["rungs"] == {10: 5.0, 20: 10.0}
    assert row["last"] == {"step": 20, "values": [20.0, 0.5]}
    assert (row["state"], row["values"], row["rung"], row["reason"]) == ("PRUNED", None, 1, "asha")


def test_what_does_not_fit_the_study_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        ledger.complete(ledger.ask(SPACE)[0], 1.0)
    with pytest.raises(
        ConfigError, match=r"unknown sampler `tpee`; did you mean `tpe`\? samplers: tpe, random"
    ):
        opened(tmp_path, "tpee")
    with pytest.raises(ConfigError, match=r"directions=\['minimize'\], not \['maximize'\]"):
        open_ledger(tmp_path / "ledger.journal", "s", ["maximize"])
    open_ledger(tmp_path / "named", "s", ["minimize"], names=["fid"]).close()
    with pytest.raises(ConfigError, match=r"begun with objectives=\['fid'\], not \['kid'\]"):
        open_ledger(tmp_path / "named", "s", ["minimize"], names=["kid"])
    with opened(tmp_path) as ledger:
        with pytest.raises(ConfigError, match=r"another space: gan.lr_ratio=loguniform\(0.1,10\)"):
            ledger.ask(Space({"gan.lr_ratio": LogUniform(low=0.2, high=10)}))
        ledger.ask(SPACE)
        assert states(ledger) == ["COMPLETE", "RUNNING"]


def test_a_database_is_a_ledger_too(tmp_path: Path) -> None:
    for expected in (["RUNNING"], ["FAIL", "RUNNING"]):
        with open_ledger(f"sqlite:///{tmp_path / 'l.db'}", "s", ["minimize"], seed=0) as ledger:
            ledger.ask(SPACE)
            assert states(ledger) == expected


@pytest.mark.parametrize("url", ["postgresql://me:s3cret@localhost:1/db", "s3://me:s3cret@bucket/ledger"])
def test_a_database_that_cannot_be_opened_is_named_without_its_password(url: str) -> None:
    with pytest.raises(StoreError, match=r"me:\*\*\*@") as caught:
        open_ledger(url, "s", ["minimize"])
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_ledger_is_pickled(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger, pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(ledger)


def test_a_trial_that_pauses_still_does_when_the_ledger_is_opened_again(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        for step in (1, 2):
            number, _ = ledger.ask(SPACE)
            ledger.report(number, step, 3.0)
            ledger.pause(number, rung=0)
        ledger.park(0, HEALTHY)
        assert (ledger.running, ledger.paused) == ((1,), (0,))
    with opened(tmp_path) as ledger:
        assert (ledger.running, ledger.paused) == ((), (0, 1))
        assert [(row["state"], row["paused"], row["counts"]) for row in ledger.table()] == [
            ("RUNNING", 0, True)
        ] * 2
        ledger.go_on(1, 0)
        assert (ledger.running, ledger.paused) == ((1,), (0,))
        ledger.prune(0, HEALTHY, "asha", rung=0)
        assert ledger.paused == ()
    with opened(tmp_path) as ledger:
        assert states(ledger) == ["PRUNED", "FAIL", "WAITING"]  # what went on was cut off, and is asked again
        assert not any(row["paused"] for row in ledger.table())
        assert ledger.ask(SPACE)[0] == 2
        assert ledger.attributes(2)["passed"] == 1

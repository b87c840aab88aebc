"""Rounds of a retraining as flows in this process, against Prefect's temporary server; runs are inline."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import NotFound
from orchestrator.registry import Candidate, Registry
from orchestrator.retrain import rounds, settings
from orchestrator.retrain.retraining import parse
from orchestrator.retrain.source import look
from orchestrator.store import documents
from orchestrator.store.layout import round_key
from orchestrator.store.local import LocalObjects
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.reader import LOST_AFTER, Run
from tests.support.commands import ganctl
from tests.support.prefect import Api

SMALL = {
    "train.steps": 60,
    "train.batch": 32,
    "train.log_every": 10,
    "train.checkpoint_every": 20,
    "train.evaluate_every": 60,
    "train.sample_every": 60,
    "train.evaluate_samples": 128,
    "gan.width": 16,
    "health": {"hopeless": 0, "collapsed": 0, "lagging": 0, "partial": 0, "overpowering": 2, "vanished": 0},
}
SABOTAGED = SMALL | {"gan.lr_g": 1e6}


def apply(objects: Objects, **fields: Any) -> None:
    whole = {
        "name": "digits",
        "experiment": "vanilla.digits",
        "on": "inline",
        "overrides": SMALL,
        "evaluation": {"samples": 128, "resamples": 100},
    }
    settings.apply(objects, parse(whole | fields))


def retrain(objects: Objects, name: str = "digits", **asked: Any) -> Any:
    from flows.retraining import retrain as flow

    return flow(name, objects.url, return_state=True, **asked)


@pytest.fixture
def objects(file_store: str) -> Objects:
    return open_objects(file_store)


def test_the_first_round_promotes_and_shows_its_decision_and_the_next_is_held_against_it(
    prefect_api: Api, objects: Objects
) -> None:
    apply(objects)
    first = retrain(objects)
    assert (first.name, first.type.value) == ("Promoted", "COMPLETED"), first.message
    champion = Registry(objects).require("digits")
    assert (champion.version, champion.number) == (1, 1)
    assert champion.decision == round_key("digits", 1, "decision-1.json")
    shown = prefect_api.artifacts(prefect_api.last_flow_run()["id"])["decision-digits"]["data"]
    assert "promotes version 1" in shown
    assert "](data:image/png;base64,iVBOR" in shown
    apply(objects, start="fresh")
    second = retrain(objects)
    assert second.name == "Kept", second.message
    decision = documents.decode(objects.get(round_key("digits", 2, "decision-1.json")))
    assert decision["contestants"]["champion"]["promotion"] == 1
    assert set(decision["pictures"]) == {"champion", "challenger", "grids"}
    assert second.message == decision["reason"]
    ended = rounds.latest(objects, "digits")
    assert ended is not None
    assert ended.end_document()["outcome"] == "kept"  # type: ignore[index]
    assert Registry(objects).require("digits").number == 1


def test_the_second_round_begins_with_the_champions_weights_and_another_seed(
    prefect_api: Api, objects: Objects
) -> None:
    apply(objects)
    retrain(objects)
    champion = Registry(objects).require("digits")
    retrain(objects)
    latest = rounds.latest(objects, "digits")
    assert latest is not None
    (attempt,) = latest.attempts()
    experiment = Run(objects, attempt.run_id).document()["experiment"]
    assert experiment["start"] == attempt.start == f"{champion.run_id}@{champion.step}"
    assert experiment["seed"] == 1
    document = Run(objects, attempt.run_id).document()
    assert (document["retraining"], document["round"]) == ("digits", 2)


def test_a_round_that_diverges_is_tried_once_more_with_the_remedy_of_the_verdict(
    prefect_api: Api, objects: Objects
) -> None:
    apply(objects, overrides=SABOTAGED)
    assert retrain(objects).name == "Promoted"
    latest = rounds.latest(objects, "digits")
    assert latest is not None
    first, second = latest.attempts()
    assert (first.remedy, bool(second.remedy)) == ("", True)
    assert Run(objects, first.run_id).state() == "diverged"
    one, two = (Run(objects, a.run_id).document()["experiment"]["gan"] for a in (first, second))
    assert one["lr_g"] > two["lr_g"]
    assert Registry(objects).require("digits").run_id == second.run_id


def test_a_round_that_stays_ill_is_given_up_and_never_judged(prefect_api: Api, objects: Objects) -> None:
    apply(objects, overrides=SABOTAGED, remedies=0)
    ended = retrain(objects)
    assert ended.is_failed()
    assert re.search(r"ended diverged at step \d+ .*; the champion stays", ended.message)
    latest = rounds.latest(objects, "digits")
    assert latest is not None
    assert len(latest.attempts()) == 1
    assert latest.end_document()["outcome"] == "diverged"  # type: ignore[index]
    assert not objects.exists(round_key("digits", 1, "decision-1.json"))
    assert Registry(objects).champion("digits") is None


def test_a_round_whose_driver_died_is_driven_on_with_the_same_run(
    prefect_api: Api, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator.retrain.challenger import next_attempt

    apply(objects)
    version = look(settings.require(objects, "digits").retraining.trains())
    dead = rounds.begin(objects, "digits", "hand", version, 1)
    attempt = next_attempt(dead, "inline")
    assert attempt is not None
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + LOST_AFTER + 1)
    ended = retrain(objects)
    assert ended.name == "Promoted"
    assert objects.folders("runs") == [attempt.run_id]
    assert Registry(objects).require("digits").run_id == attempt.run_id
    assert rounds.latest(objects, "digits").number == 1  # type: ignore[union-attr]


def test_a_champion_that_another_promotes_meanwhile_is_met_in_another_contest(
    prefect_api: Api, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(objects)
    retrain(objects)
    other = Registry(objects).require("digits").run_id
    apply(objects, name="second", start="fresh")
    promote, raced = Registry.promote, []

    def outrun(registry: Registry, name: str, *args: Any, **kwargs: Any) -> Any:
        if not raced:
            raced.append(promote(registry, name, Candidate(other), 0, "by hand"))
        return promote(registry, name, *args, **kwargs)

    monkeypatch.setattr(Registry, "promote", outrun)
    retrain(objects, "second")
    second = documents.decode(objects.get(round_key("second", 1, "decision-2.json")))
    assert second["contestants"]["champion"]["run_id"] == other
    assert next(p.reason for p in Registry(objects).history("second")) == "by hand"


def test_on_a_store_without_conditional_writes_training_goes_on_and_nothing_is_promoted(
    prefect_api: Api, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalObjects, "create", LocalObjects.put)
    apply(objects)
    ended = retrain(objects)
    assert ended.is_failed()
    assert "a second create of the same object was not refused" in ended.message
    (run_id,) = objects.folders("runs")
    assert Run(objects, run_id).state() == "completed"
    assert Registry(objects).champion("digits") is None
    assert rounds.latest(objects, "digits").end_document()["outcome"] == "failed"  # type: ignore[union-attr, index]


def test_a_round_by_hand_runs_in_this_process_where_there_is_no_server(
    prefect_api: Api, objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    apply(objects)
    told = ganctl("retrain", "run", "digits", "--here", "--json", "--store", objects.url)
    assert json.loads(told.stdout)["state"] == "Promoted"
    apply(objects, overrides=SABOTAGED, remedies=0)
    told = ganctl("retrain", "run", "digits", "--here", "--store", objects.url, code=7)
    assert "Failed: round 2 of digits" in told.stdout


def test_an_unknown_or_paused_retraining_and_too_little_data_begin_no_round(
    prefect_api: Api, objects: Objects
) -> None:
    with pytest.raises(NotFound, match="no retraining 'nothing'"):
        retrain(objects, "nothing").result()
    apply(objects)
    settings.pause(objects, "digits")
    skipped = retrain(objects, trigger="cron")
    assert (skipped.name, skipped.message) == (
        "Skipped",
        "retraining digits is paused: `ganctl retrain resume digits`",
    )
    settings.resume(objects, "digits")
    assert retrain(objects).name == "Promoted"
    again = retrain(objects, trigger="data")
    assert again.name == "Skipped"
    assert "a round has used this data" in again.message
    assert len(rounds.rounds(objects, "digits")) == 1


def test_a_round_that_sweeps_trains_the_winner(
    prefect_api: Api, objects: Objects, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from flows import rounds as steps
    from orchestrator.sweep.folder import sweep_key

    swept: list[Any] = []

    def run_trials(sweep_id: str, experiment: Any, store: str, plan: Any, on: str) -> None:
        """Ray runs a real sweep in tests/test_sweep_cluster.py; here only its result counts."""
        swept.append((sweep_id, plan["trials"]))
        found = {"best": {"number": 3, "params": {"gan.lr_ratio": 2.5}}}
        objects.create(sweep_key(sweep_id, "result.json"), documents.encode(found))

    monkeypatch.setattr(steps, "run_trials", run_trials)
    apply(
        objects,
        sweep={"trials": 4},
        overrides=SMALL | {"search": {"gan.lr_ratio": {"kind": "loguniform", "low": 0.1, "high": 10}}},
    )
    assert retrain(objects).name == "Promoted"
    (latest,) = rounds.rounds(objects, "digits")
    assert swept == [(latest.run_id(0), 4)]
    (attempt,) = latest.attempts()
    assert Run(objects, attempt.run_id).document()["experiment"]["gan"]["lr_ratio"] == 2.5

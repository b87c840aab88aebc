"""What a round trains: the experiment of each of its attempts, and the run of it, announced once.

Everything follows from the store, so that whoever takes a round over finds or makes the very same.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from orchestrator.errors import AlreadyExists, NotFound
from orchestrator.experiment import Experiment, parse
from orchestrator.launch import announce_run
from orchestrator.preflight import check
from orchestrator.registry import Registry
from orchestrator.retrain.retraining import Retraining
from orchestrator.retrain.round import Attempt, Round
from orchestrator.retrain.settings import record
from orchestrator.start import mended, settled
from orchestrator.store import documents
from orchestrator.store.layout import run_key
from orchestrator.store.reader import Run
from orchestrator.sweep.folder import sweep_key

HOUR = 3600.0


def retraining_of(round_: Round) -> Retraining:
    """The retraining as it was set when the round began."""
    return record(round_.objects, round_.name, round_.document["settings"]).retraining


def first(round_: Round) -> Experiment:
    """The experiment that the round trains or sweeps: with the round's seed, within its budget, from the champion's
    weights where that is asked for and they are of the same family (a sweep starts anew). It stops at a verdict, which
    the round answers.
    """
    retraining = retraining_of(round_)
    chosen = retraining.trains()
    changes: dict[str, Any] = {
        "name": f"{round_.name} round {round_.number}",
        "seed": chosen.seed + round_.number - 1,
        "train.on_collapse": "stop",
    }
    if retraining.budget.hours is not None:
        limits = [retraining.budget.hours * HOUR, *filter(None, [chosen.train.seconds])]
        changes["train.seconds"] = min(limits)
    if retraining.sweep is None and retraining.start == "champion" and (start := _champions(round_, chosen)):
        changes["start"] = start
    return chosen.override(changes)


def sweep_id(round_: Round) -> str:
    """The id of the sweep of a round that sweeps: it is found again by who takes the round over."""
    return round_.run_id(0)


def _trains(round_: Round) -> Experiment:
    """What attempt 1 trains: the winner where the round swept."""
    chosen = first(round_)
    if retraining_of(round_).sweep is None:
        return chosen
    result = documents.decode(round_.objects.get(sweep_key(sweep_id(round_), "result.json")))
    return chosen.override(result["best"]["params"])


def next_attempt(round_: Round, on: str) -> Attempt | None:
    """The attempt to go on with, its run announced: the newest that has not ended, or one more with the remedy of the
    verdict that the last one ended with. None where the last one ended well, or no remedy is left or known. `on` is
    where it will be trained.

    Raises what `preflight.check` raises; nothing is announced then.
    """
    made = round_.attempts()
    if not made:
        return _announced(round_, on, 1, _trains(round_), "")
    last = made[-1]
    if not round_.objects.exists(run_key(last.run_id, "run.json")):
        return _again(round_, on, made)
    if Run(round_.objects, last.run_id).sealed() is None:
        return last
    return _mended(round_, on, made)


def _mended(round_: Round, on: str, made: list[Attempt]) -> Attempt | None:
    if len(made) > retraining_of(round_).remedies:
        return None
    answer = mended(round_.objects, made[-1].run_id)
    return None if answer is None else _announced(round_, on, len(made) + 1, *answer)


def _again(round_: Round, on: str, made: list[Attempt]) -> Attempt | None:
    """The newest attempt, whose driver died before its run was announced."""
    last = made[-1]
    if len(made) > 1:
        answer = mended(round_.objects, made[-2].run_id)
        assert answer is not None
        return _announced(round_, on, last.number, *answer)
    start = {"start": last.start or None}
    return _announced(round_, on, 1, _trains(round_).override(start), "")


def _announced(round_: Round, on: str, number: int, experiment: Experiment, remedy: str) -> Attempt:
    experiment = settled(experiment, round_.objects)
    check(experiment, round_.objects, on)
    attempt = round_.attempt(number, experiment.start or "", remedy)
    labels = {
        "retraining": round_.name,
        "round": round_.number,
        "attempt_of_round": number,
        "submission": attempt.submission,
    }
    with suppress(AlreadyExists):
        announce_run(round_.objects, experiment, attempt.run_id, **labels)
    return attempt


def _champions(round_: Round, experiment: Experiment) -> str:
    """RUN@STEP of the champion's checkpoint; empty where there is none that this experiment could begin with."""
    champion = Registry(round_.objects).champion(round_.name)
    if champion is None:
        return ""
    try:
        theirs = parse(Run(round_.objects, champion.run_id).document()["experiment"])
    except NotFound:
        return ""
    same = type(theirs.gan) is type(experiment.gan) and _shape(theirs) == _shape(experiment)
    return f"{champion.run_id}@{champion.step}" if same else ""


def _shape(experiment: Experiment) -> dict[str, Any]:
    """What of the family decides which weights there are: everything that a run may not change on its way."""
    return experiment.gan.model_dump(mode="json", exclude=set(experiment.gan.scalars))

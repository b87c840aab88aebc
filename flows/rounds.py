"""The steps of a retraining's round, as tasks. Each may be tried again, and goes on where the one before stopped:
everything they know is in the store.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect import runtime, task
from prefect.logging import get_run_logger

from flows.steps import DELAYS, flow_run, only_after, run_trials, train_run
from orchestrator.errors import Busy, NothingNew, OverBudget, StoreError
from orchestrator.outcome import outcome_of
from orchestrator.retrain import rounds, settings
from orchestrator.retrain.challenger import first, next_attempt, retraining_of, sweep_id
from orchestrator.retrain.contest import contest
from orchestrator.retrain.round import Round
from orchestrator.retrain.source import look
from orchestrator.store.objects import open_objects
from orchestrator.store.reader import Run

Document = dict[str, Any]


def begin(name: str, store: str, trigger: rounds.Trigger, force: bool) -> Round | str:
    """The round to drive: a new one on the data as it is now, or the last one, whose driver is gone. Else why there is
    none. Raises NotFound where there is no such retraining; Busy where its last round is under way.
    """
    objects = open_objects(store)
    now = settings.require(objects, name)
    if now.paused and trigger != "hand":
        return f"retraining {name} is paused: `ganctl retrain resume {name}`"
    version = look(now.retraining.trains())
    try:
        return rounds.begin(objects, name, trigger, version, now.number, force, flow_run())
    except (NothingNew, OverBudget) as error:
        return str(error)


@contextmanager
def driving(round_: Round) -> Iterator[None]:
    """Drive the round meanwhile. What ends this flow ends the round, unless it may be driven on: a process that is
    cut off or cancelled leaves it open. Raises what its body raises.
    """
    try:
        with round_.attending(flow_run()):
            yield
    except Exception as error:
        if not isinstance(error, Busy):
            round_.end("failed", reason=" ".join(str(error).split())[:500])
        raise


def train_challenger(round_: Round, on: str) -> Document:
    """Train on `on`, or where the retraining says, until an attempt ends well or no remedy is left.

    Returns how the last one ended: `vars` of an Outcome.
    """
    retraining = retraining_of(round_)
    store, on = round_.objects.url, on or retraining.on
    if retraining.sweep is not None and not round_.attempts():
        run_trials(sweep_id(round_), first(round_).document(), store, retraining.sweep, on)
    trained: Document = {}
    while (attempt := next_attempt(round_, on)) is not None:
        if attempt.remedy:
            get_run_logger().warning(
                "attempt %s of round %s, from %s: %s",
                attempt.number,
                round_.number,
                attempt.start or "anew",
                attempt.remedy,
            )
        trained = train_run(attempt.run_id, store, on)
    return trained or vars(outcome_of(Run(round_.objects, round_.attempts()[-1].run_id)))


@task(
    name="judge and promote",
    retries=len(DELAYS),
    retry_delay_seconds=DELAYS,
    retry_condition_fn=only_after(StoreError, OSError),
)
def judge(name: str, store: str, number: int, run_id: str) -> Document:
    """Champion against challenger, and the promotion where the gate says so."""
    by = f"flow run {flow_run()}" if flow_run() else ""
    return contest(Round(open_objects(store), name, number), run_id, by)


def title() -> str:
    """`retrain faces (data)`: what the flow run at hand does."""
    asked = runtime.flow_run.parameters
    return f"{runtime.flow_run.flow_name} {asked['name']} ({asked.get('trigger', 'hand')})"

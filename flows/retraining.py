"""A retraining's round as a flow: the model in use gets better, never worse, and every change can be explained.

A round that ends well ends its flow run `Completed`, whether or not it promoted; one that collapsed, diverged or failed
ends it `Failed`, with the reason. A flow run that is cut off leaves its round open, and the next one drives it on.
"""

from __future__ import annotations

import time
from typing import Annotated, Any

from prefect import State, flow
from prefect.client.schemas.objects import FlowRun
from prefect.flows import Flow
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed
from pydantic import Field

from flows.artifacts import show_decision, show_samples
from flows.rounds import begin, driving, judge, title, train_challenger
from orchestrator.errors import Busy, RunFailed
from orchestrator.owners import free
from orchestrator.retrain import settings
from orchestrator.retrain.round import Round
from orchestrator.retrain.rounds import Trigger
from orchestrator.store.objects import open_objects

Document = dict[str, Any]
QUEUE_SECONDS = 15.0


def let_go(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Free what the jobs of a cancelled flow run hold."""
    free(open_objects(flow_run.parameters["store"]), str(flow_run.id))


@flow(
    name="retrain",
    flow_run_name=title,
    description="Train a challenger on the data as it is now, and promote it if it is better than the champion.",
    on_cancellation=[let_go],
)
def retrain(
    name: Annotated[str, Field(min_length=1)],
    store: str,
    trigger: Trigger = "hand",
    force: bool = False,
    on: str = "",
) -> Document | State[Any]:
    """One round: take the data's fingerprint, train, judge champion and challenger, promote or keep, report.

    Args:
        name: The retraining, as `ganctl retrain list` shows it.
        store: Where it is, and its results go: a folder or s3://bucket/prefix.
        trigger: What asked for it: cron, data, event or hand. With data, nothing is done where too little is new.
        force: Begin also where the budget allows no more rounds today.
        on: Where to train: inline, local, or http://HEAD:8265; empty for where the retraining says.
    """
    round_ = wait_for_turn(name, store, trigger, force)
    if not isinstance(round_, Round):
        return Completed(name="Skipped", message=round_)
    with driving(round_):
        trained = train_challenger(round_, on)
        show_samples(store, trained)
        if trained["state"] != "completed":
            return given_up(round_, trained)
        decided = judge(name, store, round_.number, trained["run_id"])
        show_decision(store, name, round_.number, decided)
        return ended(round_, decided)


def wait_for_turn(name: str, store: str, trigger: Trigger, force: bool) -> Round | str:
    """The round to drive, or why there is none; where another is under way, as `overlap` says."""
    while True:
        try:
            return begin(name, store, trigger, force)
        except Busy as error:
            if settings.require(open_objects(store), name).retraining.overlap == "refuse":
                return f"{error}; overlap = refuse"
            get_run_logger().info("%s; waiting for it to end", error)
            time.sleep(QUEUE_SECONDS)


def given_up(round_: Round, trained: Document) -> State[Any]:
    """A round whose last attempt ended ill: nothing reaches the gate."""
    attempts = round_.attempts()
    tried = "; ".join(f"tried {a.remedy}" for a in attempts if a.remedy)
    outcome = trained["state"] if trained["state"] in ("collapsed", "diverged") else "failed"
    what = f"run {trained['run_id']} ended {trained['state']} at step {trained['step']}"
    where = f"round {round_.number} of {round_.name}"
    reason = (
        f"{where}: {what} ({trained['verdict']['kind']}){'; ' + tried if tried else ''}; the champion stays"
    )
    round_.end(outcome, reason=reason, run=trained["run_id"], figures=trained["figures"])
    return Failed(message=reason, data=RunFailed(reason))


def ended(round_: Round, decided: Document) -> State[Any]:
    """A round that was decided."""
    made = decided["promoted"]
    told = {"reason": decided["reason"], "decision": decided["key"], "run": challenger(decided)["run_id"]}
    figures = {name: f["value"] for name, f in challenger(decided)["figures"].items()}
    if made is None:
        round_.end("kept", figures=figures, **told)
        return Completed(name="Kept", message=decided["reason"], data=told)
    round_.end("promoted", figures=figures, version=made["version"], promotion=made["number"], **told)
    return Completed(
        name="Promoted", message=f"version {made['version']}: {decided['reason']}", data=told | made
    )


def challenger(decided: Document) -> Document:
    """The challenger's part of a decision document."""
    part: Document = decided["contestants"]["challenger"]
    return part

"""The reconciler: no job without a flow run that answers for it, no flow run without a process behind it, no round that
nobody drives. It only acts on what the store and Prefect both say, so that it may run at any time, any number of times.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from prefect import State, flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_run_logger
from prefect.states import Cancelled, Completed, Crashed

from flows.ask import ask
from orchestrator.errors import GanctlError
from orchestrator.owners import free, owned
from orchestrator.retrain import settings
from orchestrator.retrain.round import Round
from orchestrator.retrain.rounds import latest
from orchestrator.store.objects import Objects, open_objects

CANCEL_SECONDS = 60.0  # that a flow run may be Cancelling, before it is done for it
MOST_DRIVERS = 5  # of one round; then it has failed
LEFT = "Runner is shutting down"  # Prefect's message on flow runs of a worker that was told to end


@flow(
    name="reconcile", description="End what nobody answers for; have rounds driven on whose process is gone."
)
def reconcile(store: str) -> State[Any]:
    """Look once at every open round, and at every job.

    Args:
        store: Which store: a folder or s3://bucket/prefix.
    """
    objects, done = open_objects(store), []
    with get_client(sync_client=True) as client:
        for round_ in _open(objects):
            done += _see_to(client, round_)
        done += _orphans(client, objects)
    for said in done:
        get_run_logger().warning(said)
    return Completed(message="; ".join(done) or "all is in order")


def _see_to(client: SyncPrefectClient, round_: Round) -> list[str]:
    """One open round: what was done about it."""
    driver = round_.driver_document()
    state = _state(client, driver.get("flow_run", ""))
    where = f"round {round_.number} of {round_.name}"
    if state is not None and state.type == StateType.CANCELLED and LEFT not in (state.message or ""):
        free(round_.objects, driver["flow_run"])
        round_.end("cancelled", reason=state.message or "cancelled in Prefect")
        return [f"{where}: its flow run was cancelled"]
    if state is not None and state.type == StateType.CANCELLING and _age(state) > CANCEL_SECONDS:
        free(round_.objects, driver["flow_run"])
        client.set_flow_run_state(UUID(driver["flow_run"]), Cancelled(message="nobody heeded it"), force=True)
        round_.end("cancelled", reason="cancelled in Prefect")
        return [f"{where}: cancelled in its stead, after {CANCEL_SECONDS:.0f} s"]
    over = state is not None and state.is_final()
    if not over and round_.state() != "lost":
        return []
    if state is not None and not over:
        said = "nothing was heard of its process for a minute"
        client.set_flow_run_state(UUID(driver["flow_run"]), Crashed(message=said), force=True)
    return [_successor(round_, where)]


def _successor(round_: Round, where: str) -> str:
    """Have somebody drive the round on; its job, where one runs, is attached to."""
    drivers = round_.drivers
    if drivers >= MOST_DRIVERS:
        free(round_.objects, str(round_.driver_document().get("flow_run", "")))
        round_.end("failed", reason=f"its flow runs died, {drivers} of them")
        return f"{where}: given up after {drivers} flow runs"
    try:
        once = f"{round_.name} {round_.number} {drivers}"
        asked = ask(round_.name, {"trigger": round_.document["trigger"]}, once, round_.objects.url)
    except GanctlError as error:
        return f"{where}: {error}"
    return f"{where}: its driver is gone, flow run {asked} drives it on"


def _orphans(client: SyncPrefectClient, objects: Objects) -> list[str]:
    """Stop the jobs whose flow run is over, but those of a round that is to be driven on."""
    done = []
    awaited = {round_.driver_document().get("flow_run") for round_ in _open(objects)}
    for owner in sorted({driver["owner"] for _, driver in owned(objects)} - awaited):
        state = _state(client, owner)
        if state is None or not state.is_final():
            continue
        done += [f"run {run_id}: its flow run {owner} is over" for run_id in free(objects, owner)]
    return done


def _open(objects: Objects) -> Iterator[Round]:
    """The last round of each retraining that has not ended."""
    for name in settings.names(objects):
        last = latest(objects, name)
        if last is not None and last.end_document() is None:
            yield last


def _state(client: SyncPrefectClient, flow_run: str) -> State[Any] | None:
    """The state of a flow run; None where this server knows none of that id."""
    if not flow_run:
        return None
    try:
        return client.read_flow_run(UUID(flow_run)).state
    except (ObjectNotFound, ValueError):
        return None


def _age(state: State[Any]) -> float:
    """Seconds since the state was set."""
    return time.time() - state.timestamp.timestamp() if state.timestamp else 0.0

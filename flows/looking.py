"""The light flow of a data trigger: has enough of a retraining's data changed? Then a round is asked for, once."""

from __future__ import annotations

from typing import Any

from prefect import State, flow
from prefect.states import Completed

from flows.ask import ask
from flows.rounds import title
from orchestrator.retrain import rounds, settings
from orchestrator.retrain.source import look
from orchestrator.store.objects import open_objects


@flow(
    name="look-for-data",
    flow_run_name=title,
    description="Ask for a round of a retraining once enough of its data is new.",
)
def look_for_data(name: str, store: str) -> State[Any]:
    """Compare the data as it is with that of the last round; nothing is decoded or trained.

    Args:
        name: The retraining.
        store: Where it is: a folder or s3://bucket/prefix.
    """
    objects = open_objects(store)
    now = settings.require(objects, name)
    if now.paused:
        return Completed(name="Skipped", message=f"retraining {name} is paused")
    version = look(now.retraining.trains())
    if lacking := rounds.nothing_new(objects, name, version, now.retraining.triggers.data):
        return Completed(name="Skipped", message=lacking)
    asked = ask(name, {"trigger": "data"}, f"{name} {version.fingerprint}", objects.url)
    return Completed(message=f"{version.items} items ({version.fingerprint}): flow run {asked}")

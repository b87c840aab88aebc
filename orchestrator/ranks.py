"""A rank as Ray Train starts it: what `orchestrator.worker` is told of Ray."""

from __future__ import annotations

from typing import Any

from orchestrator.errors import Preempted, Stopped, Superseded
from orchestrator.store.objects import open_objects
from orchestrator.store.reader import Run
from orchestrator.worker import work


def train_worker(config: dict[str, Any]) -> None:
    """One rank. It returns, and Ray Train with it, where the run left for a reason: the driver reads that from the
    store. Whatever else it raises is retried."""
    import ray.train
    from ray.train.torch import get_device

    from gans.sync import Alone, Group

    if Run(open_objects(config["store"]), config["run_id"]).sealed() is not None:
        return  # a worker died, or said why it cannot go on, when the run had ended: there is nothing to retry
    alone = ray.train.get_context().get_world_size() == 1
    sync = Alone() if alone else Group()
    try:
        work(config["store"], config["run_id"], sync, get_device(), config["on_tick"], notice=_drained)
    except (Stopped, Preempted, Superseded):
        return


def _drained() -> str:
    """`preempted` once a node under one of the ranks is drained, as Ray Train told this process.

    `ray.train.get_preemption_info` would ask all ranks through the controller, at every tick.
    """
    from ray.train.v2._internal.execution.context import get_train_context

    info = get_train_context().preemption_context.preemption_info
    return "" if info is None else "preempted"

"""The function that Ray Tune runs in an actor: it works off the trials it is given. Heavy imports are the actor's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Trainable = Callable[[dict[str, Any]], None]


def trainable_of(experiment: dict[str, Any], store: str, sweep_id: str, desk: Any, packed: bool) -> Trainable:
    """The trainable of a sweep. Its config is `{"trials": [Assignment as dict, ...]}`."""

    def run_trials(config: dict[str, Any]) -> None:
        from orchestrator.store.objects import open_objects
        from orchestrator.sweep.conductor import Assignment
        from orchestrator.sweep.host import Host, scene_of

        host = Host(open_objects(store), experiment, sweep_id, desk, scene_of(store))
        host.run([Assignment(**given) for given in config["trials"]], packed)

    return run_trials

"""The function that Ray Tune runs in an actor: it works off the trials it is given. Heavy imports are the actor's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from orchestrator.sweep.desk import orders_of
from orchestrator.sweep.messages import Answers, Assignment, Beat

Trainable = Callable[[dict[str, Any]], None]


def trainable_of(experiment: dict[str, Any], store: str, sweep_id: str, desk: Any, packed: bool) -> Trainable:
    """The trainable of a sweep. Its config is `{"trials": [Assignment as dict, ...]}`."""

    def run_trials(config: dict[str, Any]) -> None:
        from orchestrator.store.objects import open_objects
        from orchestrator.sweep.host import Host, scene_of

        host = Host(open_objects(store), experiment, sweep_id, through(desk), scene_of(store), desk)
        host.run([Assignment(**given) for given in config["trials"]], packed)

    return run_trials


def through(desk: Any) -> Callable[[list[Beat]], Answers]:
    """Tells the driver of the Tune trial that we are in, and returns its answers.

    `tune.report` returns once the driver has heard; then the orders are at the desk, or on their way to it.
    """
    from ray import get, tune

    box = orders_of(tune.get_context().get_trial_id())

    def tell(beats: list[Beat]) -> Answers:
        tune.report({"beats": [asdict(beat) for beat in beats]})
        orders: Answers = get(desk.take.remote(box))
        return orders

    return tell

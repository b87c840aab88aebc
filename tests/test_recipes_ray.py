"""Every recipe trains data-parallel: two workers of Ray Train, a few steps each.

One worker group trains them one after the other: starting a group for each would take most of the time.
"""

from __future__ import annotations

import math
from typing import Any

import pytest

from orchestrator.launch import announce_run
from orchestrator.outcome import Outcome, ended
from orchestrator.recipes import RECIPES, load
from orchestrator.store.documents import decode
from orchestrator.store.layout import attempt_key
from orchestrator.store.objects import open_objects
from orchestrator.store.reader import Run
from tests.support.rays import local_ray
from tests.support.threads import one_thread

__all__ = ["local_ray", "one_thread"]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("local_ray"), pytest.mark.timeout(1200)]

TINY = {
    "scale.workers": 2,
    "train.steps": 2,
    "train.batch": 16,
    "train.log_every": 1,
    "train.evaluate_every": 0,
    "train.evaluate_samples": 16,
    "train.sample_every": 0,
    "train.sample_grid": 4,
    "train.checkpoint_every": 0,
}


def train_all(config: dict[str, Any]) -> None:
    """What each of the two workers does."""
    from orchestrator.ranks import train_worker

    for run_id in config["runs"]:
        train_worker({"store": config["store"], "run_id": run_id, "on_tick": None})


@pytest.fixture(scope="module")
def runs(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """The run of every recipe, by name, in one store, so that recipes of the same data share its classifier."""
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    objects = open_objects(str(tmp_path_factory.mktemp("store")))
    made = {name: announce_run(objects, load(name).override(TINY)) for name in RECIPES}
    TorchTrainer(
        train_all,
        train_loop_config={"store": objects.url, "runs": list(made.values())},
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ray.train.ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1}),
        run_config=ray.train.RunConfig(name="recipes", storage_path=str(tmp_path_factory.mktemp("ray"))),
    ).fit()
    return {name: Run(objects, run_id) for name, run_id in made.items()}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_on_two_workers(name: str, runs: dict[str, Run]) -> None:
    run = runs[name]
    outcome: Outcome = ended(run)
    assert (outcome.state, outcome.step) == ("completed", 2)
    assert decode(run.objects.get(attempt_key(run.id, 1)))["workers"] == 2
    assert all(math.isfinite(value) for value in outcome.figures.values())
    assert run.metrics()["step"].to_pylist() == [1, 2]
    assert [step for step, _ in run.samples()] == [2]

"""Every recipe trains data-parallel: two workers of Ray Train, a few steps each, on one Ray for all of them."""

from __future__ import annotations

import math

import pytest

from orchestrator.launch import submit
from orchestrator.recipes import RECIPES, load
from orchestrator.store.objects import open_objects
from orchestrator.store.reader import Run
from tests.support.rays import local_ray
from tests.support.threads import one_thread

__all__ = ["local_ray", "one_thread"]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("local_ray")]

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


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One store for all, so that recipes of the same data share its classifier."""
    return str(tmp_path_factory.mktemp("store"))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_on_two_workers(name: str, store: str) -> None:
    experiment = load(name).override(TINY)
    outcome = submit(experiment, store, "local").wait()
    assert (outcome.state, outcome.step) == ("completed", 2)
    assert all(math.isfinite(value) for value in outcome.figures.values())
    run = Run(open_objects(store), outcome.run_id)
    assert run.metrics()["step"].to_pylist() == [1, 2]
    assert [step for step, _ in run.samples()] == [2]

"""Sweeps of data-parallel trials, and populations whose members take over from each other while they train."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.errors import ResourceError
from orchestrator.experiment import Experiment
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.reader import Run
from orchestrator.sweep.driver import run_sweep
from orchestrator.sweep.folder import SweepResult
from orchestrator.sweep.plan import Plan
from orchestrator.sweep.space import Choice, LogUniform
from tests.support.exactness import check_exact
from tests.support.rays import local_ray, restored_environment
from tests.support.threads import one_thread
from tests.test_sweep import searching

__all__ = ["local_ray", "one_thread"]

pytestmark = pytest.mark.slow

STEPS, EVERY = 60, 20
PATIENCE_SECONDS = 15.0


def grouped(space: dict[str, Any], workers: int = 2, **changes: Any) -> Experiment:
    """Sixty steps on 8 px digits on two workers, evaluated at three rungs."""
    few = {"train.steps": STEPS, "train.log_every": 10, "train.evaluate_every": EVERY}
    few |= {"train.checkpoint_every": EVERY, "gan.width": 8, "scale.workers": workers}
    return searching(space, **(few | changes))


def groups() -> list[str]:
    """The placement groups of workers that there are now; Tune's own have one bundle."""
    import ray

    table = ray.util.placement_group_table().values()
    return [g["placement_group_id"] for g in table if g["state"] != "REMOVED" and len(g["bundles"]) > 1]


@dataclass
class Groups:
    """What is seen of placement groups while a sweep runs: how many at once, and how many when a trial had ended."""

    at_once: set[int] = field(default_factory=set)
    after_ends: list[int] = field(default_factory=list)

    def hear(self, beat: dict[str, Any]) -> None:
        """A trial that ends leaves no group behind: its last word comes when its group has gone."""
        if beat["label"] == "sweep":
            return
        now = len(groups())
        if beat["end"]:
            self.after_ends.append(now)
        else:
            self.at_once.add(now)


def test_groups_of_a_sweep_end_with_their_trials(local_ray: None, file_store: str) -> None:
    seen = Groups()
    rates = {"gan.lr_g": Choice(options=(1e-6, 1e-3))}
    plan = Plan(trials=5, sampler="random", on_collapse="ignore")
    with restored_environment():
        result = run_sweep(grouped(rates, seed=1), file_store, plan, progress=seen.hear)
        eventually(lambda: groups() == [])
    objects = open_objects(file_store)
    check_exact(objects, result.sweep_id, 5)
    assert seen.at_once == {1}
    assert seen.after_ends == [0] * 5
    assert {row["state"] for row in result.trials} == {"COMPLETE", "PRUNED"}
    for row in result.trials:
        assert row["rung"] is not None if row["state"] == "PRUNED" else row["step"] == STEPS


def eventually(true: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_group_that_no_machine_can_hold_is_refused_with_the_arithmetic(file_store: str) -> None:
    rates = {"gan.lr_g": Choice(options=(1e-6, 1e-3))}
    cores = len(os.sched_getaffinity(0))
    begun = time.monotonic()
    with pytest.raises(
        ResourceError, match=f"{cores + 1} workers x 1 CPU = {cores + 1} CPUs, there are {cores}"
    ):
        run_sweep(grouped(rates, workers=cores + 1), file_store, Plan(trials=2))
    assert time.monotonic() - begun < 5
    assert not any(Path(file_store.removeprefix("file://")).rglob("*"))


def test_what_cleans_up_after_a_group_asks_the_ray_that_it_belongs_to(local_ray: None) -> None:
    """Left to look for one, it gives up where another Ray runs on the same machine."""
    import ray
    from ray._private.worker import get_dashboard_url

    asked = ray.remote(lambda: os.environ["RAY_API_SERVER_ADDRESS"])
    assert ray.get(asked.remote()) == f"http://{get_dashboard_url()}"


def test_a_host_that_dies_takes_its_group_along_and_its_trial_is_begun_again(
    local_ray: None, file_store: str
) -> None:
    objects = open_objects(file_store)
    plan = Plan(trials=1, stop="none", on_collapse="ignore")
    killed: list[str] = []

    def kill_once(beat: dict[str, Any]) -> None:
        """While the trial trains kill Tune's actor, which Ray titles by its class."""
        if killed or beat["label"] != "trial 0" or beat["done"] == 0.0:
            return
        killed.extend(groups())
        mine = psutil.Process().children(recursive=True)
        [host] = [process for process in mine if process.name().startswith("ray::ImplicitFu")]
        host.kill()

    with restored_environment():
        result = run_sweep(
            grouped({"gan.lr_g": Choice(options=(1e-3,))}, seed=1, **{"train.steps": 400}),
            file_store,
            plan,
            progress=kill_once,
        )
        assert len(killed) == 1
        assert set(groups()).isdisjoint(killed)
        eventually(lambda: groups() == [])
    check_exact(objects, result.sweep_id, 1)
    assert [row["end"] for row in result.trials] == ["interrupted", "complete"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_member_of_a_population_that_does_badly_goes_on_from_a_good_one(
    workers: int, local_ray: None, file_store: str
) -> None:
    """Of this seed's four members the last one has a critic that does not learn, so it never beats the others."""
    space = {"gan.lr_g": LogUniform(low=2e-3, high=6e-3), "gan.lr_ratio": Choice(options=(1e-6, 3.0))}
    steps = {"train.steps": 300, "train.evaluate_every": 100, "train.log_every": 50, "gan.width": 16}
    plan = Plan(trials=4, population=True, sampler="random")
    with restored_environment():
        result = run_sweep(grouped(space, workers, seed=26, **steps), file_store, plan)
        eventually(lambda: groups() == [])
    objects = open_objects(file_store)
    check_exact(objects, result.sweep_id, 4)
    assert [row["params"]["gan.lr_ratio"] < 1 for row in result.trials] == [False, False, False, True]
    assert [row["number"] for row in result.trials if row["lineage"]] == [3]
    last = result.trials[3]
    for entry in last["lineage"]:
        _exploited(objects, result, last, entry)
    assert last["figures"]["fid"] < 100 < _fid_at(objects, last, last["lineage"][0]["step"])


def _exploited(objects: Objects, result: SweepResult, row: dict[str, Any], entry: dict[str, Any]) -> None:
    """What the lineage says of a member is what its run did."""
    donor = result.trials[entry["from"]]
    fields = entry["changes"]
    assert fields["gan.lr_ratio"] in (1e-6, 3.0)
    assert fields["gan.lr_g"] not in (row["params"]["gan.lr_g"], donor["params"]["gan.lr_g"])
    sealed = Run(objects, row["run_id"]).sealed() or {}
    assert row["changes"] == sealed["changes"]
    [change] = [change for change in sealed["changes"] if change["step"] == entry["step"]]
    assert {f"gan.{name}": value for name, value in change["fields"].items()} == fields
    assert f"the weights of run {donor['run_id']} at step {entry['from_step']}" in change["why"]


def _fid_at(objects: Objects, row: dict[str, Any], step: int) -> float:
    """FID of a trial's run at `step`."""
    curve = Run(objects, row["run_id"]).metrics().to_pylist()
    return float(next(point["fid"] for point in curve if point["step"] == step))

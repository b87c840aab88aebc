"""How many trials run at once, and how many as one model."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.cluster import GROUP_HEAD_BYTES, Capacity
from orchestrator.errors import ConfigError, ResourceError
from orchestrator.experiment import Experiment, Scale
from orchestrator.recipes import load
from orchestrator.sweep.packs import LARGEST, pack_size
from orchestrator.sweep.plan import Plan
from orchestrator.sweep.space import Choice, LogUniform, Space

BALANCE = Space({"gan.lr_ratio": LogUniform(low=0.1, high=10), "gan.lr_g": LogUniform(low=1e-4, high=1e-2)})
WIDTH = Space({**BALANCE.root, "gan.width": Choice(options=(32, 64))})


def searching(space: Space, **changes: Any) -> Experiment:
    return load("vanilla.digits").override(changes).model_copy(update={"search": space})


@pytest.mark.parametrize(
    ("capacity", "scale", "most"),
    [
        (Capacity(cpus=8, gpus=0), Scale(), 8),
        (Capacity(cpus=8, gpus=0), Scale(cpus_per_worker=3), 2),
        (Capacity(cpus=64, gpus=8), Scale(), 8),
        (Capacity(cpus=64, gpus=8), Scale(gpus_per_worker=0.25), 32),
        (Capacity(cpus=64, gpus=8, head_memory=1e12), Scale(workers=4), 2),
        (Capacity(cpus=64, gpus=64, head_memory=3 * GROUP_HEAD_BYTES), Scale(workers=4), 3),
        (Capacity(cpus=64, gpus=64, head_memory=0.0), Scale(workers=4), 1),
        (Capacity(cpus=2, gpus=0, head_memory=0.0), Scale(), 2),
    ],
)
def test_as_many_trials_run_at_once_as_devices_and_the_heads_memory_hold(
    capacity: Capacity, scale: Scale, most: int
) -> None:
    assert capacity.concurrent(scale) == most


def test_a_trial_that_can_never_fit_is_refused_with_the_arithmetic() -> None:
    with pytest.raises(ResourceError, match="3 workers x 1 CPU = 3 CPUs, there are 2"):
        Capacity(cpus=2, gpus=0).concurrent(Scale(workers=3))


@pytest.mark.parametrize(
    ("plan", "size"),
    [
        (Plan(trials=28), 7),
        (Plan(trials=1000), LARGEST),
        (Plan(trials=16), 4),
        (Plan(trials=12), 1),
        (Plan(trials=28, pack=1), 1),
        (Plan(trials=28, pack=5), 5),
        (Plan(hours=1.0), 1),
        (Plan(trials=28, population=True), 1),
        (Plan(trials=28, on_collapse="remedy"), 1),
    ],
)
def test_trials_of_one_architecture_are_packed_as_far_as_the_sampler_can_still_learn(
    plan: Plan, size: int
) -> None:
    assert pack_size(searching(BALANCE), plan, hosts=2) == size


def test_trials_of_several_architectures_are_packed_only_where_that_is_asked_for() -> None:
    assert pack_size(searching(WIDTH), Plan(trials=28), hosts=2) == 1
    assert pack_size(searching(WIDTH), Plan(trials=28, pack=4), hosts=2) == 4


@pytest.mark.parametrize(
    ("plan", "changes", "why"),
    [
        (Plan(pack=4, population=True), {}, "members of a population"),
        (Plan(pack=4, on_collapse="remedy"), {}, "given a remedy"),
        (Plan(pack=4), {"scale.workers": 2}, "2 workers"),
    ],
)
def test_a_pack_that_cannot_be_is_refused(plan: Plan, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=f"pack = 4: .*{why}"):
        pack_size(searching(BALANCE, **changes), plan, hosts=1)

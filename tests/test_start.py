"""A run that begins with the weights of another: `Experiment.start`, and the remedy of one that collapsed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gans.checkpoint import unpack
from gans.errors import ConfigError
from gans.loop import train
from gans.sync import Alone
from gans.training import State, Training
from orchestrator.errors import NotFound
from orchestrator.experiment import Experiment, parse
from orchestrator.launch import submit
from orchestrator.start import mended, settled
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.reader import Run
from tests.support.runs import OPTIONS, state_after, tiny

CPU = torch.device("cpu")
DIGITS: dict[str, Any] = {
    "name": "digits",
    "gan": {"family": "vanilla", "width": 8, "depth": 1},
    "data": {"kind": "digits"},
    "train": {
        "steps": 20,
        "batch": 16,
        "log_every": 5,
        "checkpoint_every": 10,
        "evaluate_every": 10,
        "evaluate_samples": 64,
        "on_collapse": "ignore",
        "sample_every": 0,
    },
}


def digits(**changes: Any) -> Experiment:
    return parse(DIGITS).override({name.replace("__", "."): value for name, value in changes.items()})


@pytest.fixture
def objects(file_store: str) -> Objects:
    return open_objects(file_store)


def trained(objects: Objects, **changes: Any) -> str:
    return submit(digits(**changes), objects.url).wait().run_id


def same(a: State, b: State, part: str) -> bool:
    return all(
        torch.equal(v, b[part][net][k]) for net, tensors in a[part].items() for k, v in tensors.items()
    )


@pytest.mark.parametrize("tag", ["vanilla", "dcgan", "cyclegan", "stylegan2"])
def test_a_run_begins_with_the_weights_averages_and_optimisers_of_the_other_and_counts_from_zero(
    tag: str,
) -> None:
    before = state_after(tag, steps=4)
    family, dataset = tiny(tag)
    begun = Training(family, dataset, OPTIONS, 1, CPU, Alone(), before).state()
    assert same(before, begun, "networks")
    assert same(before, begun, "averages")
    assert str(before["optimisers"]) == str(begun["optimisers"])
    assert begun["position"]["step"] == begun["position"]["images"] == 0


def test_a_remedy_without_a_sound_checkpoint_goes_back_to_the_weights_it_began_with() -> None:
    before = state_after("vanilla", steps=4)
    family, dataset = tiny("vanilla")
    training = Training(family, dataset, OPTIONS, 1, CPU, Alone(), before)
    training.run_step()
    assert same(before, training.initial(), "networks")


def test_weights_of_another_shape_are_refused_by_name() -> None:
    family, dataset = tiny("vanilla", width=16)
    with pytest.raises(ConfigError, match=r"field `start`: these weights do not fit Vanilla .*size mismatch"):
        next(train(family, dataset, OPTIONS, device=CPU, start=state_after("vanilla", steps=4)))


def test_a_run_names_the_step_that_it_began_with_and_its_own_seed_goes_on_from_there(
    objects: Objects,
) -> None:
    first = trained(objects)
    second = Run(objects, trained(objects, start=first, seed=1, train__steps=5, train__checkpoint_every=5))
    best = Run(objects, first).best_checkpoint()
    assert best is not None
    assert second.document()["experiment"]["start"] == f"{first}@{best[0]}"
    moved = unpack(second.read_checkpoint(5))
    assert moved["position"]["step"] == 5
    anew = Run(objects, trained(objects, seed=1, train__steps=5, train__checkpoint_every=5))
    assert not same(moved, unpack(anew.read_checkpoint(5)), "networks")


def test_a_step_may_be_said(objects: Objects) -> None:
    first = trained(objects)
    assert settled(digits(start=f"{first}@10"), objects).start == f"{first}@10"


def test_what_cannot_be_begun_with_is_refused_before_anything_is_written(objects: Objects) -> None:
    first = trained(objects)
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"start": f"{first}@7"}, NotFound, r"has checkpoints at steps 10, 20"),
        ({"start": "20200101-000000-abcdef"}, NotFound, "no run '20200101-000000-abcdef'"),
        ({"start": first, "gan.family": "wgan"}, ConfigError, "trained vanilla, this is wgan"),
    ]
    for changes, error, said in wrong:
        with pytest.raises(error, match=said):
            submit(parse(DIGITS).override(changes), objects.url)
    assert objects.folders("runs") == [first]
    with pytest.raises(ConfigError, match="field `start` = 'yesterday'"):
        digits(start="yesterday")


def test_a_collapsed_run_is_mended_from_its_last_sound_checkpoint(objects: Objects) -> None:
    sick = {"gan__lr_ratio": 0.02, "gan__lr_g": 1e-2, "train__steps": 2000, "train__evaluate_every": 0}
    run_id = trained(
        objects, **sick, train__on_collapse="stop", train__checkpoint_every=20, train__keep_checkpoints=100
    )
    run = Run(objects, run_id)
    assert run.state() in ("collapsed", "unhealthy", "diverged")
    found = mended(objects, run_id)
    assert found is not None
    experiment, said = found
    assert "raise gan.lr_ratio from 0.02 to" in said
    assert experiment.document()["gan"]["lr_ratio"] > 0.02
    start = experiment.start
    assert start is None or start.startswith(f"{run_id}@")
    if start is not None:
        step = int(start.partition("@")[2])
        assert unpack(run.read_checkpoint(step))["course"]["sound"]
    assert settled(experiment, objects) == experiment


def test_a_healthy_run_needs_no_mending(objects: Objects) -> None:
    assert mended(objects, trained(objects)) is None

"""A tiny run, and what must be in the store once it has ended, whatever happened to it meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gans.checkpoint import unpack
from gans.pictures import read_metadata
from orchestrator.experiment import Experiment
from orchestrator.launch import submit
from orchestrator.recipes import load
from orchestrator.store.checkpoints import MARKER
from orchestrator.store.layout import checkpoint_folder
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.reader import Run
from orchestrator.store.writer import RunWriter

LOG_EVERY, CHECKPOINT_EVERY, SAMPLE_EVERY = 10, 20, 30


def tiny(steps: int = 120) -> Experiment:
    """A GAN of a few hundred weights that writes often. `steps` is a multiple of 60."""
    fields = {
        "gan.width": 16,
        "data.num": 500,
        "train.steps": steps,
        "train.batch": 32,
        "train.log_every": LOG_EVERY,
        "train.evaluate_every": 60,
        "train.sample_every": SAMPLE_EVERY,
        "train.checkpoint_every": CHECKPOINT_EVERY,
        "train.keep_checkpoints": 1000,
    }
    return load("vanilla.ring").override(fields)


@pytest.fixture
def writes_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row is a part of its own."""
    monkeypatch.setattr(RunWriter, "flush_seconds", 0.0)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """The last weights of `tiny`, on a store that is always there and has room enough."""
    store = str(tmp_path_factory.mktemp("undisturbed"))
    outcome = submit(tiny(), store).wait()
    return weights_of(Run(open_objects(store), outcome.run_id))


def every(steps: int, last: int) -> list[int]:
    """`steps`, twice `steps`, … up to `last`."""
    return list(range(steps, last + 1, steps))


def check_whole(objects: Objects, run_id: str, weights: dict[str, torch.Tensor]) -> None:
    """Fail unless the run ended well and every row, picture and checkpoint of it is there once and right, and its last
    weights are `weights` to the bit."""
    run = Run(objects, run_id)
    last = int(run.document()["experiment"]["train"]["steps"])
    sealed = run.sealed()
    assert sealed is not None
    assert (sealed["state"], sealed["step"]) == ("completed", last)
    assert run.live() is None
    table = run.metrics()
    assert table["step"].to_pylist() == every(LOG_EVERY, last)
    assert table["loss_d"].null_count == table["verdict"].null_count == 0
    attempts = table["attempt"].to_pylist()
    assert attempts == sorted(attempts)
    samples = run.samples()
    assert [step for step, _ in samples] == every(SAMPLE_EVERY, last)
    assert {read_metadata(objects.get(key))["run"] for _, key in samples} == {run_id}
    committed = run.checkpoints()
    assert sorted({step for step, _ in committed}) == every(CHECKPOINT_EVERY, last)
    folders = {checkpoint_folder(run_id, *span) for span in committed}
    assert {key.rpartition("/")[0] for key in objects.list(f"runs/{run_id}/checkpoints")} == folders
    assert all(objects.exists(f"{folder}/{MARKER}") for folder in folders)
    for step, _ in committed:
        assert (
            unpack(run.read_checkpoint(step))["position"]["step"] == step
        )  # its SHA-256s are compared on reading
    same(weights_of(run), weights)


def weights_of(run: Run) -> dict[str, torch.Tensor]:
    """The networks and their averages in the newest checkpoint, by name."""
    state = unpack(run.read_checkpoint())
    return {
        f"{part}.{network}.{name}": tensor
        for part in ("networks", "averages")
        for network, tensors in state[part].items()
        for name, tensor in tensors.items()
    }


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Fail unless both hold the same tensors, to the bit."""
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert different == []

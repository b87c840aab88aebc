"""Checkpoints: what goes in comes out, bit for bit, and what is damaged says so."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from safetensors.torch import load
from torch import nn

from gans.checkpoint import REST, WEIGHTS, pack, restore_networks, spec_document, spec_from, unpack
from gans.data.base import DataSpec, Field
from gans.errors import ConfigError, DataError
from gans.families import FAMILIES
from gans.options import Train
from gans.training import State
from tests.support.runs import OPTIONS, state_after, tiny
from tests.support.states import differences
from tests.support.threads import one_thread

__all__ = ["one_thread"]


def sample_state() -> State:
    """Hand-made, with what real states seldom have at once."""
    tied = nn.Linear(2, 2)
    weights = {"a.weight": tied.weight, "b.weight": tied.weight, "count": torch.tensor(7)}
    weights["wide"] = torch.arange(6.0).view(2, 3).t()
    weights["half"] = torch.tensor([1.5, float("nan")], dtype=torch.bfloat16)
    return {
        "networks": {"generator": weights, "bare": {}},
        "averages": {},
        "optimisers": {
            "generator": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-3}]}
        },
        "memory": {"pool": torch.zeros(0, 2)},
        "position": {"step": 3, "images": 12, "rows": 4, "cursor": 12, "seconds": 0.25},
        "batch": {},
        "best": {"fid": float("inf"), "stale": 0},
        "monitor": {"coverage": [0.5], "high": False, "falls": 0},
    }


@pytest.mark.parametrize("tag", FAMILIES)
def test_every_familys_state_round_trips_bit_for_bit(tag: str) -> None:
    state = state_after(tag)
    assert differences(state, unpack(pack(state))) == []


def test_tied_strided_empty_and_bf16_tensors_survive() -> None:
    state = sample_state()
    assert differences(state, unpack(pack(state))) == []


def test_a_run_resumed_from_files_ends_as_the_run_that_never_stopped() -> None:
    whole = state_after("dcgan", steps=4)
    resumed = state_after("dcgan", steps=4, resume=unpack(pack(state_after("dcgan", steps=2))))
    for state in (whole, resumed):
        del state["position"]["seconds"]
    assert differences(whole, resumed) == []


def test_without_averages_the_checkpoint_has_none() -> None:
    options = Train(**{**OPTIONS.model_dump(), "ema": False})
    assert unpack(pack(state_after("vanilla", options=options)))["averages"] == {}


def test_files_are_plain_safetensors_and_load_without_code() -> None:
    files = pack(state_after("cgan"))
    names = set(load(files[WEIGHTS]))
    assert {n.split(".")[0] for n in names} == {"networks", "averages"}
    assert any(n.startswith("averages.generator.body.") for n in names)
    rest = torch.load(io.BytesIO(files[REST]), weights_only=True)
    assert rest["position"]["step"] == 2


def test_restored_networks_are_the_averages_or_the_live_weights() -> None:
    state = state_after("dcgan")
    family, dataset = tiny("dcgan")
    files = {WEIGHTS: pack(state)[WEIGHTS]}
    averaged = restore_networks(family, dataset.spec, files)
    live = restore_networks(family, dataset.spec, files, averaged=False)
    for nets, part in ((averaged, "averages"), (live, "networks")):
        assert differences(nets["generator"].state_dict(), state[part]["generator"]) == []
    assert differences(averaged["discriminator"].state_dict(), state["networks"]["discriminator"]) == []
    assert any(differences(averaged["generator"].state_dict(), live["generator"].state_dict()))
    assert not any(n.training for n in averaged.values())


def test_restoring_leaves_the_global_random_state_alone() -> None:
    family, dataset = tiny("vanilla")
    files = pack(state_after("vanilla"))
    before = torch.get_rng_state()
    restore_networks(family, dataset.spec, files)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", [WEIGHTS, REST])
@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"\x00" * len(b)])
def test_a_damaged_file_is_named(name: str, damage: Any) -> None:
    files = pack(sample_state())
    with pytest.raises(DataError, match=f"{name} is damaged"):
        unpack({**files, name: damage(files[name])})


@pytest.mark.parametrize("name", [WEIGHTS, REST])
def test_a_missing_file_is_named(name: str) -> None:
    files = pack(sample_state())
    del files[name]
    with pytest.raises(DataError, match=f"lacks {name}"):
        unpack(files)


def test_files_of_different_checkpoints_are_refused() -> None:
    one, other = sample_state(), sample_state()
    other["networks"]["generator"]["count"] = torch.tensor(8)
    with pytest.raises(DataError, match=r"not the one that state\.pt was written with"):
        unpack({**pack(one), REST: pack(other)[REST]})


def test_a_flipped_bit_among_the_weights_is_noticed() -> None:
    files = pack(sample_state())
    last = files[WEIGHTS][-1] ^ 1
    with pytest.raises(DataError, match=r"not the one that state\.pt was written with"):
        unpack({**files, WEIGHTS: files[WEIGHTS][:-1] + bytes([last])})


def test_weights_of_another_config_are_refused() -> None:
    files = pack(state_after("vanilla"))
    family, dataset = tiny("vanilla", width=16)
    with pytest.raises(ConfigError, match="does not fit network 'generator' of Vanilla"):
        restore_networks(family, dataset.spec, files)


def test_weights_of_another_family_are_refused() -> None:
    files = pack(state_after("vanilla"))
    family, dataset = tiny("r3gan")
    with pytest.raises(ConfigError, match="does not fit network 'generator' of R3GAN"):
        restore_networks(family, dataset.spec, files)


def test_a_spec_is_rebuilt_from_its_document() -> None:
    spec = DataSpec({"x": Field("image", (3, 8, 8)), "label": Field("label", (), 10)})
    document = spec_document(spec)
    assert document["x"] == {"kind": "image", "shape": [3, 8, 8], "num_classes": None, "independent": False}
    assert spec_from(document) == spec


def test_a_wrong_spec_document_names_what_is_wrong() -> None:
    with pytest.raises(ConfigError, match=r"x\.shape"):
        spec_from({"x": {"kind": "image", "shape": "big"}})

"""A run's state as two files: weights as safetensors, which any tool reads, and the rest for `torch.load`.

It knows nothing of where files are kept. Neither file holds code.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from gans.data.base import DataSpec, Field
from gans.errors import ConfigError, DataError
from gans.family import Family, Networks
from gans.training import State

WEIGHTS = "weights.safetensors"
REST = "state.pt"
PARTS = ("networks", "averages")

_FIELDS = TypeAdapter(dict[str, Field])


def pack(state: State) -> dict[str, bytes]:
    """The state as file contents by name. `unpack` gives back the same values, bit for bit, on the CPU.

    `weights.safetensors` holds the tensors "networks.<network>.<tensor>" and "averages.<network>.<tensor>".
    """
    tensors = {
        f"{part}.{name}.{key}": _owned(value)
        for part in PARTS
        for name, network in state[part].items()
        for key, value in network.items()
    }
    rest = {k: v for k, v in state.items() if k not in PARTS}
    weights = save(tensors, {"format": "pt"})
    rest["names"] = {part: list(state[part]) for part in PARTS}
    rest["weights"] = hashlib.sha256(weights).hexdigest()
    buffer = io.BytesIO()
    torch.save(rest, buffer)
    return {WEIGHTS: weights, REST: buffer.getvalue()}


def unpack(files: Mapping[str, bytes]) -> State:
    """The state that `pack` was given. Raises DataError where a file is missing, damaged, or of another checkpoint."""
    tensors = _tensors(files)
    try:
        rest: State = torch.load(io.BytesIO(_part(files, REST)), map_location="cpu", weights_only=True)
        names, digest = rest.pop("names"), rest.pop("weights")
    except (RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise DataError(f"checkpoint file {REST} is damaged: {_line(error)}; use an earlier step") from error
    if digest != hashlib.sha256(files[WEIGHTS]).hexdigest():
        raise DataError(
            f"checkpoint file {WEIGHTS} is not the one that {REST} was written with; use another step"
        )
    networks = {part: {n: _below(tensors, f"{part}.{n}.") for n in names[part]} for part in PARTS}
    return {**networks, **rest}


def restore_networks(
    family: Family, spec: DataSpec, files: Mapping[str, bytes], averaged: bool = True
) -> Networks:
    """The family's networks with the weights in `files`, in eval mode on the CPU; `state.pt` is not needed.

    `averaged` takes the moving average of a network where there is one. Raises DataError on a damaged file and
    ConfigError where the weights belong to another family, config or data shape.
    """
    tensors = _tensors(files)
    if problems := family.check(spec):
        raise ConfigError("; ".join(problems))
    with torch.random.fork_rng(devices=[]):
        networks = family.built(spec)
    for name, network in networks.items():
        weights = _below(tensors, f"averages.{name}.") if averaged else {}
        try:
            network.load_state_dict(weights or _below(tensors, f"networks.{name}."))
        except RuntimeError as error:
            raise ConfigError(
                f"the checkpoint does not fit network {name!r} of {type(family).__name__} with this config and data: "
                f"{_line(error)}; use the experiment stored in the run's run.json"
            ) from error
        network.eval().requires_grad_(False)
    return networks


def spec_document(spec: DataSpec) -> dict[str, Any]:
    """The spec as plain JSON: kind, shape and number of classes by field."""
    return _FIELDS.dump_python(dict(spec.fields), mode="json")


def spec_from(document: Mapping[str, Any]) -> DataSpec:
    """The spec that `spec_document` described. Raises ConfigError where it is not such a document."""
    try:
        return DataSpec(_FIELDS.validate_python(dict(document)))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"not a data spec: {wrong}") from error


def _owned(tensor: Tensor) -> Tensor:
    """A dense CPU copy: safetensors refuses tensors that share memory, as tied weights do."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _part(files: Mapping[str, bytes], name: str) -> bytes:
    if name not in files:
        raise DataError(f"checkpoint lacks {name}; it has: {', '.join(sorted(files)) or 'nothing'}")
    return files[name]


def _tensors(files: Mapping[str, bytes]) -> dict[str, Tensor]:
    try:
        return load(_part(files, WEIGHTS))
    except SafetensorError as error:
        raise DataError(f"checkpoint file {WEIGHTS} is damaged: {error}; use an earlier step") from error


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _line(error: Exception) -> str:
    """The error's first lines as one."""
    return " ".join(str(error).split())[:300] or type(error).__name__

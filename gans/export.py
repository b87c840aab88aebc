"""A trained model for other tools: ONNX for inference anywhere, safetensors with what rebuilds the networks."""

from __future__ import annotations

import copy
import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from gans.checkpoint import spec_document
from gans.data.base import Batch
from gans.errors import ConfigError
from gans.families import family_tag
from gans.generator import Model
from gans.pictures import SYNTHETIC

TOLERANCE = 1e-4


def export_onnx(model: Model, path: str | Path) -> float | None:
    """Write the model's generator to `path` as ONNX with a dynamic batch axis; existing files are replaced.

    Inputs are named as the family's `exported` names them (z and, where there are labels, label), the output x.
    Where onnxruntime is installed the file is first run on another batch size and compared with PyTorch; returns
    the largest difference relative to the output's scale, or None where it is not. Raises ConfigError where the
    family has no such form, an extra is missing, or the comparison exceeds 1e-4.
    """
    if missing := [name for name in ("onnx", "onnxscript") if find_spec(name) is None]:
        raise ConfigError(f'ONNX export needs {" and ".join(missing)}: pip install "ganctl[onnx]"')
    module, example = model.family.exported(model.networks, model.spec)
    module = copy.deepcopy(module).cpu().eval()
    program = _traced(type(model.family).__name__, module, example)
    program.model.metadata_props.update(metadata(model))
    content: bytes = program.model_proto.SerializeToString()
    difference = _difference(content, module, example) if find_spec("onnxruntime") else None
    if difference is not None and not difference <= TOLERANCE:
        raise ConfigError(
            f"the ONNX file of {type(model.family).__name__} differs from PyTorch by {difference:.2g} (relative), "
            f"more than {TOLERANCE:g}: not written; export safetensors instead"
        )
    _replace(Path(path), content)
    return difference


def export_safetensors(model: Model) -> bytes:
    """The networks that sample, tensors "<network>.<tensor>", with metadata that rebuilds them.

    Metadata: `family` (for `gans.families.family_class`), `config` and `spec` (JSON).
    """
    tensors = {
        f"{name}.{key}": value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name in model.family.averaged
        for key, value in model.networks[name].state_dict().items()
    }
    return save(tensors, {"format": "pt", **metadata(model)})


def metadata(model: Model) -> dict[str, str]:
    """What the model is, as plain strings: family, config and data spec as JSON, IPTC source type of its output."""
    return {
        "family": family_tag(model.family),
        "config": model.family.model_dump_json(),
        "spec": json.dumps(spec_document(model.spec)),
        "output_digital_source_type": SYNTHETIC,
    }


def _traced(family: str, module: nn.Module, example: Batch) -> Any:
    batch = torch.export.Dim("batch")
    shapes = tuple({0: batch} for _ in example)
    # One axis in all inputs: naming it once suffices, and naming it twice is a warning.
    named = tuple({0: None if i else "batch"} for i in range(len(example)))
    args = tuple(example.values())
    with _quiet():
        try:
            # Strict tracing keeps `len(x)` symbolic; the default freezes it to the example's batch size.
            graph = torch.export.export(module, args, dynamic_shapes=shapes, strict=True)
            return torch.onnx.export(
                graph, input_names=list(example), output_names=["x"], dynamic_shapes=named, verbose=False
            )
        except Exception as error:  # the exporters raise dozens of unrelated classes
            reason = " ".join(str(error).split())[:300]
            raise ConfigError(
                f"{family} cannot be traced for ONNX: {reason}; export safetensors instead"
            ) from error


def _difference(content: bytes, module: nn.Module, example: Batch) -> float:
    """max |ONNX - PyTorch| / max(1, max |PyTorch|) on a batch one row longer than the example."""
    import onnxruntime

    longer = {k: torch.cat([v, v[:1]]) for k, v in example.items()}
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    got = session.run(None, {k: v.numpy() for k, v in longer.items()})[0]
    with torch.no_grad():
        expected: Tensor = module(*longer.values()).float()
    return float(np.abs(got - expected.numpy()).max() / max(1.0, float(expected.abs().max())))


def _replace(path: Path, content: bytes) -> None:
    """Write the whole file or none of it."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's own deprecations and its remarks on torchvision, which no generator here uses."""
    log = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
            yield
    finally:
        log.setLevel(level)

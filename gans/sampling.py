"""Drawing samples from networks: fixed latents by seed, conditions from data or balanced labels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from gans.data.base import Batch, Dataset, DataSpec, to_float
from gans.draws import Draws
from gans.family import Family, Networks

CHUNK = 256
CPU = torch.device("cpu")


@contextmanager
def evaluating(nets: Networks) -> Iterator[Networks]:
    """The networks in eval mode, without gradients; their own modes are restored after."""
    modes = {name: net.training for name, net in nets.items()}
    for net in nets.values():
        net.eval()
    try:
        with torch.no_grad():
            yield nets
    finally:
        for name, net in nets.items():
            net.train(modes[name])


def balanced(
    family: Family, spec: DataSpec, num: int, dataset: Dataset | None, device: torch.device
) -> Batch:
    """Inputs for a sample grid: labels 0, 1, ..., K-1, 0, ... and, where the family maps pictures, data rows."""
    rows = real_inputs(family, dataset, num, device) if set(family.inputs) - {"label"} else {}
    if "label" in family.inputs and spec.num_classes is not None:
        rows["label"] = torch.arange(num, device=device) % spec.num_classes
    return rows


def real_inputs(family: Family, dataset: Dataset | None, num: int, device: torch.device) -> Batch:
    """Inputs with the data's own frequencies: `num` seeded rows of `dataset`, cycling where it is shorter."""
    if not family.inputs:
        return {}
    assert dataset is not None, f"{type(family).__name__} samples from data fields {family.inputs}"
    order = np.resize(dataset.order(seed=0, epoch=0), num)
    rows = to_float(dataset.fetch(order))
    return {k: rows[k].to(device) for k in family.inputs}


def draw(
    family: Family, nets: Networks, num: int, seed: int, inputs: Batch, device: torch.device = CPU
) -> Batch:
    """`num` samples with `inputs` for conditions (each with `num` rows). Row i depends on (seed, i // 256) alone,
    so that asking for more samples keeps the first ones."""
    parts: list[Batch] = []
    with evaluating(nets):
        for i, start in enumerate(range(0, num, CHUNK)):
            draws = Draws(seed, CHUNK, device)
            draws.restart(i)
            rows = {k: _padded(v[start : start + CHUNK]) for k, v in inputs.items()}
            part = family.sample(nets, rows, draws)
            parts.append({k: v[: num - start] for k, v in part.items()})
    return {k: torch.cat([p[k] for p in parts]) for k in parts[0]}


def own_figures(family: Family, nets: Networks, seed: int, device: torch.device = CPU) -> dict[str, float]:
    """What `family` says of its networks by itself, measured with draws that depend on `seed` alone."""
    with evaluating(nets):
        return family.figures(nets, Draws(seed, CHUNK, device))


def _padded(rows: Tensor) -> Tensor:
    """Repeat the last row up to CHUNK rows, so that every chunk draws the same latents."""
    missing = CHUNK - len(rows)
    return torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])]) if missing else rows

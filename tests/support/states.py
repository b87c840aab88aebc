"""Where two states of a run differ."""

from __future__ import annotations

from typing import Any

import torch


def differences(a: Any, b: Any, where: str = "state") -> list[str]:
    """The places at which two states are not the same type with the same bits."""
    if isinstance(a, torch.Tensor):
        same = isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.shape == b.shape
        return [] if same and torch.equal(_bits(a), _bits(b)) else [where]
    if isinstance(a, dict):
        if not isinstance(b, dict) or set(a) != set(b):
            return [f"{where}: keys {list(a)} and {list(b)}"]
        return [d for k in a for d in differences(a[k], b[k], f"{where}.{k}")]
    if isinstance(a, list | tuple):
        if type(a) is not type(b) or len(a) != len(b):
            return [where]
        return [
            d for i, (x, y) in enumerate(zip(a, b, strict=True)) for d in differences(x, y, f"{where}.{i}")
        ]
    equal = a == b or (a != a and b != b)  # NaN is NaN
    return [] if type(a) is type(b) and equal else [f"{where}: {a!r} and {b!r}"]


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().reshape(-1).view(torch.uint8)

"""torch's fused Adam without the bookkeeping of `Optimizer.step`, which costs a small network more than the step does.

State stays in the torch optimiser, so that checkpoints and learning rates know nothing of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def step(
    optimiser: torch.optim.Optimizer, params: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]
) -> None:
    """One step of `optimiser`, whose single group holds `params`, by gradients laid out in memory like them."""
    present = [g for g in gradients if g is not None]
    if len(present) < len(params) or not _stepped(optimiser, params):
        for p, g in zip(params, gradients, strict=True):
            p.grad = g
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return
    (group,) = optimiser.param_groups
    states = [optimiser.state[p] for p in params]
    steps = [s["step"] for s in states]
    with torch.no_grad():
        torch._foreach_add_(steps, 1)
        torch._fused_adam_(
            list(params),
            present,
            [s["exp_avg"] for s in states],
            [s["exp_avg_sq"] for s in states],
            [],
            steps,
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )


def _stepped(optimiser: torch.optim.Optimizer, params: Sequence[nn.Parameter]) -> bool:
    """Whether it is fused Adam and has its moments already; torch makes them in its first step."""
    fused = isinstance(optimiser, torch.optim.Adam) and optimiser.param_groups[0]["fused"]
    return bool(fused) and all(p in optimiser.state for p in params)

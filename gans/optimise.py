"""torch's optimisers as a family's phases ask for them, and their step.

Fused Adam steps without the bookkeeping of `Optimizer.step`, which costs a small network more than the step does. State
stays in the torch optimiser, so that checkpoints and learning rates know nothing of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gans.family import Optimiser
from gans.schedule import at


def made(spec: Optimiser, params: list[nn.Parameter], fused: bool) -> torch.optim.Optimizer:
    """The optimiser of `params` that `spec` describes, at the beginning of its schedules."""
    lr = at(spec.lr, 0.0)
    if spec.kind == "rmsprop":
        return torch.optim.RMSprop(params, lr=lr)
    betas = (at(spec.betas[0], 0.0), at(spec.betas[1], 0.0))
    return torch.optim.Adam(params, lr=lr, betas=betas, fused=fused)


def follow(optimiser: torch.optim.Optimizer, spec: Optimiser, progress: float) -> None:
    """Give `optimiser` the hyperparameters of `spec` at `progress` (0 to 1) of the budget."""
    for group in optimiser.param_groups:
        group["lr"] = at(spec.lr, progress)
        if "betas" in group:
            group["betas"] = (at(spec.betas[0], progress), at(spec.betas[1], progress))


def step(
    optimiser: torch.optim.Optimizer, params: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]
) -> None:
    """One step of `optimiser`, whose single group holds `params`, by their gradients in any memory layout."""
    laid = [None if g is None else _like(p, g) for p, g in zip(params, gradients, strict=True)]
    present = [g for g in laid if g is not None]
    if len(present) < len(params) or not _stepped(optimiser, params):
        for p, g in zip(params, laid, strict=True):
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


def _like(param: Tensor, gradient: Tensor) -> Tensor:
    """The gradient in the memory layout of the parameter: fused Adam walks over both as they lie.

    `backward` sees to that; `autograd.grad` hands out transposed ones, as a double backward of a convolution makes.
    """
    same = gradient.stride() == param.stride()
    return gradient if same else torch.empty_like(param).copy_(gradient)


def _stepped(optimiser: torch.optim.Optimizer, params: Sequence[nn.Parameter]) -> bool:
    """Whether it is fused Adam and has its moments already; torch makes them in its first step."""
    fused = isinstance(optimiser, torch.optim.Adam) and optimiser.param_groups[0]["fused"]
    return bool(fused) and all(p in optimiser.state for p in params)

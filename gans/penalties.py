"""Regularisers of the discriminator as pure functions. Penalties are unweighted, one a row, shape (N,).

A penalty differentiates the critic twice, so it is computed in float32 whatever the autocast policy of the step.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

Critic = Callable[[Tensor], Tensor]


def squared_gradient(logits: Tensor, x: Tensor) -> Tensor:
    """Squared norm of d logits / d x for each logit, with a graph for the second derivative.

    `x` (N, ...) must require a gradient and have produced `logits`, (N,), or (N / k,) where k rows are judged as one.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return gradient.square().reshape(len(logits), -1).sum(1)


def zero_centred(logits: Tensor, x: Tensor) -> Tensor:
    """|grad D|^2 / 2: R1 where x is real, R2 where x is generated (Mescheder et al. 2018, eq. 9 and 10)."""
    return 0.5 * squared_gradient(logits, x)


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """(|grad D(x~)| - 1)^2 on x~ = mix * real + (1 - mix) * fake, mix in [0, 1] of shape (N, 1...).

    Gulrajani et al. 2017, eq. 3.
    """
    between = torch.lerp(fake, real, mix).requires_grad_(True)
    norms = squared_gradient(critic(between), between).add(1e-12).sqrt()
    return (norms - 1).square()


@torch.no_grad()
def clip_weights(parameters: Iterable[Tensor], bound: float) -> None:
    """Clamp every weight to [-bound, bound] in place (Arjovsky et al. 2017, algorithm 1)."""
    torch._foreach_clamp_min_(weights := list(parameters), -bound)
    torch._foreach_clamp_max_(weights, bound)
